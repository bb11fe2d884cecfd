"""What was computed about files once, and is looked up the next time: which neurons are key, how similar two models are.

Results lie in the user's cache folder (see `identity.cache_folder`), under a hash of everything that they depend on; losing them costs
time only. Files are known by their path, size, inode and modification time.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import maet_core
from maet_core.identity import cache_folder, file_stamp
from maet_core.whole_files import appearing

_KEPT = 256  # results of a kind
# A file that was written this recently may be written again without another modification time.
_SETTLED_NANOSECONDS = 2_000_000_000


def stamps(paths: Iterable[Path]) -> dict[str, list[int]] | None:
    """What tells that these files are still the same; None if that cannot be told yet."""
    found = {str(path.resolve()): file_stamp(path) for path in paths}
    newest = max((modified for _, modified, _ in found.values()), default=0)
    return found if newest < time.time_ns() - _SETTLED_NANOSECONDS else None


def recall(kind: str, about: Any) -> Any | None:
    """What `remember` was told about this, or None."""
    path = _path(kind, about)
    try:
        found = json.loads(path.read_text("utf-8"))["found"]
        os.utime(path)  # it is the oldest that goes
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found


def remember(kind: str, about: Any, found: Any) -> None:
    """`about` and `found` are anything that JSON holds; a cache that cannot be written is no reason to fail."""
    path = _path(kind, about)
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        with appearing(path) as part:
            part.write_text(json.dumps({"about": about, "found": found}), "utf-8")
        kept = sorted(path.parent.glob("*.json"), key=lambda file: file.stat().st_mtime_ns)
        for old in kept[:-_KEPT]:
            old.unlink(missing_ok=True)


def _path(kind: str, about: Any) -> Path:
    text = json.dumps([maet_core.__version__, about], sort_keys=True)
    return cache_folder() / kind / (hashlib.sha256(text.encode()).hexdigest()[:32] + ".json")
