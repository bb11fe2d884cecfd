"""The `count`-th largest magnitude between two values of a sample: one pass counts what lies above and looks at what lies between.

Differences of bf16 weights have few different values, and thousands of them are alike. Where the sample says so, the likeliest value is
tried as the threshold itself: to count what lies above it and what equals it is all there is to do then.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.progress import Halted, Progress, each
from maet_core.ranking.cuts import Cut
from maet_core.ranking.values import Values

# This share of what lies between must be alike for that to be tried; then its neighbours are.
_ALIKE, _TRIES = 1 / 16, 6
# What lies between is held in memory: this share of all values at most, or this many.
_HELD_SHARE, _HELD = 1 / 16, 1 << 18
# So many values are looked at in one go for the place of one that is known to be among them.
_PIECE = 1 << 13


@dataclass(frozen=True)
class Look:
    """What one pass found under one name: how many magnitudes lie above, and of every step those between; a number where all are alike."""

    above: int
    between: list[np.ndarray] | list[int]

    def equal(self, bits: np.uint32) -> list[int]:
        """How many equal this one, step by step."""
        return [part if isinstance(part, int) else int(np.count_nonzero(part == bits)) for part in self.between]

    def larger(self, bits: np.uint32) -> int:
        return self.above + sum(
            0 if isinstance(part, int) else int(np.count_nonzero(part > bits)) for part in self.between
        )


def find(
    values: Values, count: int, progress: Progress | None, halted: Halted | None
) -> tuple[dict[str, Cut], dict[str, int]] | None:
    """The cuts of the `count` largest, and how many they leave under each name; None where the sample misleads."""
    sample, between, at = sampled(values, count)
    scale = sample.size / values.total
    if not alike(between, at):
        return _among(values, count, between[0], between[-1], progress, halted)
    for _ in range(_TRIES):
        looks = _look(values, between[at], between[at], progress, halted)
        found = cuts_at(values, count, between[at], dict(zip(values.sizes, looks, strict=True)))
        if found is not None:
            return found
        rank, equal = _rank_and_equal(count, looks)
        begin, end = _run(between, at)
        at = (
            max(end, at + round((1 - rank) * scale))
            if rank <= 0
            else min(begin, at - round((rank - equal) * scale)) - 1
        )
        if not 0 <= at < between.size:
            break
    return None


def sampled(values: Values, count: int) -> tuple[np.ndarray, np.ndarray, int]:
    """A sample; of it what may be the threshold, sorted; the place of the likeliest one there."""
    sample = values.sample()
    low, middle, high = values.ends(sample, count)
    sample.partition([low, middle, high])
    return sample, np.sort(sample[low : high + 1]), middle - low


def _run(between: np.ndarray, at: int) -> tuple[int, int]:
    """Where the values that are like the one at this place begin and end."""
    return int(np.searchsorted(between, between[at])), int(np.searchsorted(between, between[at], "right"))


def alike(between: np.ndarray, at: int) -> bool:
    """Whether so many are like the one at this place that it may be the threshold itself."""
    begin, end = _run(between, at)
    return end - begin >= _ALIKE * between.size


def cuts_at(
    values: Values, count: int, threshold: np.uint32, looks: dict[str, Look]
) -> tuple[dict[str, Cut], dict[str, int]] | None:
    """What `find` returns, after looks at this threshold; None if it is another."""
    in_order = [looks[name] for name in values.sizes]
    rank, equal = _rank_and_equal(count, in_order)
    return _cuts(values, count, threshold, in_order) if 0 < rank <= equal else None


def _rank_and_equal(count: int, looks: list[Look]) -> tuple[int, int]:
    """Which of those that equal the threshold is the last that is chosen, and how many they are."""
    return count - sum(look.above for look in looks), sum(sum(look.between) for look in looks)


def _among(
    values: Values, count: int, low: np.uint32, high: np.uint32, progress: Progress | None, halted: Halted | None
) -> tuple[dict[str, Cut], dict[str, int]] | None:
    looks = _look(values, low, high, progress, halted)
    if looks is None:
        return None
    inside = np.concatenate([part for look in looks for part in look.between])
    rank = count - sum(look.above for look in looks)
    if not 0 < rank <= inside.size:
        return None
    inside.partition(inside.size - rank)
    return _cuts(values, count, inside[inside.size - rank], looks)


def _look(
    values: Values, low: np.uint32, high: np.uint32, progress: Progress | None, halted: Halted | None
) -> list[Look] | None:
    """One pass; None if too much lies between."""
    limit = max(_HELD, int(_HELD_SHARE * values.total))
    held, adding = 0, threading.Lock()

    def hold(size: int) -> bool:
        nonlocal held
        with adding:
            held += size
        return held <= limit

    names = list(values.sizes)

    def one(name: str) -> Look:
        return look(values, name, low, high, hold)

    # a single name needs no threads: many of them are looked at by threads at once
    looks = [one(names[0])] if len(names) == 1 else each(names, one, "ranking", progress, halted)
    return looks if held <= limit else None


def look(values: Values, name: str, low: np.uint32, high: np.uint32, hold: Callable[[int], bool] | None = None) -> Look:
    """One pass over what lies under a name; until `hold`, told how many values more are held, says no."""
    above, between, inside = 0, [], values.room(name)
    for start in range(0, values.sizes[name], kernels.RANGE_ELEMENTS):
        stop = min(start + kernels.RANGE_ELEMENTS, values.sizes[name])
        more, size = values.near(name, start, stop, low, high, inside)
        above += int(more)
        between.append(int(size) if low == high else inside[:size].copy())
        if low != high and not hold(int(size)):
            break
    return Look(above, between)


def _cuts(values: Values, count: int, threshold: np.uint32, looks: list[Look]) -> tuple[dict[str, Cut], dict[str, int]]:
    larger = [look.larger(threshold) for look in looks]
    free = count - sum(larger)
    cuts, found = {}, {}
    for name, look, above in zip(values.sizes, looks, larger, strict=True):
        equal = look.equal(threshold)
        ties = min(free, sum(equal))
        free -= ties
        stop = values.sizes[name] if ties == sum(equal) else _behind(values, name, threshold, equal, ties)
        cuts[name] = Cut(float(threshold.view(np.float32)), stop)
        found[name] = above + ties
    return cuts, found


def _behind(values: Values, name: str, threshold: np.uint32, equal: list[int], ties: int) -> int:
    """The position behind the last of the first `ties` magnitudes that equal the threshold, of which each step has so many."""
    if ties == 0:
        return 0
    passed = np.cumsum(equal)
    step = int(np.searchsorted(passed, ties))
    ties -= int(passed[step] - equal[step])
    begin, room = step * kernels.RANGE_ELEMENTS, values.room(name)
    for start in range(begin, min(begin + kernels.RANGE_ELEMENTS, values.sizes[name]), _PIECE):
        stop = min(start + _PIECE, begin + kernels.RANGE_ELEMENTS, values.sizes[name])
        _, here = values.near(name, start, stop, threshold, threshold, room)
        if here >= ties:
            magnitudes = np.abs(values.read(name, start, stop)).view(np.uint32)
            return start + int(np.flatnonzero(magnitudes == threshold)[ties - 1]) + 1
        ties -= int(here)
    raise RuntimeError(f"{name}: it has changed since it was counted")
