"""The trials of `maet tune`: a sampler proposes settings, the live model is asked portion by portion, losers are given up early."""

from __future__ import annotations

import random
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from maet_core.errors import InputError
from maet_core.evaluation.asking import Ask
from maet_core.evaluation.questions import Question
from maet_core.progress import Halted, Progress, tell
from maet_core.recipe import Recipe
from maet_core.search.asker import by_language
from maet_core.search.axes import Settings, Span, apply_settings, base_settings, present_settings
from maet_core.search.points import Point, Search
from maet_core.search.sweep import Runner, note

SHUFFLE_SEED = 0  # the order in which every trial is asked


@dataclass(frozen=True)
class Budget:
    """`trials` at most, and no new one after `seconds` of a run."""

    trials: int = 100
    seconds: float | None = None

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InputError(f"trials: found {self.trials}, expected 1 or more")


class Trials:
    """Asks the sampler for settings and the live model the questions, and keeps every trial in `search`."""

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
            if not point.role:
                self._tell_known(point.settings, point)

    def _tell_known(self, settings: Mapping[str, Any], point: Point) -> None:
        """A trial of an earlier run, or the recipe. One that was given up counts with the share it had: it is a low one."""
        self.study.enqueue_trial(dict(settings))
        trial = self.study.ask(self.distributions)
        if self.two_goals:
            # NSGA-II breeds only from trials that have a generation, and gives none to those that it did not draw
            self.study.sampler.get_trial_generation(self.study, self.study.trials[trial.number])
        self.study.tell(trial, self._values(point))

    def _values(self, point: Point) -> list[float] | float:
        return [point.gain, point.forgetting] if self.two_goals else point.gain

    def run(self, budget: Budget, progress: Progress | None, halted: Halted | None) -> None:
        started = time.monotonic()
        for role, recipe in (("base", base_settings(self.recipe)), ("recipe", self.recipe)):
            if self.search.role(role) is None:
                self._keep(self.runner.point({}, recipe, role, halted))
        if present := self._present():
            self._tell_known(present, self.search.role("recipe"))
        done = len(self.search.points) - 2
        while done < budget.trials and (budget.seconds is None or time.monotonic() - started < budget.seconds):
            tell(progress, halted, "tuning", done, budget.trials)
            trial = self.study.ask(self.distributions)
            settings: Settings = {
                name: value if isinstance(value, str) else round(value, 4) for name, value in trial.params.items()
            }
            point = self._try(settings, halted)
            self._keep(point)
            self.study.tell(trial, self._values(point))
            done += 1
        if progress:
            progress("tuning", budget.trials, budget.trials)

    def _present(self) -> Settings | None:
        """Where the recipe stands as it is; None where that lies outside of the space."""
        present = present_settings(self.recipe, self.space)
        inside = present and all(
            present[name] in span if isinstance(span, list) else span.low <= present[name] <= span.high
            for name, span in self.space.items()
        )
        return present if inside else None

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
