"""The largest magnitudes, whatever they are: a sample says how the thresholds must begin, and one pass counts how all of them begin and
keeps the ones that begin like it; three passes where the sample misleads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.progress import Halted, Progress, each
from maet_core.ranking.cuts import Cut
from maet_core.ranking.values import Values

# Values next to the threshold that are held before they are counted.
_LOOSE = 1 << 18


def find(
    values: Values, counts: Sequence[int], progress: Progress | None, halted: Halted | None
) -> list[tuple[dict[str, Cut], dict[str, int]]]:
    """For each of the counts (none is 0) the cuts of so many largest, and how many they leave under each name."""
    wanted = _guess(values, counts)
    tallies = _tally(values, wanted, progress, halted)
    exact = _beginnings(tallies, counts)
    if not wanted[exact].all():  # the sample misled
        wanted = np.zeros_like(wanted)
        exact = _beginnings(_tally(values, wanted, progress, halted), counts)
        wanted[exact] = True
        tallies = _tally(values, wanted, progress, halted)
    return [_cuts(values, count, int(begins), tallies) for count, begins in zip(counts, exact, strict=True)]


@dataclass(frozen=True)
class _Tally:
    """The magnitudes under one name, as bits of float32 numbers: by their first 16 bits, how many there are (`begins`, sorted, and
    `begin_counts`; where a single run of beginnings was wanted, the next one stands for all above, and none below is counted); of those
    that begin as was wanted, each value and how often it is there, in one entry or several."""

    begins: np.ndarray
    begin_counts: np.ndarray
    values: np.ndarray
    counts: np.ndarray

    def beginning(self, begin: int) -> tuple[int, np.ndarray, np.ndarray]:
        """How many lie above all that begin like this, and those values with their counts."""
        same = self.values >> 16 == begin
        return int(self.begin_counts[self.begins > begin].sum()), self.values[same], self.counts[same]


def _guess(values: Values, counts: Sequence[int]) -> np.ndarray:
    """How the `count`-th largest magnitudes may begin (bool, by the first 16 bits), as a sample shows it."""
    sample = values.sample()
    wanted = np.zeros(1 << 16, np.bool_)
    for count in counts:
        low, _, high = values.ends(sample, count)
        sample.partition([low, high])
        wanted[sample[low] >> 16 : (sample[high] >> 16) + 1] = True
    return wanted


def _tally(values: Values, wanted: np.ndarray, progress: Progress | None, halted: Halted | None) -> list[_Tally]:
    runs = np.flatnonzero(wanted)
    sizes, step = values.sizes, kernels.RANGE_ELEMENTS
    one_run = runs.size > 0 and runs.size == runs[-1] - runs[0] + 1

    def tally(name: str) -> _Tally:
        begin_counts, found, loose = np.zeros(1 << 16, np.int64), [], []
        inside = values.room(name)
        for start in range(0, sizes[name], step):
            stop = min(start + step, sizes[name])
            if one_run:  # what lies above need not be told apart, nor what lies below: that is several times as fast
                low, high = np.uint32(runs[0] << 16), np.uint32(runs[-1] << 16 | 0xFFFF)
                above, size = values.near(name, start, stop, low, high, inside)
                begin_counts[runs[-1] + 1] += above
            else:
                bits = values.read(name, start, stop).view(np.uint32)
                size = kernels.count_beginnings(bits, wanted, begin_counts, inside)
            loose.append(inside[:size].copy())
            if stop == sizes[name] or sum(map(len, loose)) > _LOOSE:
                found.append(np.unique(np.concatenate(loose), return_counts=True))
                loose = []
        near = np.concatenate([near for near, _ in found] or [np.empty(0, np.uint32)])
        counts = np.concatenate([counts for _, counts in found] or [np.empty(0, np.int64)])
        if one_run:
            np.add.at(begin_counts, near >> 16, counts)
        begins = np.flatnonzero(begin_counts)
        return _Tally(begins, begin_counts[begins], near, counts)

    names = list(sizes)
    # a single name needs no threads: many of them are looked at by threads at once
    return [tally(names[0])] if len(names) == 1 else each(names, tally, "ranking", progress, halted)


def _beginnings(tallies: list[_Tally], counts: Sequence[int]) -> np.ndarray:
    """The first 16 bits of the `count`-th largest magnitude, for each of the counts."""
    totals = np.zeros(1 << 16, np.int64)
    for tally in tallies:
        totals[tally.begins] += tally.begin_counts
    return len(totals) - 1 - np.searchsorted(np.cumsum(totals[::-1]), counts)


def _cuts(values: Values, count: int, begin: int, tallies: list[_Tally]) -> tuple[dict[str, Cut], dict[str, int]]:
    """The cuts of the `count` largest, and how many they leave under each name; the `count`-th begins with these 16 bits."""
    near = [tally.beginning(begin) for tally in tallies]
    bits, free = _threshold(near, count)
    threshold = float(bits.view(np.float32))
    cuts, found = {}, {}
    for (name, size), (above, begun, counts) in zip(values.sizes.items(), near, strict=True):
        equal = int(counts[begun == bits].sum())
        ties = min(free, equal)
        free -= ties
        cuts[name] = Cut(threshold, size if ties == equal else _tie_stop(values, name, threshold, ties))
        found[name] = above + int(counts[begun > bits].sum()) + ties
    return cuts, found


def _threshold(near: list[tuple[int, np.ndarray, np.ndarray]], count: int) -> tuple[np.uint32, int]:
    """The bits of the `count`-th largest magnitude, and how many of its equals are among the `count` largest."""
    everywhere = np.concatenate([values for _, values, _ in near])
    values = np.unique(everywhere)
    counts = np.bincount(np.searchsorted(values, everywhere), np.concatenate([counts for *_, counts in near]))
    counts = counts[::-1].astype(np.int64)
    rank = count - sum(above for above, *_ in near)
    position = int(np.searchsorted(np.cumsum(counts), rank))
    return values[::-1][position], rank - int(counts[:position].sum())


def _tie_stop(values: Values, name: str, threshold: float, ties: int) -> int:
    """The position behind the last of the first `ties` values that equal the threshold."""
    size = values.sizes[name]
    for start in range(0, size, kernels.RANGE_ELEMENTS) if ties else ():
        part = values.read(name, start, min(start + kernels.RANGE_ELEMENTS, size))
        positions = np.flatnonzero(np.abs(part) == np.float32(threshold))
        if len(positions) >= ties:
            return start + int(positions[ties - 1]) + 1
        ties -= len(positions)
    return 0
