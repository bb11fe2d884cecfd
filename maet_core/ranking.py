"""The largest of many magnitudes, exactly, without sorting or holding them: a sample says where the threshold must lie, and one pass
counts what is above and what is there. Key neurons and the comparators' thresholds come from here.

Magnitudes are compared by the bits of float32 numbers, which order like the numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.progress import Halted, Progress, each

Read = Callable[[str, int, int], np.ndarray]
"""read(name, start, stop): these of the flat float32 values under a name."""


_REMEMBERED_CUTS = 1 << 15


@dataclass(frozen=True)
class Cut:
    """What lies above `threshold` is chosen, and what equals it before position `tie_stop`."""

    threshold: float
    tie_stop: int

    def chosen(self, values: np.ndarray, start: int) -> np.ndarray:
        """Whether each of `values`, flat float32 from position `start`, is chosen: bool."""
        chosen = np.empty(values.size, np.bool_)
        threshold = np.float32(self.threshold).view(np.uint32)
        kernels.largest(values.view(np.uint32), threshold, self.tie_stop - start, chosen)
        return chosen


_SAMPLE, _SEGMENT = 1 << 20, 256
# The threshold's rank in the sample is off by this many standard deviations at most; neighbours resemble each other, so it is many.
_DEVIATIONS = 8


def largest(
    sizes: Mapping[str, int], count: int, read: Read, progress: Progress | None = None, halted: Halted | None = None
) -> tuple[dict[str, Cut], dict[str, int]]:
    """The `count` largest magnitudes under the names in `sizes` (which says how many values each has): their cuts and counts.

    Ties go by the order of the names, then by position, so that exactly `count` are chosen. Cost: a sample and one pass over the
    values (two more where the sample misleads), one chunk a thread and the values next to the threshold in memory.
    """
    names = list(sizes)
    if count == 0:
        return {name: Cut(float("inf"), 0) for name in names}, dict.fromkeys(names, 0)
    tallies = _tally(sizes, _guess(sizes, count, read), read, progress, halted)
    if not _decides(tallies, count):
        tallies = _tally(sizes, _bracket(sizes, count, read, progress, halted), read, progress, halted)
    bits, free = _threshold(tallies, count)
    threshold = float(bits.view(np.float32))
    cuts, counts = {}, {}
    for name, tally in zip(names, tallies, strict=True):
        above, equal = tally.above_and_equal(bits)
        ties = min(free, equal)
        free -= ties
        stop = sizes[name] if ties == equal else _tie_stop(sizes[name], read, name, threshold, ties)
        cuts[name] = Cut(threshold, stop)
        counts[name] = above + ties
    return cuts, counts


@dataclass(frozen=True)
class _Tally:
    """How many magnitudes under one name lie above a bracket, and the ones inside: each value, as bits, and how often it is there."""

    above: int
    values: np.ndarray
    counts: np.ndarray

    def above_and_equal(self, bits: np.uint32) -> tuple[int, int]:
        first, last = np.searchsorted(self.values, bits), np.searchsorted(self.values, bits, "right")
        return self.above + int(self.counts[last:].sum()), int(self.counts[first:last].sum())


def _guess(sizes: Mapping[str, int], count: int, read: Read) -> tuple[np.uint32, np.uint32]:
    """The lowest and the highest bits that the `count`-th largest magnitude has, as a sample shows it."""
    total = sum(sizes.values())
    spacing = max(1, total // (_SAMPLE // _SEGMENT))
    parts, passed = [], 0
    for name, size in sizes.items():
        first = -passed % spacing if total > _SAMPLE else 0
        step, length = (spacing, _SEGMENT) if total > _SAMPLE else (kernels.CHUNK_ELEMENTS, kernels.CHUNK_ELEMENTS)
        parts += [read(name, start, min(start + length, size)) for start in range(first, size, step)]
        passed += size
    sample = np.abs(np.concatenate(parts)).view(np.uint32)
    share = count / total
    spread = 0 if sample.size == total else _DEVIATIONS * (sample.size * share * (1 - share)) ** 0.5 + _DEVIATIONS
    ends = [round(sample.size * (1 - share) + way * spread) for way in (-1, 1)]
    low, high = (min(max(end, 0), sample.size - 1) for end in ends)
    sample.partition([low, high])
    if sample.size == total:
        return sample[low], sample[high]
    # what lies beyond all of the sample is not in it
    return (
        np.uint32(0) if ends[0] < 0 else sample[low],
        np.uint32(0x7FFFFFFF) if ends[1] >= sample.size else sample[high],
    )


def _bracket(
    sizes: Mapping[str, int], count: int, read: Read, progress: Progress | None, halted: Halted | None
) -> tuple[np.uint32, np.uint32]:
    """The same for certain, from a pass over all values: the bits that begin like those of the `count`-th largest magnitude."""

    def leading_counts(name: str) -> np.ndarray:
        counts = np.zeros(1 << 16, dtype=np.int64)
        for start in range(0, sizes[name], kernels.CHUNK_ELEMENTS):
            values = read(name, start, min(start + kernels.CHUNK_ELEMENTS, sizes[name]))
            kernels.count_leading_bits(values.view(np.uint32), counts)
        return counts

    from_top = np.cumsum(sum(_each(list(sizes), leading_counts, "ranking", progress, halted))[::-1])
    leading = len(from_top) - 1 - int(np.searchsorted(from_top, count))
    return np.uint32(leading << 16), np.uint32(leading << 16 | 0xFFFF)


def _tally(
    sizes: Mapping[str, int],
    bracket: tuple[np.uint32, np.uint32],
    read: Read,
    progress: Progress | None,
    halted: Halted | None,
) -> list[_Tally]:
    def tally(name: str) -> _Tally:
        above, found = 0, []
        for start in range(0, sizes[name], kernels.CHUNK_ELEMENTS):
            values = read(name, start, min(start + kernels.CHUNK_ELEMENTS, sizes[name]))
            inside = np.empty(values.size, np.uint32)
            more, size = kernels.above_and_inside(values.view(np.uint32), *bracket, inside)
            above += more
            found.append(np.unique(inside[:size], return_counts=True))
        values, where = np.unique(np.concatenate([values for values, _ in found] or [[]]), return_inverse=True)
        counts = np.bincount(where, np.concatenate([counts for _, counts in found] or [[]]), len(values))
        return _Tally(above, values.astype(np.uint32), counts.astype(np.int64))

    return _each(list(sizes), tally, "ranking", progress, halted)


def _each(names: list[str], work: Callable, phase: str, progress: Progress | None, halted: Halted | None) -> list:
    """As `each`, but a single name needs no threads: many of them are looked at by threads at once."""
    return [work(names[0])] if len(names) == 1 else each(names, work, phase, progress, halted)


def _decides(tallies: list[_Tally], count: int) -> bool:
    """Whether the `count`-th largest value is among the ones inside the bracket."""
    above = sum(tally.above for tally in tallies)
    return above < count <= above + sum(int(tally.counts.sum()) for tally in tallies)


def _threshold(tallies: list[_Tally], count: int) -> tuple[np.uint32, int]:
    """The bits of the `count`-th largest magnitude, and how many of its equals are among the `count` largest."""
    values, where = np.unique(np.concatenate([tally.values for tally in tallies]), return_inverse=True)
    counts = np.bincount(where, np.concatenate([tally.counts for tally in tallies]))[::-1].astype(np.int64)
    rank = count - sum(tally.above for tally in tallies)
    position = int(np.searchsorted(np.cumsum(counts), rank))
    return values[::-1][position], rank - int(counts[:position].sum())


def _tie_stop(size: int, read: Read, name: str, threshold: float, ties: int) -> int:
    """The position behind the last of the first `ties` values that equal the threshold."""
    for start in range(0, size, kernels.CHUNK_ELEMENTS) if ties else ():
        values = read(name, start, min(start + kernels.CHUNK_ELEMENTS, size))
        positions = np.flatnonzero(np.abs(values) == np.float32(threshold))
        if len(positions) >= ties:
            return start + int(positions[ties - 1]) + 1
        ties -= len(positions)
    return 0


class Cuts:
    """Thresholds that were found, so that each is looked for once, whichever thread needs it first."""

    def __init__(self) -> None:
        self._found: dict[Hashable, Future[Cut]] = {}
        self._lock = threading.Lock()

    def get(self, key: Hashable, find: Callable[[], Cut]) -> Cut:
        with self._lock:
            future = self._found.get(key)
            if mine := future is None:
                while len(self._found) >= _REMEMBERED_CUTS:
                    del self._found[next(iter(self._found))]
                future = self._found[key] = Future()
        if mine:
            try:
                future.set_result(find())
            except BaseException as error:
                with self._lock:
                    self._found.pop(key, None)
                future.set_exception(error)
        return future.result()
