"""The processes of a run, found and ended. A process is known by what it was started with, never by its number alone."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

MARK = "MAET_RUN"  # in the environment of everything that a job starts: the run directory


def processes_of(run: Path, leader: int = 0) -> list[int]:
    """All living processes that the run's command has started, those that left its group (torchrun's workers do) included.

    Where there is no /proc it is the recorded leader alone.
    """
    if not Path("/proc/self/environ").exists():
        return [leader] if leader and _exists(leader) else []
    wanted = f"{MARK}={run}".encode()
    found = []
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            with contextlib.suppress(OSError):  # it has ended, or is somebody else's
                if wanted in Path(entry.path, "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def end(run: Path, leader: int, grace_seconds: float, alive: Callable[[], bool]) -> None:
    """SIGTERM to the leader's group, time to save, then SIGKILL to everything that the run has started. Returns once `alive()`
    is false, or when nothing more can be done.

    SIGTERM comes once: torchrun hands it on to its workers, and one that is asked twice may think that there is no time.
    """
    found = processes_of(run, leader)
    _signal({leader} if leader in found else set(found), signal.SIGTERM)
    if not _until(lambda: not alive(), grace_seconds):
        _signal(set(processes_of(run, leader)), signal.SIGKILL)
        _until(lambda: not alive(), 10)


def is_supervisor(process: int, run: Path) -> bool:
    """Whether this process, on this machine, supervises the run."""
    command = Path(f"/proc/{process}/cmdline")
    if not process:
        return False
    if not Path("/proc/self/cmdline").exists():
        return _exists(process)
    try:
        words = command.read_bytes().split(b"\0")
    except OSError:
        return False
    return b"maet_core.jobs.supervisor" in words and str(run).encode() in words


def _signal(processes: set[int], number: int) -> None:
    """To the groups of these processes."""
    groups = set()
    for process in processes:
        with contextlib.suppress(OSError):
            groups.add(os.getpgid(process))
    for group in groups - {os.getpgrp()}:
        with contextlib.suppress(OSError):
            os.killpg(group, number)


def _until(condition: Callable[[], bool], seconds: float) -> bool:
    end_at = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= end_at:
            return False
        time.sleep(0.05)
    return True


def _exists(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
