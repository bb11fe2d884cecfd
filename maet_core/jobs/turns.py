"""Whose turn it is: a line of waiting jobs in the order of submission, and tickets for what there is only so much of.

A ticket is a kernel lock, taken by the supervisor and inherited by the worker: it comes back when the last of them is gone.
Tickets are the machine's, whatever the workspace; the line is the workspace's.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
from pathlib import Path

from maet_core.identity import cache_folder
from maet_core.jobs.config import local_limits
from maet_core.jobs.files import is_locked, locked, take_lock
from maet_core.whole_files import appearing

_ENTRY = re.compile(r"^(\d{9})\.(gpu|cpu)\.(.+)$")


def next_number(runs: Path) -> int:
    """The next in the order of submission; never given twice, whatever clocks say and however many ask at once."""
    with locked(runs / ".counter.lock"):
        counter = runs / ".counter"
        given = [int(path.name.split("-", 1)[0]) for path in runs.iterdir() if path.name.split("-", 1)[0].isdigit()]
        with contextlib.suppress(OSError, ValueError):
            given.append(int(counter.read_text()))
        number = max(given, default=0) + 1
        with appearing(counter) as part:
            part.write_text(str(number))
        return number


def queue_up(runs: Path, place: int, gpus: int, job: str) -> None:
    (runs / ".queue").mkdir(exist_ok=True)
    (runs / ".queue" / f"{place:09d}.{_kind(gpus)}.{job}").touch()


def leave(runs: Path, job: str) -> None:
    for entry in _entries(runs):
        if entry[2] == job:
            (runs / ".queue" / f"{entry[0]:09d}.{entry[1]}.{job}").unlink(missing_ok=True)


def position(runs: Path, gpus: int, job: str) -> int:
    """1 for the job whose turn is next, among those that want the same kind; those whose process is gone don't count."""
    waiting = [name for _, kind, name in _entries(runs) if kind == _kind(gpus)]
    ahead = waiting[: waiting.index(job)] if job in waiting else []
    return 1 + sum(is_locked(runs / name / "lock") for name in ahead)


def take_tickets(gpus: int) -> tuple[list[int], list[str]] | None:
    """Descriptors that hold the tickets, with the devices' numbers; None if there are not enough now.

    For a job on the CPU it is one ticket and no device.
    """
    limits = local_limits()
    names = limits.gpus if gpus else [str(number) for number in range(limits.cpu_jobs)]
    folder = cache_folder() / "tickets" / socket.gethostname()
    folder.mkdir(parents=True, exist_ok=True)
    held: list[int] = []
    devices: list[str] = []
    for name in names:
        descriptor = take_lock(folder / f"{_kind(gpus)}-{name}")
        if descriptor is None:
            continue
        held.append(descriptor)
        devices.append(name)
        if len(held) == max(gpus, 1):
            return held, devices if gpus else []
    for descriptor in held:
        os.close(descriptor)
    return None


def _entries(runs: Path) -> list[tuple[int, str, str]]:
    try:
        names = sorted(os.listdir(runs / ".queue"))
    except FileNotFoundError:
        return []
    return [(int(found[1]), found[2], found[3]) for name in names if (found := _ENTRY.match(name))]


def _kind(gpus: int) -> str:
    return "gpu" if gpus else "cpu"
