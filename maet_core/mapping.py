"""Files mapped into memory: what the system keeps of them is read without a copy."""

from __future__ import annotations

import ctypes
import mmap
import os
import signal
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import ClassVar

import numpy as np

# How much of a file counts as this process's memory at most. What is let go comes back at the next look.
_KEPT_BYTES = 1 << 24
# What the system maps around the first byte of a look.
_AROUND_BYTES = 1 << 17


class MappedFile:
    """The bytes of a file, read-only, as long as this object lives.

    A file that is cut short by someone else ends the process that looks where it was: see `cut_short_said`.
    """

    mapped: ClassVar[weakref.WeakSet[MappedFile]] = weakref.WeakSet()

    def __init__(self, path: Path):
        self.path = path
        with path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        if hasattr(mmap, "MADV_SEQUENTIAL"):
            self._map.madvise(mmap.MADV_SEQUENTIAL)  # read far ahead
        self._bytes = np.frombuffer(self._map, np.uint8)
        self.size = self._bytes.size
        self._looked_at = 0
        self.mapped.add(self)

    def bytes(self, start: int, size: int) -> np.ndarray:
        """uint8, of shape [size]."""
        self._looked_at += max(size, _AROUND_BYTES)  # threads may miss some of it
        if self._looked_at > _KEPT_BYTES and hasattr(mmap, "MADV_DONTNEED"):
            self._looked_at = 0
            self._map.madvise(mmap.MADV_DONTNEED)
        return self._bytes[start : start + size]


@contextmanager
def cut_short_said() -> Iterator[None]:
    """While it lasts, a process that dies because a mapped file has become shorter, or cannot be read, says so on stderr."""
    if not hasattr(signal, "SIGBUS"):
        yield
        return
    libc = ctypes.CDLL(None)
    libc.signal.restype = ctypes.c_void_p

    @ctypes.CFUNCTYPE(None, ctypes.c_int)
    def explain(number: int) -> None:
        sizes = {str(file.path): file.size for file in MappedFile.mapped}
        shorter = [path for path, size in sizes.items() if not os.path.exists(path) or os.path.getsize(path) < size]
        which = ", ".join(sorted(shorter)) or "one of " + ", ".join(sorted(sizes))
        text = f"error: {which}: the file ended early, or its disk failed, while it was read; was it replaced? Start again\n"
        os.write(2, text.encode())
        os._exit(1)

    libc.signal.argtypes = [ctypes.c_int, type(explain)]
    before = libc.signal(signal.SIGBUS, explain)
    try:
        yield
    finally:
        libc.signal.argtypes = [ctypes.c_int, ctypes.c_void_p]
        libc.signal(signal.SIGBUS, before)
