"""The largest of many magnitudes, exactly, without sorting or holding them: radix selection on the bits of float32 numbers, which
order like the numbers. Key neurons and the comparators' thresholds come from here."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.progress import Halted, Progress, each

Chunks = Callable[[str], Iterator[tuple[int, np.ndarray]]]
"""chunks(name): (position, float32 values), from the first to the last value under that name."""


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


def largest(
    sizes: Mapping[str, int], count: int, chunks: Chunks, progress: Progress | None = None, halted: Halted | None = None
) -> tuple[dict[str, Cut], dict[str, int]]:
    """The `count` largest magnitudes under the names in `sizes` (which says how many values each has): their cuts and counts.

    Ties go by the order of the names, then by position, so that exactly `count` are chosen. Cost: three passes over the values
    (two for a single name), one chunk a thread in memory.
    """
    names = list(sizes)
    if count == 0:
        return {name: Cut(float("inf"), 0) for name in names}, dict.fromkeys(names, 0)
    threshold, above, equal = _kth_largest(names, count, chunks, progress, halted)
    if len(names) == 1:
        counted = [(above, equal)]
    else:
        bits = np.float32(threshold).view(np.uint32)
        counted = each(names, lambda name: _above_and_equal(chunks, name, bits), "counting", progress, halted)
    free = count - above
    cuts, counts = {}, {}
    for name, (name_above, name_equal) in zip(names, counted, strict=True):
        ties = min(free, name_equal)
        free -= ties
        stop = sizes[name] if ties == name_equal else _tie_stop(chunks, name, threshold, ties)
        cuts[name] = Cut(threshold, stop)
        counts[name] = name_above + ties
    return cuts, counts


def _kth_largest(
    names: list[str], k: int, chunks: Chunks, progress: Progress | None, halted: Halted | None
) -> tuple[float, int, int]:
    """The k-th largest value, how many lie above it and how many equal it."""

    def leading_counts(name: str) -> np.ndarray:
        counts = np.zeros(1 << 16, dtype=np.int64)
        for _, values in chunks(name):
            kernels.count_leading_bits(values.view(np.uint32), counts)
        return counts

    def trailing_counts(name: str) -> np.ndarray:
        counts = np.zeros(1 << 16, dtype=np.int64)
        for _, values in chunks(name):
            kernels.count_trailing_bits(values.view(np.uint32), np.uint32(leading), counts)
        return counts

    def total(count: Callable[[str], np.ndarray], phase: str) -> np.ndarray:
        return count(names[0]) if len(names) == 1 else sum(each(names, count, phase, progress, halted))

    leading, rest = _digit(total(leading_counts, "ranking"), k)
    counts = total(trailing_counts, "ranking further")
    trailing, among_equal = _digit(counts, rest)
    return float(np.uint32(leading << 16 | trailing).view(np.float32)), k - among_equal, int(counts[trailing])


def _digit(counts: np.ndarray, k: int) -> tuple[int, int]:
    """The digit of the k-th largest, and its rank among those with this digit."""
    from_top = np.cumsum(counts[::-1])
    position = int(np.searchsorted(from_top, k))
    return len(counts) - 1 - position, k - int(from_top[position] - counts[::-1][position])


def _above_and_equal(chunks: Chunks, name: str, bits: np.uint32) -> tuple[int, int]:
    above = equal = 0
    for _, values in chunks(name):
        counts = kernels.count_above_and_equal(values.view(np.uint32), bits)
        above, equal = above + counts[0], equal + counts[1]
    return above, equal


def _tie_stop(chunks: Chunks, name: str, threshold: float, ties: int) -> int:
    """The position behind the last of the first `ties` values that equal the threshold."""
    for start, values in chunks(name) if ties else ():
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
