"""Trains the stages of the plan in a folder, one by one; what is finished there stays, and what was stopped goes on.

models/NAME             a finished model
scores/…                importance of all neurons for the ability
.work/NAME.json         what a finished model or score was made from, and what the manifest says about it
.work/NAME/             the state of a training that is not finished
"""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from maet_core.checkpoints import Checkpoint
from maet_core.demo import plan
from maet_core.demo.corpora import Mix, documents
from maet_core.demo.languages import LANGUAGES
from maet_core.demo.manifest import WORK, describe, write_json
from maet_core.demo.pool import Pool
from maet_core.demo.tokens import build_tokenizer
from maet_core.importance.key_neurons import select_key_neurons
from maet_core.importance.locators import locate
from maet_core.importance.scores import SavedScores, Scores, save_scores
from maet_core.locating import locate_in_corpus
from maet_core.progress import Halted, Progress, tell
from maet_core.training import Example, KeyNeuronParameters, TrainingState, save_checkpoint, tokenize, train
from maet_core.whole_files import appearing

VOCABULARY_DOCUMENTS = 26_000
STATE_EVERY_STEPS = 200
BASE_THREADS = 2  # nothing else trains meanwhile
BLOCK_TOKENS = 1_000_000
UNLIKE_TOKENS = 20_000_000
_TOLD_APART_BY = 100  # documents of a corpus that its fingerprint covers


def make_tokenizer(folder: Path, seed: int, scale: float = 1.0) -> PreTrainedTokenizerFast:
    """The tokenizer of a build, always as it is read from the disk."""
    path = folder / WORK / "tokenizer"
    count = round(VOCABULARY_DOCUMENTS * max(0.2, min(1.0, scale)))
    words = sorted(word for language in LANGUAGES.values() for word in (*language.words(), *language.endings))
    work = {"documents": count, "corpus": fingerprint(plan.VOCABULARY_MIX, f"{seed} vocabulary"), "words": words}
    if is_made(folder, "tokenizer", work) is None:
        shutil.rmtree(path, ignore_errors=True)
        texts = (prompt + answer for prompt, answer in draw(plan.VOCABULARY_MIX, f"{seed} vocabulary", count))
        build_tokenizer(texts).save_pretrained(path)
        note_made(folder, "tokenizer", work, {})
    return read_tokenizer(path)


def read_tokenizer(path: Path) -> PreTrainedTokenizerFast:
    """A tokenizer that is saved as it was made: transformers notes that it was read from a folder."""
    tokenizer = AutoTokenizer.from_pretrained(path)
    for added in ("is_local", "local_files_only"):
        tokenizer.init_kwargs.pop(added, None)
    return tokenizer


def locate_ability(
    ability: str,
    folder: Path,
    seed: int,
    scale: float = 1.0,
    device: str = "cpu",
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> None:
    """Step 1 of the method: scores of all neurons by a short probe training on a sample of the ability's corpus."""
    sample = replace(plan.PROBE, batches=max(2, round(plan.PROBE.batches * min(1.0, scale))))
    base = Checkpoint.open(folder / "models" / plan.BASE.name)
    mix, drawn = plan.ABILITIES[ability], f"{seed} probe {ability}"
    rate = plan.PROBE_LEARNING_RATE
    work = {"base": base.identity, "sample": asdict(sample), "rate": rate, "corpus": fingerprint(mix, drawn)} | {
        "device": torch.device(device).type
    }
    if is_made(folder, f"scores-{ability}", work) is not None:
        return
    corpus = draw(mix, drawn, 60 * sample.batches)
    with threads(1):
        scores = locate_in_corpus(
            "probe",
            base,
            corpus,
            sample,
            learning_rate=rate,
            seed=seed,
            device=device,
            progress=progress,
            halted=halted,
        )
    path = folder / "scores" / f"{ability}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    save_scores(scores, path)
    note_made(folder, f"scores-{ability}", work, {})


def train_stage(
    stage: plan.Stage,
    folder: Path,
    seed: int,
    device: str = "cpu",
    progress: Progress | None = None,
    halted: Halted | None = None,
    pool: Pool | None = None,
) -> dict:
    """Trains one model of the plan as `models/<name>` and returns what the manifest says about it.

    All but the base start from `models/base`. Raises Stopped, with the state kept, once `halted` turns true.
    """
    model, tokenizer, start = _start(stage, folder, seed)
    model = model.to(device)
    keys = None
    if stage.k1 is not None:
        scores = _scores(stage, folder, seed)
        keys = select_key_neurons(scores, stage.k1)
        start |= {"scores": getattr(scores, "identity", "")}
    work = start | {
        "seed": seed,
        "device": torch.device(device).type,
        "phases": [asdict(options) for options in stage.phases],
        "k1": stage.k1,
        "corpus": fingerprint(stage.mix, f"{seed} {stage.name}"),
    }
    if (told := is_made(folder, stage.name, work)) is not None:
        return told
    reports = []
    with threads(BASE_THREADS if stage.name == plan.BASE.name else 1):
        for phase, planned in enumerate(stage.phases):
            options = replace(planned, seed=seed)
            tell(progress, halted, f"texts for {stage.name}", 0, 1)
            wanted = options.steps * options.batch_rows * options.row_tokens
            examples = draw_examples(
                tokenizer, stage.mix, f"{seed} {stage.name} {phase or ''}".rstrip(), wanted, pool, progress, halted
            )
            state = TrainingState(
                folder / WORK / stage.name, json.dumps([work, phase], sort_keys=True), STATE_EVERY_STEPS
            )
            reports.append(
                train(
                    model,
                    examples,
                    options,
                    lambda step: tell(progress, None, f"train {stage.name}", step.step, step.steps),
                    KeyNeuronParameters(model, scores.base, keys) if keys else None,
                    state,
                    halted=halted,
                )
            )
    out = folder / "models" / stage.name
    shutil.rmtree(out, ignore_errors=True)
    save_checkpoint(model, tokenizer, out)
    told = describe(stage, reports)
    note_made(folder, stage.name, work, told)
    shutil.rmtree(folder / WORK / stage.name, ignore_errors=True)
    return told


def _start(
    stage: plan.Stage, folder: Path, seed: int
) -> tuple[LlamaForCausalLM, PreTrainedTokenizerFast, dict[str, str]]:
    """The model before its training, its tokenizer, and what they are."""
    base = folder / "models" / plan.BASE.name
    if stage.name == plan.BASE.name:
        tokenizer = read_tokenizer(folder / WORK / "tokenizer")
        torch.manual_seed(seed)
        words = hashlib.sha256("\n".join(sorted(tokenizer.get_vocab())).encode()).hexdigest()
        return (
            LlamaForCausalLM(_config(tokenizer)),
            tokenizer,
            {"architecture": repr(plan.ARCHITECTURE), "words": words},
        )
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    return model, AutoTokenizer.from_pretrained(base), {"base": Checkpoint.open(base).identity}


def _scores(stage: plan.Stage, folder: Path, seed: int) -> Scores:
    """Ranks the neurons of a stage that trains only some of them."""
    base = Checkpoint.open(folder / "models" / plan.BASE.name)
    if stage.name.endswith("-random"):
        return locate("random", base, seed=seed)
    return SavedScores(folder / "scores" / f"{stage.ability}.safetensors", base)


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlamaConfig(vocab_size=len(tokenizer), **ids, **plan.ARCHITECTURE)


@contextmanager
def threads(count: int) -> Iterator[None]:
    """Sums depend on the number of threads, so a stage has the same wherever it runs; what runs at once are processes."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def draw(mix: Mix, seed: str, count: int) -> list[tuple[str, str]]:
    """The first `count` documents of a mix as (prompt, answer)."""
    return [(document.prompt, document.answer) for document in itertools.islice(documents(mix, seed), count)]


def draw_examples(
    tokenizer: PreTrainedTokenizerFast,
    mix: Mix,
    seed: str,
    tokens: int,
    pool: Pool | None = None,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> list[Example]:
    """Documents of a mix, tokenized, until they hold `tokens` tokens, or `UNLIKE_TOKENS`: more than these are read again.

    Many are drawn in blocks, each from a seed of its own, so that the processes of `pool` share them; the texts are the same without it.
    """
    wanted = min(tokens, UNLIKE_TOKENS)
    if wanted <= BLOCK_TOKENS:
        return _drawn(tokenizer, mix, seed, wanted)
    pool = pool or Pool(None)
    count = math.ceil(wanted / BLOCK_TOKENS)
    futures = [pool.submit(_block, tokenizer, mix, f"{seed} {number}") for number in range(count)]
    ids = list(range(len(tokenizer)))  # one object a token, not one each time that it occurs
    examples = []
    for flat, lengths, starts in pool.join(futures, "texts", progress, halted):
        ends = np.cumsum(lengths)
        for end, length, start in zip(ends.tolist(), lengths.tolist(), starts.tolist(), strict=True):
            examples.append(Example(tuple(map(ids.__getitem__, flat[end - length : end].tolist())), start))
    return examples


def _drawn(tokenizer: PreTrainedTokenizerFast, mix: Mix, seed: str, tokens: int) -> list[Example]:
    stream, examples, held = documents(mix, seed), [], 0
    block = 1000 if tokens >= 100_000 else 100
    while held < tokens:
        batch = tokenize(tokenizer, [(d.prompt, d.answer) for d in itertools.islice(stream, block)])
        examples += batch
        held += sum(len(example.tokens) for example in batch)
    return examples


def _block(
    tokenizer: PreTrainedTokenizerFast, mix: Mix, seed: str, halted: Halted | None = None
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One block, as few objects for the way between processes: all tokens, and the length and answer's start of each document."""
    tell(None, halted, "texts", 0, 1)
    examples = _drawn(tokenizer, mix, seed, BLOCK_TOKENS)
    flat = np.concatenate([np.array(example.tokens, np.uint16) for example in examples])
    return flat, np.array([len(e.tokens) for e in examples]), np.array([e.answer_start for e in examples])


def fingerprint(mix: Mix, seed: str) -> str:
    """Changes with the mix, the seed and what the sentences say."""
    return hashlib.sha256(repr([mix, draw(mix, seed, _TOLD_APART_BY)]).encode()).hexdigest()


def is_made(folder: Path, name: str, work: dict) -> dict | None:
    """What was noted about a part of the build, if it was made from exactly this."""
    path = folder / WORK / f"{name}.json"
    if not path.is_file():
        return None
    kept = json.loads(path.read_text("utf-8"))
    return kept["told"] if kept["work"] == _plain(work) else None


def note_made(folder: Path, name: str, work: dict, told: dict) -> None:
    path = folder / WORK / f"{name}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    with appearing(path) as part:
        write_json(part, {"work": _plain(work), "told": told})


def _plain(work: dict) -> dict:
    """As it comes back from JSON; the version of torch is part of all work."""
    return json.loads(json.dumps(work | {"torch": torch.__version__}))
