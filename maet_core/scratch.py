"""Memory that loops read into: used again and again, and laid out so that they do not get into each other's way."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import partial
from itertools import accumulate

import numpy as np

_PAGE_BYTES = 4096
# Loops that go through the same place of several arrays at once are half as fast when all of these lie equally far behind the start
# of a page of memory: they meet in the same few lines of the first-level cache. A multiple of the line's size, odd in the page.
_STAGGER_BYTES = 9 * 64
# More than this in one piece is not kept.
_LARGEST = 1 << 23


def staggered(sizes: Sequence[int], place: int) -> list[np.ndarray]:
    """Fresh memory, uint8 of these sizes, for arrays of which a loop goes through one beside those that have other places. It is one piece:
    numpy asks the system for large pages where there is enough of it."""
    apart = [-(-size // _PAGE_BYTES) * _PAGE_BYTES for size in sizes]
    memory = np.empty(sum(apart) + _PAGE_BYTES, np.uint8)
    first = (place * _STAGGER_BYTES - memory.ctypes.data) % _PAGE_BYTES
    starts = [first + before for before in accumulate(apart, initial=0)]
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def staggered_rows(rows: int, size: int, dtype: np.dtype) -> np.ndarray:
    """The same as a matrix [rows, size], whose rows are the arrays; two neighbours never have the same place."""
    apart = (-(-size * dtype.itemsize // _PAGE_BYTES) * _PAGE_BYTES + _STAGGER_BYTES) // dtype.itemsize
    return np.empty(rows * apart, dtype).reshape(rows, apart)[:, :size]


Memory = Callable[[int], np.ndarray]
"""memory(size): where so many bytes can be read to, uint8 of shape [size]."""


class Scratch(threading.local):
    """Some arrays of each thread, of which what they hold is over with the next use: fresh memory costs more than to read into it."""

    def __init__(self) -> None:
        self._kept: dict[int, np.ndarray] = {}

    def bytes(self, place: int, size: int) -> np.ndarray:
        """uint8 of shape [size]; the same memory whenever this thread asks for this place."""
        if size > _LARGEST:
            return np.empty(size, np.uint8)
        kept = self._kept.get(place)
        if kept is None or kept.size < size:
            (kept,) = staggered([size], place)
            self._kept[place] = kept
        return kept[:size]

    def at(self, place: int) -> Memory:
        """`bytes` for who knows the size."""
        return partial(self.bytes, place)
