"""Importance scores, one float32 value per neuron, on disk or computed when they are read.

Scores are kept rather than masks, so that k1 can move without computing anything again.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import lru_cache
from math import prod
from pathlib import Path
from typing import Any, Protocol

import numpy as np

import maet_core
from maet_core.anatomy import Place
from maet_core.checkpoints import Checkpoint
from maet_core.differences import Difference
from maet_core.errors import CheckpointError, OutputError, ScoresError
from maet_core.lazy import torch
from maet_core.progress import Halted, Progress, tell
from maet_core.safetensors_file import SafetensorsFile
from maet_core.safetensors_writer import SafetensorsWriter, storage_order

FORMAT = "maet-scores/1"


class Scores(Protocol):
    """What every origin of scores offers.

    `shapes` maps tensor names, sorted, to the shape of their scores: the tensor's own at `parameter` granularity; (units,) or
    (experts, units) at `unit` granularity. `read` returns float32 values ≥ 0 of that shape, or elements `start` to `stop` of the
    flattened scores; `array` returns such a range for numpy. `magnitude_of` is the difference whose absolute values the scores
    are, parameter by parameter, if that is what they are.
    """

    method: str
    granularity: str
    base: Checkpoint
    shapes: dict[str, tuple[int, ...]]
    details: dict[str, Any]
    magnitude_of: Difference | None

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor: ...

    def array(self, name: str, start: int, stop: int) -> np.ndarray: ...


class ComputedScores:
    """Scores that a locator computes when they are read, by `compute(name, start, stop)` on the flattened scores.

    At `unit` granularity a tensor's scores are computed whole and remembered for a while: they are few, and need all of it.
    """

    def __init__(
        self,
        method: str,
        granularity: str,
        base: Checkpoint,
        names: list[str],
        details: dict[str, Any],
        compute: Callable[[str, int, int], np.ndarray],
        magnitude_of: Difference | None = None,
    ):
        self.magnitude_of = magnitude_of
        self.method, self.granularity, self.base, self.details = method, granularity, base, details
        self.shapes = {name: score_shape(base, name, granularity) for name in sorted(names)}
        self._compute = compute
        self._units = lru_cache(maxsize=len(names))(lambda name: compute(name, 0, prod(self.shapes[name])))

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        return _as_asked(self, name, start, stop)

    def array(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._units(name)[start:stop] if self.granularity == "unit" else self._compute(name, start, stop)


class SavedScores:
    """Scores in a file that `save_scores` wrote. Raises ScoresError if the file is something else or is for another base."""

    magnitude_of = None

    def __init__(self, path: str | Path, base: Checkpoint):
        self.path, self.base = Path(path), base
        try:
            self._file = SafetensorsFile(self.path)
        except CheckpointError as error:
            raise ScoresError(str(error)) from error
        try:
            self.details = json.loads(self._file.metadata["maet"])
            if self.details.pop("format") != FORMAT:
                raise KeyError("format")
            self.method = self.details.pop("method")
            self.granularity = self.details.pop("granularity")
            identity = self.details.pop("base")
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise ScoresError(f"{self.path}: not a file of importance scores; make one with `maet locate`") from error
        if identity != base.identity:
            raise ScoresError(
                f"{self.path}: these scores are for a base with identity {identity}, but {base.source} has {base.identity}; "
                "locate again on this base"
            )
        self.shapes = {name: info.shape for name, info in sorted(self._file.tensors.items())}
        for name, shape in self.shapes.items():
            if name not in base.tensors or shape != score_shape(base, name, self.granularity):
                raise ScoresError(
                    f"{self.path}: scores of {name} have shape {list(shape)}, which does not fit {base.source}"
                )

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        return _as_asked(self, name, start, stop)

    def array(self, name: str, start: int, stop: int) -> np.ndarray:
        values = self._file.values(name, start, stop)
        if not (values >= 0).all() or np.isinf(values).any():
            raise ScoresError(
                f"{self.path}: scores of {name} hold a NaN, an infinity or a negative value; locate again"
            )
        return np.abs(values, out=values)  # −0.0 would sort above everything by its bits


def _as_asked(scores: Scores, name: str, start: int, stop: int | None) -> torch.Tensor:
    """What `Scores.read` returns."""
    shape = scores.shapes[name]
    values = torch.from_numpy(scores.array(name, start, prod(shape) if stop is None else stop))
    return values.reshape(shape) if stop is None else values


def save_scores(
    scores: Scores, path: str | Path, progress: Progress | None = None, halted: Halted | None = None
) -> Path:
    """Writes every tensor's scores; the file appears when it is whole. Raises OutputError if it exists already."""
    path = Path(path)
    if path.exists():
        raise OutputError(f"{path}: exists already; choose another name or remove it first")
    details = {
        "format": FORMAT,
        "method": scores.method,
        "granularity": scores.granularity,
        "base": scores.base.identity,
        **scores.details,
        "maet_version": maet_core.__version__,
    }
    layout = {name: ("F32", shape) for name, shape in scores.shapes.items()}
    with SafetensorsWriter(path, layout, {"maet": json.dumps(details)}) as writer:
        for done, name in enumerate(storage_order(layout)):
            tell(progress, halted, "locating", done, len(layout))
            writer.add(name, scores.read(name))
    return path


def score_shape(base: Checkpoint, name: str, granularity: str) -> tuple[int, ...]:
    shape, place = base.tensors[name].shape, base.anatomy.place(name)
    if granularity == "parameter":
        return shape
    axis = unit_axis(place, shape)
    return (shape[0], shape[axis]) if len(shape) == 3 else (shape[axis],)


def unit_axis(place: Place, shape: tuple[int, ...]) -> int:
    """The axis along which the units of this tensor lie; a tensor without units of its own has its first axis."""
    return place.neuron_axis if place.neuron_axis is not None else 0
