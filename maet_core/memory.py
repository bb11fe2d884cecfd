"""How much memory is free for models that stay resident."""

from __future__ import annotations

import os
from pathlib import Path


def available_bytes() -> int:
    """What can be allocated without pushing anything out: the system's word, or the container's limit where that is less."""
    return min(_of_system(), *_of_container())


def _of_system() -> int:
    try:
        for line in Path("/proc/meminfo").read_text("ascii").splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    # without /proc (macOS) nobody says what is free: half of what is there
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _of_container() -> list[int]:
    group = Path("/sys/fs/cgroup")
    try:
        return [int((group / "memory.max").read_text("ascii")) - int((group / "memory.current").read_text("ascii"))]
    except (OSError, ValueError):  # no cgroup v2 here, or "max": no limit
        return [1 << 62]
