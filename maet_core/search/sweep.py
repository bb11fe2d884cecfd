"""`maet sweep`: every combination of some values, on the live model, one line each; a stopped sweep goes on."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maet_core.evaluation.asking import Ask
from maet_core.evaluation.results import alone
from maet_core.evaluation.threads import fitting_threads
from maet_core.inspection.losses import Losses
from maet_core.live import LiveModel
from maet_core.progress import Halted, Progress, record, tell
from maet_core.recipe import Recipe
from maet_core.search.asker import Asker
from maet_core.search.axes import Settings, apply_settings, base_settings, grid
from maet_core.search.points import Point, Search
from maet_core.sources import Sources


def sweep(
    recipe: Recipe,
    recipe_folder: Path,
    axes: Mapping[str, Sequence[float | str]],
    asks: Sequence[Ask],
    output: str | Path,
    general: Mapping[str, str] | None = None,
    device: str = "cpu",
    batch_rows: int = 100,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> Search:
    """Asks the model of every combination, and the base and the recipe as it stands. What is in `output` already is not asked again."""
    output = Path(output)
    points = grid(axes)
    wanted = [
        apply_settings(recipe, settings) for settings in points
    ]  # a value that does not fit is told before any work
    sources = Sources.open(recipe, recipe_folder)
    with alone(output):
        search = Search.begin(
            output, head("sweep", sources, asks, general or {}, axes={k: list(v) for k, v in axes.items()})
        )
        work: list[tuple[Settings, Recipe, str]] = [({}, base_settings(recipe), "base"), ({}, recipe, "recipe")]
        work += [(settings, changed, "") for settings, changed in zip(points, wanted, strict=True)]
        known = [(point.settings, point.role) for point in search.points]
        left = [entry for entry in work if (entry[0], entry[2]) not in known]
        if left:
            live = LiveModel(sources, device)
            runner = Runner(live, asks, general or {}, batch_rows)
            with fitting_threads(live.model):
                for settings, changed, role in left:
                    tell(progress, halted, "sweeping", len(search.points), len(work))
                    point = runner.point(settings, changed, role, halted)
                    search.add(point)
                    note(point)
        if progress:
            progress("sweeping", len(work), len(work))
        search.head["finished"] = True
        search.save()
    return search


class Runner:
    """Asks one setting after the other; the base's losses are taken once."""

    def __init__(self, live: LiveModel, asks: Sequence[Ask], general: Mapping[str, str], batch_rows: int):
        self.asker = Asker(live, asks, general, batch_rows)
        self._base_losses: dict[str, Losses] | None = None
        self._base = base_settings(live.recipe)

    def point(self, settings: Settings, recipe: Recipe, role: str = "", halted: Halted | None = None) -> Point:
        started = time.monotonic()
        self.base_losses()
        self.asker.become(recipe)
        right = self.asker.answer_all(halted=halted)
        return Point(dict(settings), right, self.forgotten(), False, role, round(time.monotonic() - started, 2))

    def base_losses(self) -> dict[str, Losses]:
        if self._base_losses is None:
            if self.asker.texts:
                self.asker.become(self._base)
            self._base_losses = self.asker.losses()
        return self._base_losses

    def forgotten(self) -> dict[str, tuple[float, float]]:
        """How much worse than the base the weights of now expect general text."""
        base = self.base_losses()
        changes = {language: losses.change_from(base[language]) for language, losses in self.asker.losses().items()}
        return {language: (round(mean.value, 6), round(mean.interval, 6)) for language, mean in changes.items()}


def head(kind: str, sources: Sources, asks: Sequence[Ask], general: Mapping[str, str], **more: Any) -> dict[str, Any]:
    """What a search is about: a folder belongs to exactly this."""
    return {
        "kind": kind,
        "recipe": sources.recipe.to_dict(),
        "inputs": sources.identities(),
        "tasks": {
            ask.task.name: {
                "protocol": ask.protocol.to_json(),
                "languages": {
                    language: {"n": len(ask.task.of(language)), "key": ask.key(language)}
                    for language in ask.task.languages
                },
            }
            for ask in asks
        },
        "general": dict(general),
        **more,
    }


def note(point: Point) -> None:
    """For the curves of a background job."""
    figures = {"gain": round(point.gain, 5)}
    if point.forgetting is not None:
        figures["forgetting"] = round(point.forgetting, 5)
    record(**figures)
