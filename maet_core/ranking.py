"""The largest of many magnitudes, exactly, without sorting or holding them: a sample says how the threshold must begin, and one pass
counts how all of them begin and keeps the ones that begin like it. Key neurons and the comparators' thresholds come from here.

Magnitudes are compared by the bits of float32 numbers, which order like the numbers.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.progress import Halted, Progress, each

Read = Callable[[str, int, int], np.ndarray]
"""read(name, start, stop): these of the flat float32 values under a name."""

Near = Callable[[str, int, int, np.uint32, np.uint32, np.ndarray], tuple[int, int]]
"""near(name, start, stop, low, high, inside): what `kernels.above_and_inside` tells of the bits of these values."""


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

    def limit(self, start: int, stop: int) -> np.uint32 | None:
        """What the bits of a magnitude must be above to be chosen between these positions; None if that does not tell."""
        threshold = np.float32(self.threshold).view(np.uint32)
        if start >= self.tie_stop:
            return threshold
        return threshold - np.uint32(1) if stop <= self.tie_stop and threshold > 0 else None


_SAMPLE, _SEGMENT = 1 << 20, 512
# Values next to the threshold that are held before they are counted.
_LOOSE = 1 << 18
_LEAST_SAMPLE, _LONG_SEGMENT = 1 << 16, 1 << 12
# So many chunks a thread ranks at once, for each range has its costs beside the loops.
_CHUNKS_AT_ONCE = 4
# The threshold's rank in the sample is off by this many standard deviations at most; neighbours resemble each other, so it is many.
_DEVIATIONS = 8


def largest(
    sizes: Mapping[str, int],
    count: int,
    read: Read,
    progress: Progress | None = None,
    halted: Halted | None = None,
    near: Near | None = None,
) -> tuple[dict[str, Cut], dict[str, int]]:
    """The `count` largest magnitudes under the names in `sizes` (which says how many values each has): their cuts and counts.

    Ties go by the order of the names, then by position, so that exactly `count` are chosen. Cost: a sample and one pass over the
    values (three where the sample misleads), one chunk a thread and the values next to the threshold in memory.
    """
    return largest_of_each(sizes, [count], read, progress, halted, near)[0]


def largest_of_each(
    sizes: Mapping[str, int],
    counts: Sequence[int],
    read: Read,
    progress: Progress | None = None,
    halted: Halted | None = None,
    near: Near | None = None,
) -> list[tuple[dict[str, Cut], dict[str, int]]]:
    """`largest` for several counts, in the same one pass over the values. `near` is used in the place of `read` where it can be."""
    near = near or _near_by(read)
    names, asked = list(sizes), sorted({count for count in counts if count})
    found = {0: ({name: Cut(float("inf"), 0) for name in names}, dict.fromkeys(names, 0))}
    if asked:
        wanted = _guess(sizes, asked, read)
        tallies = _tally(sizes, wanted, read, near, progress, halted)
        exact = _beginnings(tallies, asked)
        if not wanted[exact].all():  # the sample misled
            wanted = np.zeros_like(wanted)
            exact = _beginnings(_tally(sizes, wanted, read, near, progress, halted), asked)
            wanted[exact] = True
            tallies = _tally(sizes, wanted, read, near, progress, halted)
        for count, begins in zip(asked, exact, strict=True):
            found[count] = _cuts(sizes, count, int(begins), tallies, read)
    return [found[count] for count in counts]


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


def _guess(sizes: Mapping[str, int], counts: Sequence[int], read: Read) -> np.ndarray:
    """How the `count`-th largest magnitudes may begin (bool, by the first 16 bits), as a sample shows it."""
    total = sum(sizes.values())
    size, segment = _SAMPLE, _SEGMENT
    if len(sizes) == 1:  # one of very many tensors: a smaller sample, of fewer pieces
        size, segment = min(_SAMPLE, max(total // 16, _LEAST_SAMPLE)), _LONG_SEGMENT
    spacing = max(1, total // max(1, size // segment))
    parts, passed = [], 0
    for name, numel in sizes.items():
        first = -passed % spacing if total > size else 0
        step, length = (spacing, segment) if total > size else (kernels.CHUNK_ELEMENTS, kernels.CHUNK_ELEMENTS)
        parts += [read(name, start, min(start + length, numel)) for start in range(first, numel, step)]
        passed += numel
    sample = np.abs(np.concatenate(parts)).view(np.uint32)
    wanted = np.zeros(1 << 16, np.bool_)
    for count in counts:
        share = count / total
        spread = 0 if sample.size == total else _DEVIATIONS * (sample.size * share * (1 - share)) ** 0.5 + _DEVIATIONS
        ends = [round(sample.size * (1 - share) + way * spread) for way in (-1, 1)]
        low, high = (min(max(end, 0), sample.size - 1) for end in ends)
        sample.partition([low, high])
        wanted[sample[low] >> 16 : (sample[high] >> 16) + 1] = True
    return wanted


def _near_by(read: Read) -> Near:
    def near(name: str, start: int, stop: int, low: np.uint32, high: np.uint32, inside: np.ndarray) -> tuple[int, int]:
        return kernels.above_and_inside(read(name, start, stop).view(np.uint32), low, high, inside)

    return near


def _tally(
    sizes: Mapping[str, int],
    wanted: np.ndarray,
    read: Read,
    near: Near,
    progress: Progress | None,
    halted: Halted | None,
) -> list[_Tally]:
    runs = np.flatnonzero(wanted)
    step = _CHUNKS_AT_ONCE * kernels.CHUNK_ELEMENTS
    one_run = runs.size > 0 and runs.size == runs[-1] - runs[0] + 1

    def tally(name: str) -> _Tally:
        begin_counts, found, loose = np.zeros(1 << 16, np.int64), [], []
        room = np.empty(min(step, sizes[name]) + 1, np.uint32)
        for start in range(0, sizes[name], step):
            stop = min(start + step, sizes[name])
            inside = room[: stop - start + 1]
            if one_run:  # what lies above need not be told apart, nor what lies below: that is several times as fast
                low, high = np.uint32(runs[0] << 16), np.uint32(runs[-1] << 16 | 0xFFFF)
                above, size = near(name, start, stop, low, high, inside)
                begin_counts[runs[-1] + 1] += above
            else:
                bits = read(name, start, stop).view(np.uint32)
                size = kernels.count_beginnings(bits, wanted, begin_counts, inside)
            loose.append(inside[:size].copy())
            if stop == sizes[name] or sum(map(len, loose)) > _LOOSE:
                found.append(np.unique(np.concatenate(loose), return_counts=True))
                loose = []
        values = np.concatenate([values for values, _ in found] or [np.empty(0, np.uint32)])
        counts = np.concatenate([counts for _, counts in found] or [np.empty(0, np.int64)])
        if one_run:
            np.add.at(begin_counts, values >> 16, counts)
        begins = np.flatnonzero(begin_counts)
        return _Tally(begins, begin_counts[begins], values, counts)

    names = list(sizes)
    # a single name needs no threads: many of them are looked at by threads at once
    return [tally(names[0])] if len(names) == 1 else each(names, tally, "ranking", progress, halted)


def _beginnings(tallies: list[_Tally], counts: Sequence[int]) -> np.ndarray:
    """The first 16 bits of the `count`-th largest magnitude, for each of the counts."""
    totals = np.zeros(1 << 16, np.int64)
    for tally in tallies:
        totals[tally.begins] += tally.begin_counts
    return len(totals) - 1 - np.searchsorted(np.cumsum(totals[::-1]), counts)


def _cuts(
    sizes: Mapping[str, int], count: int, begin: int, tallies: list[_Tally], read: Read
) -> tuple[dict[str, Cut], dict[str, int]]:
    """The cuts of the `count` largest, and how many they leave under each name; the `count`-th begins with these 16 bits."""
    near = [tally.beginning(begin) for tally in tallies]
    bits, free = _threshold(near, count)
    threshold = float(bits.view(np.float32))
    cuts, found = {}, {}
    for name, (above, values, counts) in zip(sizes, near, strict=True):
        equal = int(counts[values == bits].sum())
        ties = min(free, equal)
        free -= ties
        stop = sizes[name] if ties == equal else _tie_stop(sizes[name], read, name, threshold, ties)
        cuts[name] = Cut(threshold, stop)
        found[name] = above + int(counts[values > bits].sum()) + ties
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
