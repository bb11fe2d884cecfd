"""Locating key neurons by going through a corpus: `maet locate --corpus`."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import torch
import xxhash
from transformers import PreTrainedTokenizerBase

from maet_core import equations
from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError, ScoresError
from maet_core.importance.attribution import ATTRIBUTIONS, Batch, HeldScores, attribute, split_half, unit_norm
from maet_core.importance.locators import LOCATORS, participating
from maet_core.importance.partial_scores import PartialScores
from maet_core.importance.scores import unit_axis
from maet_core.progress import Halted, Progress, tell
from maet_core.resident import load_model, load_tokenizer, parameter_slots
from maet_core.training import Example, StepReport, TrainingOptions, TrainingState, pack, tokenize, train


@dataclass(frozen=True)
class Sample:
    """How much of a corpus is used, C′ of the method, and how it is cut: `batches` of `rows` × `row_tokens` tokens."""

    batches: int = 32
    rows: int = 8
    row_tokens: int = 256
    answers_only: bool = False


def locate_in_corpus(
    method: str,
    base: Checkpoint,
    corpus: Iterable[tuple[str, str]],
    sample: Sample,
    granularity: str = "parameter",
    include: Iterable[str] = (),
    halves: bool = False,
    learning_rate: float = 1e-4,
    seed: int = 0,
    device: str = "cpu",
    progress: Progress | None = None,
    halted: Halted | None = None,
    folder: Path | None = None,
) -> HeldScores:
    """Scores of every neuron that takes part; see `attribute` for `gradient` and `taylor`.

    `probe` trains all parameters on the sample, one step a batch in float32 (AdamW, `learning_rate`), and takes the value change:
    step 1 of the method. `halves` adds how many key neurons two halves of the sample share.

    In `folder` the state is kept now and then: the same call goes on from it, to the same scores bit for bit, and raises Stopped when
    `halted` turns true. Raises InputError for a corpus that is too small, ScoresError for an unknown method.
    """
    if method not in LOCATORS or LOCATORS[method].needs != "corpus":
        known = ", ".join(name for name, locator in LOCATORS.items() if locator.needs == "corpus")
        raise ScoresError(f"--method: found {method!r}, with a corpus expected one of {known}")
    names = participating(base, include)
    tokenizer = load_tokenizer(base)
    examples = _examples(tokenizer, corpus, sample, progress, halted)
    model = load_model(base, device)
    work = _work(base, method, names, granularity, halves, sample, learning_rate, seed, examples)
    partial = PartialScores(folder, work) if folder else None
    if method in ATTRIBUTIONS:
        batches = _batches(examples, sample)
        return attribute(method, base, model, batches, names, granularity, halves, progress, halted, partial)
    probe = _Probe(base, model, names, granularity, sample, learning_rate, seed, progress, halted, folder, work)
    return probe.scores(examples, halves, partial)


@dataclass
class _Probe:
    """Step 1 of the method: trainings on samples, each from the base, and what they moved."""

    base: Checkpoint
    model: torch.nn.Module
    names: list[str]
    granularity: str
    sample: Sample
    learning_rate: float
    seed: int
    progress: Progress | None
    halted: Halted | None
    folder: Path | None
    work: str

    def __post_init__(self) -> None:
        self.slots = parameter_slots(self.model, self.base)  # while the values are those of the file
        self.model = self.model.float()

    def scores(self, examples: list[Example], halves: bool, partial: PartialScores | None) -> HeldScores:
        sample, middle = self.sample, len(examples) // 2
        details = {
            "batches": sample.batches,
            "tokens": sample.batches * sample.rows * sample.row_tokens,
            "learning_rate": self.learning_rate,
            "seed": self.seed,
        }
        found: dict[int, dict[str, torch.Tensor]] = {}
        begun = partial.step() if partial else 0
        for key, value in partial.read(begun) if begun else ():
            number, _, name = key.partition("::")
            found.setdefault(int(number), {})[name] = value
        if halves:
            steps = max(1, sample.batches // 2)
            for number, part in enumerate((examples[:middle], examples[middle:])):
                if number >= begun:
                    found[number] = self._change(part, steps, number)
                    if partial:
                        kept = {f"{n}::{name}": v for n, half in found.items() for name, v in half.items()}
                        partial.keep(number + 1, kept, now=True)
                        shutil.rmtree(self._state_folder(number), ignore_errors=True)
            details["split_half"] = split_half(self.base, self.granularity, found[0], found[1])
        change = self._change(examples, sample.batches, 2)
        return HeldScores("probe", self.granularity, self.base, details, change)

    def _change(self, examples: list[Example], steps: int, number: int) -> dict[str, torch.Tensor]:
        """The value change by a training of so many steps; `number` tells the trainings apart."""
        with torch.no_grad():
            for name, slot in self.slots.items():
                slot.values.copy_(self.base.read(name))
        options = TrainingOptions(
            steps=steps,
            learning_rate=self.learning_rate,
            batch_rows=self.sample.rows,
            row_tokens=self.sample.row_tokens,
            warmup_steps=min(50, steps // 10),
            answers_only=self.sample.answers_only,
            seed=self.seed,
        )
        state = None
        if self.folder:
            state = TrainingState(self._state_folder(number), self.work, max(10, steps // 10))

        def told(report: StepReport) -> None:
            tell(self.progress, None, "probe training", report.step, report.steps)

        train(self.model, examples, options, told, state=state, halted=self.halted)
        scores = {}
        for name in self.names:
            moved = equations.importance(self.slots[name].values.cpu() - self.base.read(name).float())
            if self.granularity == "unit":
                moved = unit_norm(moved, unit_axis(self.base.anatomy.place(name), tuple(moved.shape)))
            scores[name] = moved
        return scores

    def _state_folder(self, number: int) -> Path:
        return self.folder / f"training-{number}"


def _work(base: Checkpoint, *what: Any) -> str:
    """What is located in what: a state on disk belongs to exactly this."""
    return xxhash.xxh3_128_hexdigest(repr((base.identity, *what)).encode())


def _examples(
    tokenizer: PreTrainedTokenizerBase,
    corpus: Iterable[tuple[str, str]],
    sample: Sample,
    progress: Progress | None,
    halted: Halted | None,
) -> list[Example]:
    """As many documents as the sample needs, and no more of a corpus of any size."""
    wanted = sample.batches * sample.rows * sample.row_tokens
    documents, examples, tokens = iter(corpus), [], 0
    while tokens < wanted and (block := list(islice(documents, 64))):
        tell(progress, halted, "reading the corpus", tokens, wanted)
        found = tokenize(tokenizer, block)
        examples += found
        tokens += sum(len(example.tokens) for example in found)
    return examples


def _batches(examples: list[Example], sample: Sample) -> list[Batch]:
    ids, labels = pack(examples, sample.row_tokens, sample.answers_only)
    count = min(sample.batches, len(ids) // sample.rows)
    if count == 0:
        raise InputError(
            f"the corpus fills {len(ids)} rows of {sample.row_tokens} tokens, one batch needs {sample.rows}; give more text, or smaller batches"
        )
    cuts = [slice(i * sample.rows, (i + 1) * sample.rows) for i in range(count)]
    return [(ids[cut], labels[cut]) for cut in cuts if bool((labels[cut][:, 1:] != -100).any())]
