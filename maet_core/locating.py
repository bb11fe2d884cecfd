"""Locating key neurons by going through a corpus: `maet locate --corpus`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice

import torch

from maet_core import equations
from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError, ScoresError
from maet_core.importance.attribution import ATTRIBUTIONS, Batch, HeldScores, attribute, split_half, unit_norm
from maet_core.importance.locators import LOCATORS, participating
from maet_core.importance.scores import unit_axis
from maet_core.progress import Halted, Progress, tell
from maet_core.resident import load_model, load_tokenizer, parameter_slots
from maet_core.training import Example, TrainingOptions, pack, tokenize, train


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
) -> HeldScores:
    """Scores of every neuron that takes part; see `attribute` for `gradient` and `taylor`.

    `probe` trains all parameters on the sample, one step a batch in float32 (AdamW, `learning_rate`), and takes the value change:
    step 1 of the method. `halves` adds how many key neurons two halves of the sample share. Raises InputError for a corpus that is
    too small, ScoresError for an unknown method.
    """
    if method not in LOCATORS or LOCATORS[method].needs != "corpus":
        known = ", ".join(name for name, locator in LOCATORS.items() if locator.needs == "corpus")
        raise ScoresError(f"--method: found {method!r}, with a corpus expected one of {known}")
    names = participating(base, include)
    tokenizer = load_tokenizer(base)
    model = load_model(base, device)
    examples = _examples(tokenizer, corpus, sample)
    if method in ATTRIBUTIONS:
        batches = _batches(examples, sample)
        return attribute(method, base, model, batches, names, granularity, halves, progress, halted)
    slots = {name: slot for name, slot in parameter_slots(model, base).items() if name in names}
    start = {name: slot.values.float().cpu().clone() for name, slot in slots.items()}
    model = model.float()

    def change(part: list[Example], steps: int) -> dict[str, torch.Tensor]:
        with torch.no_grad():
            for name, values in start.items():
                slots[name].values.copy_(values)
        options = TrainingOptions(
            steps=steps,
            learning_rate=learning_rate,
            batch_rows=sample.rows,
            row_tokens=sample.row_tokens,
            warmup_steps=min(50, steps // 10),
            answers_only=sample.answers_only,
            seed=seed,
        )
        train(model, part, options, lambda report: tell(progress, halted, "probe training", report.step, report.steps))
        scores = {}
        for name, values in start.items():
            moved = equations.importance(slots[name].values.cpu() - values)
            scores[name] = (
                moved
                if granularity == "parameter"
                else unit_norm(moved, unit_axis(base.anatomy.place(name), tuple(moved.shape)))
            )
        return scores

    details = {
        "batches": sample.batches,
        "tokens": sample.batches * sample.rows * sample.row_tokens,
        "learning_rate": learning_rate,
        "seed": seed,
    }
    if halves:
        middle, steps = len(examples) // 2, max(1, sample.batches // 2)
        details["split_half"] = split_half(
            base, granularity, change(examples[:middle], steps), change(examples[middle:], steps)
        )
    return HeldScores("probe", granularity, base, details, change(examples, sample.batches))


def _examples(tokenizer, corpus: Iterable[tuple[str, str]], sample: Sample) -> list[Example]:
    """As many documents as the sample needs, and no more of a corpus of any size."""
    wanted = sample.batches * sample.rows * sample.row_tokens
    documents, examples, tokens = iter(corpus), [], 0
    while tokens < wanted and (block := list(islice(documents, 64))):
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
