"""Content hashes of weight files: computed block by block, in passing where the bytes are read anyway, and remembered.

A tensor's digest is the xxh3-128 of its blocks' xxh3-128 digests. Blocks can be hashed in any order and by many threads.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from pathlib import Path

import xxhash

from maet_core.whole_files import appearing

BLOCK_BYTES = 1 << 22  # part of what an identity means: another size would give another hash


def digest_of_blocks(blocks: list[bytes]) -> str:
    whole = xxhash.xxh3_128()
    for block in blocks:
        whole.update(block)
    return whole.hexdigest()


class BlockDigests:
    """Collects the digests of one file's blocks while others read them.

    Reads that go through a block from its start to its end, in order, complete it; whatever else is read is ignored. One block
    must not be read by two threads at once; two blocks may.
    """

    def __init__(self) -> None:
        self._done: dict[tuple[str, int], bytes] = {}
        self._open: dict[tuple[str, int], tuple[xxhash.xxh3_128, int]] = {}

    def saw(self, name: str, nbytes: int, offset: int, data: memoryview) -> None:
        """`data` are the bytes from `offset` of a tensor that has `nbytes`."""
        while data:
            block, within = divmod(offset, BLOCK_BYTES)
            end = min((block + 1) * BLOCK_BYTES, nbytes)
            part, data = data[: end - offset], data[end - offset :]
            if (name, block) not in self._done:
                self._extend((name, block), within, part, complete=offset + len(part) == end)
            offset += len(part)

    def _extend(self, key: tuple[str, int], within: int, part: memoryview, complete: bool) -> None:
        state, seen = self._open.pop(key, (None, 0))
        if within == 0:
            state, seen = xxhash.xxh3_128(), 0
        if state is None or within != seen:
            return
        state.update(part)
        if complete:
            self._done[key] = state.digest()
        else:
            self._open[key] = (state, seen + len(part))

    def digest(self, name: str, nbytes: int) -> str | None:
        """The tensor's digest, if every block of it was seen."""
        blocks = [self._done.get((name, block)) for block in range(-(-nbytes // BLOCK_BYTES))]
        return None if None in blocks else digest_of_blocks(blocks)


def lookup(path: Path) -> dict[str, str] | None:
    """The remembered digests of a file (tensor name to hex), or None if it is new or has changed.

    A file is known by its path, size, inode and modification time. The memory lies in `MAET_CACHE` (default: `maet` in the
    user's cache folder); losing it costs time only.
    """
    try:
        entry = json.loads(_entry_path(path).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return entry["digests"] if entry.get("stamp") == file_stamp(path) else None


def store(path: Path, digests: dict[str, str]) -> None:
    """Remembers the digests; a cache that cannot be written is no reason to fail."""
    with contextlib.suppress(OSError):
        entry = _entry_path(path)
        entry.parent.mkdir(parents=True, exist_ok=True)
        with appearing(entry) as part:
            part.write_text(json.dumps({"stamp": file_stamp(path), "digests": digests}), "utf-8")


def file_stamp(path: Path) -> list[int]:
    """What tells without reading that a file is still the same."""
    status = path.stat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def cache_folder() -> Path:
    """What this machine's user has computed once: `MAET_CACHE`, or `maet` in the user's cache folder."""
    root = os.environ.get("MAET_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "maet"
    return Path(root)


def _entry_path(path: Path) -> Path:
    return cache_folder() / "identity" / (hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:32] + ".json")
