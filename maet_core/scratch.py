"""Memory that loops read into: used again and again, and laid out so that they do not get into each other's way."""

from __future__ import annotations

import threading

import numpy as np

PAGE_BYTES = 4096
# Loops that go through the same place of several arrays at once are half as fast when all of these lie equally far behind the start
# of a page of memory: they meet in the same few lines of the first-level cache. A multiple of the line's size, odd in the page.
STAGGER_BYTES = 9 * 64
# More than this in one piece is not kept.
_LARGEST = 1 << 23


def staggered(size: int, place: int) -> np.ndarray:
    """Fresh memory, uint8 of shape [size], for the array with this number among those that a loop goes through side by side."""
    memory = np.empty(size + PAGE_BYTES, np.uint8)
    first = (place * STAGGER_BYTES - memory.ctypes.data) % PAGE_BYTES
    return memory[first : first + size]


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
            kept = self._kept[place] = staggered(size, place)
        return kept[:size]
