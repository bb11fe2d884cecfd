"""Carrying out the plan: step by step, each in a process of its own, going on where an earlier run stopped."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from maet_core.corpora import read_corpus
from maet_core.errors import InputError, OutputError
from maet_core.evaluation import report
from maet_core.evaluation.results import Evaluation, alone, write_whole
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.reproduction.plan import Plan, Step
from maet_core.selection import measure
from maet_core.sources import Sources

COSTS = "costs.jsonl"
UTILISATION = 0.35  # what training reaches of the speed of bare matrix products


def measure_speed(device: str) -> tuple[float, float]:
    """(operations a second that a training reaches, bytes a second that are read from memory), both measured in a moment."""
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    size = 1024 if device == "cpu" else 8192
    matrix, data = torch.randn(size, size, dtype=dtype, device=device), torch.ones(1 << 26, device=device)

    def seconds(work) -> float:
        work()
        _wait(device)
        started = time.perf_counter()
        for _ in range(3):
            work()
        _wait(device)
        return (time.perf_counter() - started) / 3

    return UTILISATION * 2 * size**3 / seconds(lambda: matrix @ matrix), 2 * data.nbytes / seconds(data.clone)


def _wait(device: str) -> None:
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def is_done(step: Step) -> bool:
    if step.kind != "evaluate":
        return step.output.exists()
    try:
        return Evaluation.load(step.output).finished
    except InputError:
        return False


def reproduce(plan: Plan, progress: Progress | None = None, halted: Halted | None = None) -> Evaluation:
    """Runs what is missing and returns the table. Raises OutputError where the disk has too little room, InputError with the line of
    a step that could not be done; the same call goes on after what is there."""
    folder = plan.order.folder
    with alone(folder):
        left = [step for step in plan.steps if not is_done(step)]
        _check_room(folder, left, plan)
        _check_same(plan)
        _write_mixtures(plan)
        for step in left:
            tell(progress, halted, step.name, 0, 1)
            if step.kind == "evaluate":
                _write_recipes(plan)
            step.output.parent.mkdir(parents=True, exist_ok=True)
            started, before = time.monotonic(), _processor_seconds()
            try:
                _run(step, progress)
            finally:  # a stopped step's part counts too
                _note(folder, step, time.monotonic() - started, _processor_seconds() - before)
        found = Evaluation.load(plan.steps[-1].output)
        for task in found.tasks:
            write_whole(folder / f"{task.replace(':', '-')}.tex", report.to_latex(found, task).encode())
        write_whole(folder / "table.csv", report.to_csv(found).encode())
    return found


def costs(folder: Path) -> dict[str, dict[str, float]]:
    """What each step took, by its name: `seconds` by the clock, `processor_seconds` of all cores together, its parts added up where it
    was stopped and went on. A part that was killed with this process is not counted."""
    path = folder / COSTS
    found: dict[str, dict[str, float]] = {}
    for line in path.read_text("utf-8").splitlines() if path.is_file() else ():
        row = json.loads(line)
        sums = found.setdefault(row.pop("step"), dict.fromkeys(row, 0.0))
        for name, value in row.items():
            sums[name] = round(sums[name] + value, 1)
    return found


def _note(folder: Path, step: Step, seconds: float, processor_seconds: float) -> None:
    row = {"step": step.name, "seconds": round(seconds, 1), "processor_seconds": round(processor_seconds, 1)}
    with (folder / COSTS).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def _processor_seconds() -> float:
    """Of all processes that this one has started and seen end."""
    told = os.times()
    return told.children_user + told.children_system


def _check_room(folder: Path, left: list[Step], plan: Plan) -> None:
    needed = sum(step.nbytes for step in left) + (plan.nbytes - sum(step.nbytes for step in plan.steps) if left else 0)
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise OutputError(
            f"{folder}: needs {needed / 1e9:.1f} GB more, {free / 1e9:.1f} GB are free; free some, or choose another place"
        )


def _check_same(plan: Plan) -> None:
    """One folder, one plan: models of other corpora must not end up in one table."""
    path = plan.order.folder / "plan.json"
    said = {"steps": [step.typed for step in plan.steps], "recipes": plan.recipes}
    if path.is_file() and json.loads(path.read_text("utf-8")) != json.loads(json.dumps(said)):
        raise OutputError(f"{plan.order.folder}: holds another plan; choose another name")
    write_whole(path, (json.dumps(said, ensure_ascii=False, indent=1) + "\n").encode())


def _write_mixtures(plan: Plan) -> None:
    """Ability, general text and languages in one file each, for the rows that train on all of it at once."""
    order = plan.order
    spoken = list(order.languages.values())
    for name, sources in (("languages", spoken), ("everything", [order.ability, order.general, *spoken])):
        path = order.folder / "corpora" / f"{name}.jsonl"
        if path.is_file():
            continue
        lines = []
        for source in sources:
            for number, (prompt, answer) in enumerate(read_corpus(source)):
                if order.documents is not None and number >= order.documents:
                    break
                lines.append(json.dumps({"prompt": prompt, "answer": answer}, ensure_ascii=False))
        random.Random(order.seed).shuffle(lines)
        write_whole(path, ("\n".join(lines) + "\n").encode())


def _write_recipes(plan: Plan) -> None:
    folder = plan.order.folder / "recipes"
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in plan.recipes.items():
        recipe = Recipe.from_dict(content, name)
        if name == "maet-random-tensors":
            recipe = _with_random_tensors(recipe, Recipe.from_dict(plan.recipes["maet"]), plan.order.seed)
        recipe.save(folder / f"{name}.yaml")


def _with_random_tensors(recipe: Recipe, like: Recipe, seed: int) -> Recipe:
    """As many tensors take the ability as in `like`, drawn at random."""
    rows = measure(Sources.open(like)).select(like)["ability"].rows
    names = sorted(row.name for row in rows)
    dropped = random.Random(seed).sample(names, sum(not row.selected for row in rows))
    return recipe.with_value("abilities.ability.tensors", {"exclude": sorted(dropped)})


def _run(step: Step, progress: Progress | None) -> None:
    """The command in its own process, so that its memory is free afterwards; when we are stopped, so is it."""
    environment = {**os.environ, "MAET_PROGRESS": "lines"}
    command = [sys.executable, "-m", "maet_core", *step.command]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=environment)
    said: list[str] = []
    try:
        for line in process.stderr:
            if line.startswith("progress "):
                _, done, total, phase = line.strip().split(" ", 3)
                if progress:
                    progress(f"{step.name}: {phase}", int(done), int(total))
            else:
                said.append(line.strip())
        process.wait()
    finally:
        if process.poll() is None:
            process.terminate()  # it keeps what it has, and goes on from there next time
            process.wait()
    if process.returncode:
        raise InputError(f"{step.name}: {(said or ['it ended without a word'])[-1]} (the command was: {step.typed})")
