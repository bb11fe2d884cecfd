"""Builds the demo: corpora, tokenizer, models, tasks, recipe, and a manifest that says how each came to be.

python -m maet_core.demo.build --out DIR [--seed 0] [--scale 1.0]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from maet_core import __version__
from maet_core.checkpoints import Checkpoint
from maet_core.demo import plan
from maet_core.demo.corpora import Mix, documents
from maet_core.demo.manifest import describe, hashes, write_json
from maet_core.demo.measure import measure
from maet_core.demo.tasks import PROBLEMS, math_rows
from maet_core.demo.tokens import build_tokenizer
from maet_core.errors import OutputError
from maet_core.importance.key_neurons import select_key_neurons
from maet_core.importance.scores import SavedScores, Scores, save_scores
from maet_core.live import LiveModel
from maet_core.locating import locate_in_corpus
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.sources import Sources
from maet_core.training import Example, KeyNeuronParameters, TrainingReport, save_checkpoint, tokenize, train

CORPUS_BYTES = 60_000  # a sample of each corpus is kept
VOCABULARY_DOCUMENTS = 20_000


def build(
    out: Path, seed: int = 0, scale: float = 1.0, progress: Progress | None = None, halted: Halted | None = None
) -> dict:
    """Generates everything into `out` and returns the manifest; `scale` multiplies the steps of every training.

    An earlier build at `out` is replaced once the new one is complete; OutputError if `out` is anything else. One
    seed, scale and version of torch give the same files. About an hour on one core at scale 1.
    """
    out = Path(out)
    if out.exists() and not (out / "manifest.json").is_file() and any(out.iterdir()):
        raise OutputError(f"{out}: holds something that is no demo build; choose another folder")
    out.parent.mkdir(parents=True, exist_ok=True)
    part = Path(tempfile.mkdtemp(prefix=f".{out.name}.", suffix=".part", dir=out.parent))
    try:
        manifest = _build(part, seed, scale, progress, halted)
        part.chmod(0o755)
        if out.exists():
            shutil.rmtree(out)
        os.rename(part, out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
    return manifest


def _build(folder: Path, seed: int, scale: float, progress: Progress | None, halted: Halted | None) -> dict:
    vocabulary = draw(
        plan.VOCABULARY_MIX, f"{seed} vocabulary", round(VOCABULARY_DOCUMENTS * max(0.2, min(1.0, scale)))
    )
    tokenizer = build_tokenizer(prompt + answer for prompt, answer in vocabulary)
    trained, scores = {}, None
    for stage in plan.STAGES:
        if stage.k1 is not None and scores is None:
            scores = located(folder, seed, scale, progress)
        reports = train_stage(stage.scaled(scale), folder / "models", tokenizer, seed, progress, halted, scores)
        trained[stage.name] = describe(stage.scaled(scale), reports)
    return finish(folder, seed, scale, trained, progress, halted)


def finish(
    folder: Path,
    seed: int,
    scale: float,
    trained: dict[str, dict],
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> dict:
    """All of a build but its training: texts, scores, and the manifest, which it returns."""
    write_texts(folder, seed, scale)
    accuracy = measure_all(folder, progress, halted)
    manifest = {
        "version": __version__,
        "torch": torch.__version__,
        "seed": seed,
        "scale": scale,
        "models": trained,
        "accuracy": accuracy,
        "files": hashes(folder),
    }
    write_json(folder / "manifest.json", manifest)
    return manifest


def located(folder: Path, seed: int, scale: float = 1.0, progress: Progress | None = None) -> SavedScores:
    """Step 1 of the method: scores of all neurons by a short probe training on a sample of the ability corpus."""
    sample = replace(plan.PROBE, batches=max(2, round(plan.PROBE.batches * min(1.0, scale))))
    base = Checkpoint.open(folder / "models" / plan.BASE.name)
    corpus = draw(plan.ABILITY.mix, f"{seed} probe", 60 * sample.batches)
    rate = plan.PROBE_LEARNING_RATE
    scores = locate_in_corpus("probe", base, corpus, sample, learning_rate=rate, seed=seed, progress=progress)
    path = folder / "scores" / "math.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    return SavedScores(save_scores(scores, path), base)


def train_stage(
    stage: plan.Stage,
    models: Path,
    tokenizer: PreTrainedTokenizerFast,
    seed: int,
    progress: Progress | None = None,
    halted: Halted | None = None,
    scores: Scores | None = None,
) -> list[TrainingReport]:
    """Trains one model of the plan and saves it as `models/<name>`; all but the base start from `models/base`.

    `scores` rank the neurons for a stage that trains key neurons alone.
    """
    base = models / plan.BASE.name
    if stage.name == plan.BASE.name:
        torch.manual_seed(seed)
        model = LlamaForCausalLM(_config(tokenizer))
    else:
        model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    keys = None if stage.k1 is None else select_key_neurons(scores, stage.k1)
    reports = []
    for phase, planned in enumerate(stage.phases):
        options = replace(planned, seed=seed)
        wanted = options.steps * options.batch_rows * options.row_tokens
        examples = draw_examples(tokenizer, stage.mix, f"{seed} {stage.name} {phase or ''}".rstrip(), wanted)
        reports.append(
            train(
                model,
                examples,
                options,
                lambda step: tell(progress, halted, f"train {stage.name}", step.step, step.steps),
                KeyNeuronParameters(model, scores.base, keys) if keys else None,
            )
        )
    save_checkpoint(model, tokenizer, models / stage.name)
    return reports


def draw(mix: Mix, seed: str, count: int) -> list[tuple[str, str]]:
    """The first `count` documents of a mix as (prompt, answer)."""
    return [(document.prompt, document.answer) for document in itertools.islice(documents(mix, seed), count)]


def draw_examples(tokenizer: PreTrainedTokenizerFast, mix: Mix, seed: str, tokens: int) -> list[Example]:
    """Documents of a mix, tokenized, until they hold `tokens` tokens."""
    stream, examples, held = documents(mix, seed), [], 0
    block = 1000 if tokens >= 100_000 else 100
    while held < tokens:
        batch = tokenize(tokenizer, [(d.prompt, d.answer) for d in itertools.islice(stream, block)])
        examples += batch
        held += sum(len(example.tokens) for example in batch)
    return examples


def write_texts(folder: Path, seed: int, scale: float = 1.0) -> None:
    """Everything in the demo that is not a model: tasks, recipe and samples of the corpora."""
    problems = {part: max(4, round(count * min(1.0, scale))) for part, count in PROBLEMS.items()}
    tasks = folder / "tasks" / "math.jsonl"
    tasks.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(row, ensure_ascii=False) for row in math_rows(seed, problems))
    tasks.write_text("".join(line + "\n" for line in lines), "utf-8")
    (folder / "corpora").mkdir(exist_ok=True)
    for name, mix in plan.CORPORA.items():
        (folder / "corpora" / f"{name}.txt").write_text(_sample(mix, f"{seed} sample {name}"), "utf-8")
    (folder / "recipes").mkdir(exist_ok=True)
    Recipe.from_dict(plan.RECIPE).save(folder / "recipes" / "demo.yaml")


def measure_all(folder: Path, progress: Progress | None = None, halted: Halted | None = None) -> dict:
    """Scores by split, model and language: every model, the merge of the recipe, and plain task vectors beside it."""
    lines = (folder / "tasks" / "math.jsonl").read_text("utf-8").splitlines()
    rows = [json.loads(line) for line in lines]
    recipes = {"merge": plan.RECIPE, "task vectors": plan.TASK_VECTORS}
    names = [stage.name for stage in plan.STAGES] + list(recipes)
    accuracy: dict[str, dict] = {split: {} for split in PROBLEMS}
    for done, name in enumerate(names):
        tell(progress, halted, f"measure {name}", done, len(names))
        if name in recipes:
            live = LiveModel(Sources.open(Recipe.from_dict(recipes[name]), folder / "recipes"))
            model, tokenizer = live.model, live.tokenizer
        else:
            model = AutoModelForCausalLM.from_pretrained(folder / "models" / name)
            tokenizer = AutoTokenizer.from_pretrained(folder / "models" / name)
        for split in PROBLEMS:
            scores = measure(model, tokenizer, [row for row in rows if row["split"] == split])
            accuracy[split][name] = {language: score.to_json() for language, score in scores.items()}
    tell(progress, halted, "measure", len(names), len(names))
    return accuracy


def _config(tokenizer: PreTrainedTokenizerFast) -> LlamaConfig:
    ids = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    return LlamaConfig(vocab_size=len(tokenizer), **ids, **plan.ARCHITECTURE)


def _sample(mix: Mix, seed: str) -> str:
    """Whole documents, an empty line between them, up to `CORPUS_BYTES`."""
    return "".join(itertools.takewhile(_within(CORPUS_BYTES), (d.text + "\n\n" for d in documents(mix, seed))))


def _within(limit: int):
    held = 0

    def fits(text: str) -> bool:
        nonlocal held
        held += len(text.encode())
        return held <= limit

    return fits


def main(arguments: Iterable[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the demo corpora and models.")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--scale", type=float, default=1.0)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(1)

    def show(phase: str, done: int, total: int) -> None:
        if done % 50 == 0 or done == total:
            print(f"{phase} {done}/{total}", file=sys.stderr, flush=True)

    build(chosen.out, chosen.seed, chosen.scale, show)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
