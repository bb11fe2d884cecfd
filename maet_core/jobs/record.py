"""What is written down about a job: the order that was given, which never changes, and its state, which does.

runs/12-merge-sw/     job.json      the command, its folder and output, the recipe's file, what it needs
                      state.json    where it is; replaced in one move
                      lock          held by whoever supervises or works
                      cancel        somebody wants it to stop
                      exit          the command's exit status, written by the shell around it
                      log.txt       what the command said (stderr), all attempts
                      result.json   what the command printed (stdout), the last attempt
                      metrics.jsonl figures for curves
                      recipe.yaml   the recipe as it was when the job was submitted
"""

from __future__ import annotations

import hashlib
import os
import re
import shlex
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from maet_core.errors import JobError
from maet_core.jobs.files import is_locked, read_json, write_json

ENDED = frozenset({"done", "failed", "cancelled", "interrupted"})
RESUMABLE = frozenset({"failed", "cancelled", "interrupted"})
_ID = re.compile(r"^\d+-[\w.-]+$")


@dataclass(frozen=True)
class Job:
    """The order. `folder` is where the command runs, `output` what it makes (absolute; "" if it only prints), whole or not at all
    unless it `grows`."""

    id: str
    number: int
    command: list[str]
    folder: str
    output: str = ""
    recipe: str = ""
    engine: str = "local"
    gpus: int = 0
    nodes: int = 1
    grace_seconds: float = 30.0
    submitted: str = ""  # by the wall clock, for people: nothing is computed from it
    grows: bool = False  # the output is a folder of results, which one writer after the other adds to

    @property
    def kind(self) -> str:
        """`merge`, `train`, …: the subcommand, or the program's name."""
        return self.id.split("-")[1]

    @property
    def title(self) -> str:
        return Path(self.output).name if self.output else self.id.split("-", 1)[1]

    @property
    def typed(self) -> str:
        """The command as one would type it."""
        return shlex.join(self.command)


@dataclass
class State:
    """Where a job is, as its supervisor writes it. Durations come from a clock that nobody sets."""

    state: str = "queued"
    place: int = 0  # in the order of submission; a resumed job takes a new one
    attempt: int = 1
    supervisor: int = 0  # process id
    worker: int = 0  # process id of the group's leader
    host: str = ""
    devices: list[str] = field(default_factory=list)
    started: str = ""
    ended: str = ""
    seconds: float = 0.0  # of work, all attempts
    phase: str = ""
    done: int = 0
    total: int = 0
    rate: float = 0.0  # steps of the phase a second
    seconds_left: float | None = None
    exit_status: int | None = None
    error: str = ""


@dataclass(frozen=True)
class Status:
    """A job and where it is. `position` counts from 1 among the waiting jobs that want the same; 0 for one that doesn't wait."""

    job: Job
    state: State
    position: int = 0
    note: str = ""

    @property
    def name(self) -> str:
        """queued, running, done, failed, cancelled or interrupted."""
        return self.state.state

    @property
    def share(self) -> float:
        """How much of the phase is done, 0 to 1."""
        return min(self.state.done / self.state.total, 1.0) if self.state.total else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {
            **asdict(self.job),
            "kind": self.job.kind,
            **asdict(self.state),
            "position": self.position,
            "note": self.note,
        }


class Run:
    """One run directory."""

    def __init__(self, path: Path):
        self.path = path
        self.id = path.name

    @classmethod
    def find(cls, workspace: str | Path, wanted: str | int) -> Run:
        """By id or by number. Raises JobError if there is none."""
        runs = runs_folder(workspace)
        text = str(wanted)
        if text.isdigit():
            found = [run for run in all_runs(workspace) if run.id.split("-", 1)[0] == text]
            if found:
                return found[0]
        elif _ID.match(text) and (runs / text / "job.json").is_file():
            return cls(runs / text)
        raise JobError(f"{text}: no such job in {runs}; `maet jobs` lists them")

    def job(self) -> Job:
        """Raises JobError for an order that cannot be read."""
        content = read_json(self.path / "job.json")
        try:
            return Job(**{name: content[name] for name in _names(Job) if name in content})
        except TypeError as error:
            raise JobError(f"{self.path}/job.json: cannot be read; remove {self.path}") from error

    def state(self) -> State:
        content = read_json(self.path / "state.json") or {}
        return State(**{name: content[name] for name in _names(State) if name in content})

    def write(self, state: State) -> None:
        write_json(self.path / "state.json", asdict(state))

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def alive(self) -> bool:
        return is_locked(self.lock)

    @property
    def cancel_wanted(self) -> bool:
        return (self.path / "cancel").exists()

    def exit_status(self) -> int | None:
        try:
            return int((self.path / "exit").read_text())
        except (OSError, ValueError):
            return None

    def output_lock(self, output: str) -> Path:
        """Where writers of the same output meet."""
        folder = self.path.parent / ".outputs"
        folder.mkdir(exist_ok=True)
        return folder / hashlib.sha256(os.path.realpath(output).encode()).hexdigest()[:32]

    @property
    def engine_name(self) -> str:
        """What a cluster calls this job: unique among the workspaces of everybody on it."""
        workspace = hashlib.sha256(str(self.path.resolve()).encode()).hexdigest()[:8]
        return f"maet-{self.id.partition('-')[0]}-{workspace}"


def runs_folder(workspace: str | Path) -> Path:
    return Path(workspace).expanduser().resolve() / "runs"


def all_runs(workspace: str | Path) -> list[Run]:
    """Every run directory of jobs, in the order of their numbers."""
    try:
        found = [
            path for path in runs_folder(workspace).iterdir() if _ID.match(path.name) and (path / "job.json").is_file()
        ]
    except FileNotFoundError:
        return []
    return [Run(path) for path in sorted(found, key=lambda path: int(path.name.split("-", 1)[0]))]


def _names(kind: type) -> list[str]:
    return [one.name for one in fields(kind)]
