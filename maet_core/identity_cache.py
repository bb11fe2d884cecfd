"""Digests of files that were hashed before, so that opening a model a second time costs a stat.

A file is known by its path, size, inode and modification time. The cache lies in `MAET_CACHE` (default: `maet` in the user's
cache folder); losing it costs time only.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path


def lookup(path: Path) -> dict[str, str] | None:
    """The stored digests (tensor name to hex), or None if the file is new or has changed."""
    try:
        entry = json.loads(_entry_path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return entry["digests"] if entry.get("stamp") == _stamp(path) else None


def store(path: Path, digests: dict[str, str]) -> dict[str, str]:
    """Keeps the digests and returns them; a cache that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError):
        entry = _entry_path(path)
        entry.parent.mkdir(parents=True, exist_ok=True)
        part = entry.with_suffix(f".{os.getpid()}.part")
        part.write_text(json.dumps({"stamp": _stamp(path), "digests": digests}), "utf-8")
        os.replace(part, entry)
    return digests


def _entry_path(path: Path) -> Path:
    root = os.environ.get("MAET_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maet"
    return Path(root) / "identity" / (hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32] + ".json")


def _stamp(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]
