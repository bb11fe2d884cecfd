"""How much memory is free for models that stay resident."""

from __future__ import annotations

from pathlib import Path

import psutil


def available_bytes() -> int:
    """What can be allocated without pushing anything out: the system's word, or the container's limit where that is less."""
    group = Path("/sys/fs/cgroup")
    available = psutil.virtual_memory().available
    try:
        limit = int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no limit
        return available
    return min(available, limit)
