"""Small files that are whole or not there, and the kernel's locks, which end with the process however that ends."""

from __future__ import annotations

import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from maet_core.whole_files import appearing


def write_json(path: Path, content: dict[str, Any]) -> None:
    """Replaces the file in one move: a reader finds the old content or the new. Raises OSError; then the old is kept."""
    with appearing(path, durable=True) as part:
        part.write_text(json.dumps(content, ensure_ascii=False, indent=1), "utf-8")


def read_json(path: Path) -> dict[str, Any] | None:
    """None for a file that is missing, or that holds no JSON object."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def take_lock(path: Path, patience_seconds: float = 0.0) -> int | None:
    """A file descriptor that holds the lock, or None if somebody else does.

    Whoever inherits the descriptor holds the lock too. A moment of patience outlasts those who only look (`is_locked`).
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    until = time.monotonic() + patience_seconds
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return descriptor
        except BlockingIOError:
            if time.monotonic() >= until:
                os.close(descriptor)
                return None
            time.sleep(0.01)


def is_locked(path: Path) -> bool:
    """Whether any process holds the lock now."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return False
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Waits for the lock and holds it inside; for moments only."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
