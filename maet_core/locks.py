"""One writer a place, by the kernel's lock, which ends with the process, however that ends."""

from __future__ import annotations

import fcntl
from pathlib import Path

from maet_core.errors import OutputError


def take(descriptor: int, place: Path, doing: str = "writing") -> None:
    """Locks an open file or folder until it is closed. OutputError if another process has it: it is `doing` the `place` now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise taken(place, doing) from None


def taken(place: Path, doing: str = "writing") -> OutputError:
    return OutputError(f"{place}: another process is {doing} it now; wait for it, or choose another name")
