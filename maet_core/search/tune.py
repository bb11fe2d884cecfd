"""`maet tune`: coefficients by optimisation on development questions, then one honest run on the test questions.

One goal: TPE (Bergstra et al. 2011). Two goals, gain and forgetting: NSGA-II (Deb et al. 2002). Both are Optuna's. A trial is asked
its questions in portions, in the same order as every other; after each portion it is given up if, paired on the questions so far, even the upper
end of its 95 % interval against the best trial lies below zero. The recipe as it stands is the first that the sampler hears of.
"""

from __future__ import annotations

import os
import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from maet_core.errors import InputError
from maet_core.evaluation.asking import Ask
from maet_core.evaluation.results import Evaluation, alone
from maet_core.evaluation.run import evaluate
from maet_core.evaluation.subjects import DTYPES, live_subject
from maet_core.evaluation.tasks import Task
from maet_core.evaluation.threads import fitting_threads
from maet_core.live import LiveModel
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.search.asker import Twin
from maet_core.search.axes import Span, apply_settings, base_settings
from maet_core.search.points import Point, Search
from maet_core.search.sweep import Runner, head
from maet_core.search.trials import SHUFFLE_SEED, Budget, Trials
from maet_core.sources import Sources
from maet_core.workspace import map_sources


def halves(task: Task) -> tuple[Task, Task]:
    """(development, test) of a task that has no splits: half of the problems each, the same ones in every language."""
    problems = sorted({item.problem for item in task.items})
    random.Random(SHUFFLE_SEED).shuffle(problems)
    development = set(problems[: len(problems) // 2])
    parts = [tuple(item for item in task.items if (item.problem in development) == wanted) for wanted in (True, False)]
    if not all(parts):
        raise InputError(
            f"{task.source}: has {len(problems)} problem; tuning needs two or more to keep development and test apart"
        )
    return replace(task, name=f"{task.name}:dev-half", items=parts[0]), replace(
        task, name=f"{task.name}:test-half", items=parts[1]
    )


def default_space(recipe: Recipe) -> dict[str, Span | list[str]]:
    """What is varied where nothing is named: γ, k2, β where there is a source-language model, and μ of every language."""
    space: dict[str, Span | list[str]] = {}
    if recipe.abilities:
        space["gamma"] = Span(0.0, 2.0)
        if recipe.method.name == "maet":
            space["k2"] = Span(40.0, 100.0)
        if any(ability.source_language for ability in recipe.abilities.values()):
            space["beta"] = Span(0.0, 1.0)
    for language in recipe.languages:
        space[f"mu.{language}"] = Span(0.0, 1.5)
    if not space:
        raise InputError("the recipe has nothing to tune: no ability and no language")
    return space


def tune(
    recipe: Recipe,
    recipe_folder: Path,
    space: Mapping[str, Span | list[str]],
    development: Sequence[Ask],
    test: Sequence[Ask],
    output: str | Path,
    budget: Budget | None = None,
    general: Mapping[str, str] | None = None,
    two_goals: bool = False,
    portions: int = 4,
    seed: int = 0,
    device: str = "cpu",
    batch_rows: int = 100,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> tuple[Search, Evaluation]:
    """Tunes, writes `output`/recipe.yaml, and asks base, recipe and tuned recipe the test questions into `output`/test.

    With `two_goals` forgetting on `general` is the second one; the recipe that is tested is then the one of the Pareto front with the
    highest gain among those that forget no more than the recipe as it stands, or else the one that forgets least. A stopped tuning goes on.
    """
    general, budget = dict(general or {}), budget or Budget()
    if two_goals and not general:
        raise InputError("two goals: forgetting is measured on general text; name it with --general LANG=CORPUS")
    output = Path(output)
    sources = Sources.open(recipe, recipe_folder)
    described = {name: list(span) if isinstance(span, list) else [span.low, span.high] for name, span in space.items()}
    goals = ["gain", "forgetting"] if two_goals else ["gain"]
    with alone(output):
        search = Search.begin(
            output,
            head(
                "tune",
                sources,
                development,
                general,
                space=described,
                goals=goals,
                portions=portions,
                seed=seed,
                budget=budget.trials,
            ),
        )
        live = LiveModel(sources, device)
        trials = Trials(
            search, Runner(live, development, general, batch_rows), recipe, space, two_goals, portions, seed
        )
        with fitting_threads(live.model):
            trials.run(budget, progress, halted)
        best = choose(search)
        tuned = apply_settings(recipe, best.settings) if best.settings else recipe
        _as_file_in(tuned, recipe_folder, output).save(output / "recipe.yaml")
        tested = _test(live, recipe, tuned, test, output / "test", batch_rows, progress, halted)
        search.head |= {
            "finished": True,
            "outcome": {"settings": best.settings, "recipe": "recipe.yaml", "test": "test"},
        }
        search.save()
    return search, tested


def choose(search: Search) -> Point:
    """The point that is tested; see `tune`."""
    own = search.role("recipe")
    if "forgetting" not in search.head["goals"]:
        return search.best or own
    modest = [point for point in search.front if point.forgetting <= own.forgetting]
    return max(modest, key=lambda point: point.gain) if modest else search.front[-1]


def _test(
    live: LiveModel,
    recipe: Recipe,
    tuned: Recipe,
    test: Sequence[Ask],
    folder: Path,
    batch_rows: int,
    progress: Progress | None,
    halted: Halted | None,
) -> Evaluation:
    """Base, recipe and tuned recipe, on questions that no trial saw."""
    twin = Twin(live, DTYPES[test[0].protocol.dtype])
    found = None
    for label, one in (("base", base_settings(recipe)), ("recipe", recipe), ("tuned", tuned)):
        live.apply(one)
        twin.follow()
        found = evaluate([live_subject(label, live, twin.model)], test, folder, None, batch_rows, progress, halted)
    return found


def _as_file_in(recipe: Recipe, before: Path, after: Path) -> Recipe:
    """The same recipe with paths that start from another folder; hub ids stay."""

    def moved(source: str) -> str:
        there = before / source
        return os.path.relpath(there, after) if there.exists() else source

    return map_sources(recipe, moved)


def describe(search: Search, tested: Evaluation) -> dict[str, Any]:
    """What `maet tune --json` prints."""
    best = choose(search)
    return {
        "output": str(search.folder),
        "trials": len(search.points) - 2,
        "pruned": sum(point.pruned for point in search.points),
        "settings": best.settings,
        "development": {"gain": best.gain, "forgetting": best.forgetting},
        "front": [{"settings": p.settings, "gain": p.gain, "forgetting": p.forgetting} for p in search.front],
        "test": [
            {"model": cell.model, "task": cell.task, "language": cell.language, **cell.share.to_json()}
            for cell in tested.cells
        ],
    }
