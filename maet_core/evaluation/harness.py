"""The EleutherAI evaluation harness on a model in memory: every task that it has, no checkpoint in between.

The harness is an optional extra (requirements-harness.txt). Its MGSM tasks and `maet evaluate --task mgsm --prompt direct` put the same
prompts; see docs/evaluation.md for what differs in reading the answers.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maet_core.errors import InputError


@dataclass(frozen=True)
class HarnessFigure:
    """One metric of one task, in the task's own unit. `samples`: the harness's own record of every answer."""

    task: str
    metric: str
    value: float
    stderr: float | None
    n: int


def run_harness(
    model: Any,
    tokenizer: Any,
    tasks: Sequence[str],
    batch_rows: int = 32,
    limit: int | None = None,
    task_folder: str | Path | None = None,
) -> tuple[list[HarnessFigure], dict[str, list[dict[str, Any]]]]:
    """(figures, answers by task). `task_folder`: YAML tasks of one's own beside the harness's. Raises InputError for an unknown task,
    for a data set that cannot be had, and where the harness is not installed."""
    try:
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
    except ImportError as error:
        raise InputError(
            f"--harness: the EleutherAI harness is not installed ({error}); pip install -r requirements-harness.txt"
        ) from error
    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    # the harness's own thousands of tasks take it a while to list, so they are left out where one's own folder has all
    manager = TaskManager(include_path=str(task_folder), include_defaults=False) if task_folder else TaskManager()
    if task_folder and not set(tasks) <= set(manager.all_tasks):
        manager = TaskManager(include_path=str(task_folder))
    known = set(manager.all_tasks)
    if unknown := [task for task in tasks if task not in known]:
        raise InputError(f"--harness: the harness has no task {', '.join(unknown)}; `lm-eval ls tasks` lists them")
    speaker = HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_rows)
    try:
        found = simple_evaluate(
            speaker, tasks=list(tasks), limit=limit, task_manager=manager, bootstrap_iters=0, log_samples=True
        )
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise InputError(
            f"--harness: {', '.join(tasks)}: {(str(error).splitlines() or [type(error).__name__])[0][:200]}"
        ) from error
    figures = []
    for task, metrics in found["results"].items():
        n = found.get("n-samples", {}).get(task, {}).get("effective", 0)
        for name, value in metrics.items():
            metric, _, reading = name.partition(",")
            if isinstance(value, (int, float)) and reading and not metric.endswith("_stderr"):
                error = metrics.get(f"{metric}_stderr,{reading}")
                label = metric if reading == "none" else f"{metric}, {reading}"
                figures.append(HarnessFigure(task, label, float(value), error if isinstance(error, float) else None, n))
    return figures, found.get("samples", {})
