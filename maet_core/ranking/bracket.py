"""The `count`-th largest magnitude between two values of a sample: one pass counts what lies above and looks at what lies between.

Differences of bf16 weights have few different values, and thousands of them are alike. Where the sample says so, the likeliest value is
tried as the threshold itself: to count what lies above it and what equals it is all there is to do then.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np

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
class _Look:
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
    sample = values.sample()
    low, middle, high = values.ends(sample, count)
    sample.partition([low, middle, high])
    between = np.sort(sample[low : high + 1])
    at, scale = middle - low, sample.size / values.total
    begin, end = _run(between, at)
    if end - begin < _ALIKE * between.size:
        return _among(values, count, between[0], between[-1], progress, halted)
    for _ in range(_TRIES):
        looks = _look(values, between[at], between[at], progress, halted)
        rank, equal = count - sum(look.above for look in looks), sum(sum(look.between) for look in looks)
        if 0 < rank <= equal:
            return _cuts(values, count, between[at], looks)
        begin, end = _run(between, at)
        at = (
            max(end, at + round((1 - rank) * scale))
            if rank <= 0
            else min(begin, at - round((rank - equal) * scale)) - 1
        )
        if not 0 <= at < between.size:
            break
    return None


def _run(between: np.ndarray, at: int) -> tuple[int, int]:
    """Where the values that are like the one at this place begin and end."""
    return int(np.searchsorted(between, between[at])), int(np.searchsorted(between, between[at], "right"))


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
) -> list[_Look] | None:
    """One pass; None if too much lies between."""
    alike, limit = low == high, max(_HELD, int(_HELD_SHARE * values.total))
    held, adding = 0, threading.Lock()

    def look(name: str) -> _Look:
        nonlocal held
        above, between, inside = 0, [], values.room(name)
        for start in range(0, values.sizes[name], values.step):
            stop = min(start + values.step, values.sizes[name])
            more, size = values.near(name, start, stop, low, high, inside)
            above += int(more)
            between.append(int(size) if alike else inside[:size].copy())
            if not alike:
                with adding:
                    held += int(size)
            if held > limit:
                break
        return _Look(above, between)

    names = list(values.sizes)
    # a single name needs no threads: many of them are looked at by threads at once
    looks = [look(names[0])] if len(names) == 1 else each(names, look, "ranking", progress, halted)
    return looks if held <= limit else None


def _cuts(
    values: Values, count: int, threshold: np.uint32, looks: list[_Look]
) -> tuple[dict[str, Cut], dict[str, int]]:
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
    begin, room = step * values.step, values.room(name)
    for start in range(begin, min(begin + values.step, values.sizes[name]), _PIECE):
        stop = min(start + _PIECE, begin + values.step, values.sizes[name])
        _, here = values.near(name, start, stop, threshold, threshold, room)
        if here >= ties:
            magnitudes = np.abs(values.read(name, start, stop)).view(np.uint32)
            return start + int(np.flatnonzero(magnitudes == threshold)[ties - 1]) + 1
        ties -= int(here)
    raise RuntimeError(f"{name}: it has changed since it was counted")
