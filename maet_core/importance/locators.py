"""Locators of key neurons: each says how important a neuron is. A registry, so that command line and app list what there is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

import numpy as np

from maet_core import equations
from maet_core.checkpoints import Checkpoint
from maet_core.differences import Difference
from maet_core.errors import ScoresError
from maet_core.importance.scores import ComputedScores, score_shape, unit_axis


@dataclass(frozen=True)
class Locator:
    """`needs` tells what it works from: a trained sibling of the base, a corpus, or only a seed.

    `build` makes scores that are computed when they are read; None where a corpus has to be gone through first, which
    `maet locate --corpus` does.
    """

    name: str
    title: str
    source: str
    needs: Literal["trained", "corpus", "seed"]
    build: Callable[..., ComputedScores] | None = None


LOCATORS: dict[str, Locator] = {
    locator.name: locator
    for locator in (
        Locator("probe", "value change of a short training", "Chen et al. 2024, arXiv 2410.07825, step 1", "corpus"),
        Locator(
            "gradient", "accumulated |gradient|", "Michel et al. 2019, arXiv 1905.10650, on single weights", "corpus"
        ),
        Locator(
            "taylor", "first-order Taylor, |gradient · weight|", "Molchanov et al. 2019, arXiv 1906.10771", "corpus"
        ),
    )
}


def _locator(name: str, title: str, source: str, needs: Literal["trained", "seed"]) -> Callable:
    def register(build: Callable[..., ComputedScores]) -> Callable[..., ComputedScores]:
        LOCATORS[name] = Locator(name, title, source, needs, build)
        return build

    return register


def locate(
    method: str,
    base: Checkpoint,
    trained: Difference | None = None,
    granularity: str = "parameter",
    seed: int = 0,
    include: Iterable[str] = (),
) -> ComputedScores:
    """Scores of all neurons that take part, computed as they are read.

    `include`: globs of tensors beyond the default ones (embeddings, head and norms are left out unless asked for).
    Raises ScoresError for an unknown method, or when `trained` is missing where the locator needs it.
    """
    if method not in LOCATORS:
        raise ScoresError(f"key_neurons.method: found {method!r}, expected one of {', '.join(LOCATORS)}")
    if LOCATORS[method].needs == "corpus":
        raise ScoresError(
            f"locator {method} goes through a corpus: run `maet locate --method {method} --corpus FILE`, and name its file as `scores`"
        )
    if LOCATORS[method].needs == "trained" and trained is None:
        raise ScoresError(f"locator {method} compares the base with a trained checkpoint; name one")
    names = participating(base, include)
    if LOCATORS[method].needs == "trained":
        return LOCATORS[method].build(base, names, granularity, trained)
    return LOCATORS[method].build(base, names, granularity, seed)


def participating(base: Checkpoint, include: Iterable[str] = ()) -> list[str]:
    """Tensors whose neurons are ranked: the anatomy's default ones, and those whose names match a glob of `include`."""
    patterns = list(include)
    chosen = set(base.anatomy.default_neurons())
    for pattern in patterns:
        matching = {name for name in base.tensors if fnmatchcase(name, pattern)}
        if not matching:
            raise ScoresError(f"--include {pattern}: no tensor of {base.source} has a name like this")
        chosen |= matching
    return sorted(name for name in chosen if base.tensors[name].mergeable)


@_locator("value-change", "value change", "Chen et al. 2024, arXiv 2410.07825, step 1", needs="trained")
def value_change(base: Checkpoint, names: list[str], granularity: str, trained: Difference) -> ComputedScores:
    """I(θ_j) = |θ′_j − θ_j|; at `unit` granularity the L2 norm over the unit."""

    def compute(name: str, start: int, stop: int) -> np.ndarray:
        if not trained.touches(name):
            return np.zeros(stop - start, np.float32)
        if granularity == "parameter":
            return equations.importance(trained.difference(name, start, stop)).astype(np.float32, copy=False)
        return _unit_norms(base, name, trained)

    details = {"trained": trained.identity}
    magnitude_of = trained if granularity == "parameter" else None
    return ComputedScores("value-change", granularity, base, names, details, compute, magnitude_of)


@_locator("random", "random control", "the control of the same size", needs="seed")
def random(base: Checkpoint, names: list[str], granularity: str, seed: int) -> ComputedScores:
    """Uniform numbers that depend on the seed and the tensor's name only."""

    def compute(name: str, start: int, stop: int) -> np.ndarray:
        key = int.from_bytes(hashlib.sha256(f"{seed}\t{name}".encode()).digest()[:16], "little")
        # the generator gives four 64-bit words a step and each word two numbers: a range needs no numbers before it
        numbers = np.random.Philox(key=key).advance(start // 8)
        drawn = np.random.Generator(numbers).random(stop - start // 8 * 8, dtype=np.float32)
        return drawn[start % 8 :]

    return ComputedScores("random", granularity, base, names, {"seed": seed}, compute)


def _unit_norms(base: Checkpoint, name: str, trained: Difference, rows_bytes: int = 1 << 24) -> np.ndarray:
    """The L2 norm of every unit's value change, flat, from blocks of rows so that no whole tensor is in memory."""
    shape = base.tensors[name].shape
    axis = unit_axis(base.anatomy.place(name), shape) % len(shape)
    squares = np.zeros(score_shape(base, name, "unit"))
    matrices = shape[0] if len(shape) == 3 else 1
    height, width = (shape[-2], shape[-1]) if len(shape) > 1 else (shape[0], 1)
    step = max(1, rows_bytes // (4 * width))
    for matrix in range(matrices):
        target = squares[matrix] if len(shape) == 3 else squares
        for first in range(0, height, step):
            last = min(first + step, height)
            start, stop = (matrix * height + first) * width, (matrix * height + last) * width
            change = np.square(trained.difference(name, start, stop).astype(np.float64).reshape(last - first, width))
            if axis == len(shape) - 2 or len(shape) == 1:
                target[first:last] = change.sum(axis=1)
            else:
                target += change.sum(axis=0)
    return np.sqrt(squares).astype(np.float32).reshape(-1)
