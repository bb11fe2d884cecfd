"""Everything in a demo build that is not a model: tasks, recipe and samples of the corpora."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path

from maet_core.demo import plan
from maet_core.demo.corpora import Mix, documents
from maet_core.demo.tasks import PROBLEMS, task_rows
from maet_core.recipe import Recipe

CORPUS_BYTES = 60_000  # a sample of each corpus is kept


def write_texts(folder: Path, seed: int, scale: float = 1.0) -> None:
    """The same seed writes the same files."""
    problems = {part: max(4, round(count * min(1.0, scale))) for part, count in PROBLEMS.items()}
    for name in ("tasks", "corpora", "recipes"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for ability in plan.ABILITIES:
        lines = (json.dumps(row, ensure_ascii=False) for row in task_rows(ability, seed, problems))
        (folder / "tasks" / f"{ability}.jsonl").write_text("".join(line + "\n" for line in lines), "utf-8")
    for name, mix in plan.CORPORA.items():
        (folder / "corpora" / f"{name}.txt").write_text(_sample(mix, f"{seed} sample {name}"), "utf-8")
    for name, recipe in plan.RECIPES.items():
        Recipe.from_dict(recipe).save(folder / "recipes" / f"{name}.yaml")


def _sample(mix: Mix, seed: str) -> str:
    """Whole documents, an empty line between them, up to `CORPUS_BYTES`."""
    return "".join(itertools.takewhile(_within(CORPUS_BYTES), (d.text + "\n\n" for d in documents(mix, seed))))


def _within(limit: int) -> Callable[[str], bool]:
    held = 0

    def fits(text: str) -> bool:
        nonlocal held
        held += len(text.encode())
        return held <= limit

    return fits
