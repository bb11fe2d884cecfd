"""What a job has said so far, read without reading it all: its log may be long, and a page looks every second."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

_PROGRESS = re.compile(r"^progress (\d+) (\d+) ?(.*)$")
_BAR = re.compile(r"\d+%\|.*\|.*\[")  # libraries draw bars, line after line
_LAUNCHER = re.compile(r"^(srun|slurmstepd): ")
_TAIL_BYTES = 1 << 18
_MOST_POINTS = 1000


def progress(path: Path, tail_bytes: int = 1 << 13) -> tuple[int, int, str] | None:
    """(done, total, phase) of the last progress line of a log; None if there is none near its end."""
    for line in reversed(_tail(path, tail_bytes)):
        if found := _PROGRESS.match(line):
            return int(found[1]), int(found[2]), found[3]
    return None


def said(path: Path, lines: int = 200) -> list[str]:
    """The last lines of a log, without the progress lines and other bars."""
    kept = (line for line in _tail(path, _TAIL_BYTES) if line.strip())
    return [line for line in kept if not _PROGRESS.match(line) and not _BAR.search(line)][-lines:]


def error_lines(path: Path) -> str:
    """Why a command failed, in its own words: the project's own last line where there is one, else the last eight.

    What launchers say after it (srun, torchrun) is about the same.
    """
    lines = [line for line in said(path, 100) if not _LAUNCHER.match(line)]
    begun = max((number for number, line in enumerate(lines) if line.startswith("--- attempt ")), default=-1)
    own = [line for line in lines[begun + 1 :] if line.startswith("maet: ")]
    return own[-1] if own else "\n".join(lines[begun + 1 :][-8:])


def figures(path: Path) -> list[dict[str, Any]]:
    """The lines of a file of figures (JSON objects), evenly thinned to a thousand; of a step told twice the later one.

    A training that went on from its last state tells the steps since then again.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            if size <= _MOST_POINTS * 200:
                lines = file.read().splitlines()
            else:
                lines = []
                for point in range(_MOST_POINTS + 1):
                    file.seek(size * point // (_MOST_POINTS + 1))
                    file.readline()
                    lines.append(file.readline())
                file.seek(max(0, size - 4096))
                lines += file.read().splitlines()[-1:]
    except OSError:
        return []
    rows: list[dict[str, Any]] = []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue  # a line that is being written, or was cut by a kill
        if isinstance(row, dict):
            while "step" in row and rows and rows[-1].get("step", -1) >= row["step"]:
                rows.pop()
            rows.append(row)
    return rows


def result(path: Path) -> dict[str, Any] | None:
    """What the command printed, if it is one JSON object."""
    try:
        content = json.loads(path.read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, dict) else None


def _tail(path: Path, nbytes: int) -> list[str]:
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - nbytes))
            return file.read().decode("utf-8", "replace").splitlines()
    except OSError:
        return []
