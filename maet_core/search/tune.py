"""`maet tune`: coefficients by optimisation on development questions, then one honest run on the test questions.

One goal: TPE (Bergstra et al. 2011). Two goals, gain and forgetting: NSGA-II (Deb et al. 2002). Both are Optuna's. A trial is asked
its questions in portions, in the same order as every other; after each portion it is given up if, paired on the questions so far, even the upper
end of its 95 % interval against the best trial lies below zero.
"""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from maet_core.errors import InputError
from maet_core.evaluation.questions import Question
from maet_core.evaluation.results import Evaluation, alone
from maet_core.evaluation.run import Ask, evaluate
from maet_core.evaluation.subjects import live_subject
from maet_core.evaluation.tasks import Task
from maet_core.live import LiveModel
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.search.asker import by_language
from maet_core.search.axes import Settings, Span, apply_settings, base_settings
from maet_core.search.points import Point, Search
from maet_core.search.sweep import Runner, head, note
from maet_core.sources import Sources
from maet_core.workspace import map_sources

SHUFFLE_SEED = 0  # the order in which every trial is asked


@dataclass(frozen=True)
class Budget:
    """`trials` at most, and no new one after `seconds` of a run."""

    trials: int = 100
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"trials: found {self.trials}, expected 1 or more")


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
    budget: Budget = Budget(),
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
    general = dict(general or {})
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
        trials = _Trials(
            search, Runner(live, development, general, batch_rows), recipe, space, two_goals, portions, seed
        )
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
    from maet_core.evaluation.subjects import DTYPES
    from maet_core.search.asker import Twin

    twin = Twin(live, DTYPES[test[0].protocol.dtype])
    found = None
    for label, one in (("base", base_settings(recipe)), ("recipe", recipe), ("tuned", tuned)):
        live.apply(one)
        twin.follow()
        found = evaluate([live_subject(label, live, twin.model)], test, folder, None, batch_rows, progress, halted)
    return found


def _as_file_in(recipe: Recipe, before: Path, after: Path) -> Recipe:
    """The same recipe with paths that start from another folder; hub ids stay."""
    import os

    def moved(source: str) -> str:
        there = before / source
        return os.path.relpath(there, after) if there.exists() else source

    return map_sources(recipe, moved)


class _Trials:
    def __init__(
        self,
        search: Search,
        runner: Runner,
        recipe: Recipe,
        space: Mapping[str, Span | list[str]],
        two_goals: bool,
        portions: int,
        seed: int,
    ):
        import optuna

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.search, self.runner, self.recipe, self.space, self.two_goals = search, runner, recipe, space, two_goals
        self.optuna = optuna
        warnings.filterwarnings("ignore", category=optuna.exceptions.ExperimentalWarning)  # of `multivariate`
        # what went before is part of the seed: a tuning that goes on must not draw the same settings again
        fresh = seed + 7919 * len(search.points)
        if two_goals:
            sampler = optuna.samplers.NSGAIISampler(population_size=20, seed=fresh)
            self.study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
        else:
            sampler = optuna.samplers.TPESampler(seed=fresh, multivariate=True, n_startup_trials=12)
            self.study = optuna.create_study(direction="maximize", sampler=sampler)
        self.distributions = {
            name: optuna.distributions.CategoricalDistribution(span)
            if isinstance(span, list)
            else optuna.distributions.FloatDistribution(span.low, span.high)
            for name, span in space.items()
        }
        self.portions = [_portions(ask, portions) for ask in runner.asker.asks]
        for point in search.points:
            self._tell_again(point)

    def _tell_again(self, point: Point) -> None:
        """An earlier trial. One that was given up counts with the share it had: it is a low one."""
        if point.role:
            return
        values = [point.gain, point.forgetting] if self.two_goals else [point.gain]
        self.study.add_trial(
            self.optuna.trial.create_trial(params=point.settings, distributions=self.distributions, values=values)
        )

    def run(self, budget: Budget, progress: Progress | None, halted: Halted | None) -> None:
        started = time.monotonic()
        for role, recipe in (("base", base_settings(self.recipe)), ("recipe", self.recipe)):
            if self.search.role(role) is None:
                self._keep(self.runner.point({}, recipe, role, halted))
        done = len(self.search.points) - 2
        while done < budget.trials and (budget.seconds is None or time.monotonic() - started < budget.seconds):
            tell(progress, halted, "tuning", done, budget.trials)
            trial = self.study.ask(self.distributions)
            settings: Settings = {
                name: value if isinstance(value, str) else round(value, 4) for name, value in trial.params.items()
            }
            point = self._try(settings, halted)
            self._keep(point)
            values = [point.gain, point.forgetting] if self.two_goals else point.gain
            self.study.tell(trial, values)
            done += 1
        if progress:
            progress("tuning", budget.trials, budget.trials)

    def _keep(self, point: Point) -> None:
        self.search.add(point)
        note(point)

    def _try(self, settings: Settings, halted: Halted | None) -> Point:
        """Asks portion by portion; with two goals everything, for a trial that knows less may still forget less."""
        started = time.monotonic()
        asker = self.runner.asker
        self.runner.base_losses()
        asker.become(apply_settings(self.recipe, settings))
        right: dict[str, str] = {}
        best = self.search.best
        steps = list(zip(*self.portions, strict=True))
        for number, step in enumerate(steps, 1):
            for ask, items in zip(asker.asks, step, strict=True):
                for key, letters in by_language(ask, items, asker.verdicts(ask, items, halted=halted)).items():
                    right[key] = right.get(key, "") + letters
            if number < len(steps) and not self.two_goals and best is not None:
                paired = Point(settings, right).against(self._in_order(best))
                if paired.interval[1] < 0:
                    return Point(settings, right, {}, True, "", round(time.monotonic() - started, 2))
        right = self._task_order(right)
        return Point(settings, right, self.runner.forgotten(), False, "", round(time.monotonic() - started, 2))

    def _in_order(self, point: Point) -> Point:
        """A whole point's verdicts in the order in which trials are asked."""
        return replace(
            point, right={key: "".join(point.right[key][i] for i in order) for key, order in self._orders().items()}
        )

    def _task_order(self, right: dict[str, str]) -> dict[str, str]:
        return {
            key: "".join(letter for _, letter in sorted(zip(order, right[key], strict=True)))
            for key, order in self._orders().items()
        }

    def _orders(self) -> dict[str, list[int]]:
        """`task language` → positions in the task's own order, in the order asked."""
        found: dict[str, list[int]] = {}
        for ask, portions in zip(self.runner.asker.asks, self.portions, strict=True):
            place = {
                (item.language, item.id): i for lang in ask.task.languages for i, item in enumerate(ask.task.of(lang))
            }
            for item in (item for portion in portions for item in portion):
                found.setdefault(f"{ask.task.name} {item.language}", []).append(place[item.language, item.id])
        return found


def _portions(ask: Ask, count: int) -> list[list[Question]]:
    """The questions in `count` portions, drawn by problem, so that every portion has every language."""
    problems = sorted({item.problem for item in ask.task.items})
    random.Random(SHUFFLE_SEED).shuffle(problems)
    portion = {problem: i * count // len(problems) for i, problem in enumerate(problems)}
    return [[item for item in ask.task.items if portion[item.problem] == i] for i in range(count)]


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
