"""From an order to what is run: the worker's arguments and environment, and the commands and script of a cluster engine."""

from __future__ import annotations

import os
import re
import shlex
import socket
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

from maet_core.errors import JobError
from maet_core.jobs.config import Engine
from maet_core.jobs.processes import MARK
from maet_core.jobs.record import Job, Run

PROJECT = Path(__file__).resolve().parents[2]
# The shell outlives a killed supervisor and writes the command's status down. It waits through SIGTERM, which is for the command.
_SHELL = 'trap : TERM INT HUP; "$@"; code=$?; echo $code > "$MAET_RUN/exit.part" && mv "$MAET_RUN/exit.part" "$MAET_RUN/exit"; exit $code'
_MANY = "{python} -m torch.distributed.run --standalone --nproc-per-node={processes}"
_FIELD = re.compile(r"\{([\w:]+)\}")


def worker_command(run: Run, job: Job, engine: Engine | None) -> list[str]:
    """The job's command, in a shell that notes how it ended. `maet` is this very installation."""
    own = job.command[0] == "maet"
    many = own and job.kind == "train" and (job.gpus > 1 or job.nodes > 1)
    launch = fill_words(
        (engine.launch_many if engine else _MANY) if many else engine.launch if engine else "", values(run, job)
    )
    if many:
        command = [*launch, "--module", "maet_core", *job.command[1:]]
    else:
        command = [*launch, *([sys.executable, "-m", "maet_core"] if own else job.command[:1]), *job.command[1:]]
    return ["/bin/sh", "-c", _SHELL, "maet-job", *command]


def worker_environment(run: Run, devices: list[str] | None) -> dict[str, str]:
    """`devices`: the GPUs of this job, [] for none, None where the engine has set that already."""
    told = {"MAET_PROGRESS": "lines", "MAET_METRICS": str(run.path / "metrics.jsonl"), MARK: str(run.path)}
    if devices is not None:
        told["CUDA_VISIBLE_DEVICES"] = ",".join(devices)
    return {**environment(), **told}


def environment() -> dict[str, str]:
    """For any Python of ours: a file in the folder where it runs that is called like a module must not be imported."""
    kept = {
        name: value for name, value in os.environ.items() if name != MARK
    }  # a job that submits a job is not its parent
    return {**kept, "PYTHONPATH": _python_path(), "PYTHONSAFEPATH": "1"}


def _python_path() -> str:
    """This project, and where a cluster's modules have put packages; never a folder that depends on where it is run."""
    told = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return os.pathsep.join([str(PROJECT), *(path for path in told if os.path.isabs(path) and path != str(PROJECT))])


def supervisor_command(run: Run, *options: str) -> list[str]:
    return [sys.executable, "-P", "-m", "maet_core.jobs.supervisor", str(run.path), *options]


def values(run: Run, job: Job, engine: Engine | None = None) -> dict[str, Any]:
    """What a template can name."""
    settings = dict(engine.settings) if engine else {}
    return {
        **settings,
        "name": run.engine_name,
        "run": str(run.path),
        "folder": job.folder,
        "command": job.typed,
        "script": str(run.path / "engine.script"),
        "python": sys.executable,
        "project": str(PROJECT),
        "supervisor": shlex.join(["env", f"PYTHONPATH={_python_path()}", *supervisor_command(run, "--on-cluster")]),
        "gpus": job.gpus,
        "nodes": job.nodes,
        "processes": max(job.gpus, 1),
        "host": socket.gethostname(),
        "port": 20000 + zlib.crc32(run.engine_name.encode()) % 20000,
    }


def fill(template: str, told: dict[str, Any]) -> str:
    """Puts values into a script. `{?x}` before a line drops it where x is empty or 0; `{*x}` repeats it with each item as {line}."""
    lines = []
    for line in template.splitlines():
        mark = re.match(r"^(\s*)\{([?*])(\w+)\}", line)
        rest = line[mark.end() :] if mark else line
        if mark is None or (mark[2] == "?" and told.get(mark[3])):
            lines.append(_put(rest, told))
        elif mark[2] == "*":
            lines += [_put(rest, {**told, "line": item}) for item in told.get(mark[3]) or []]
    return "\n".join(lines) + "\n"


def fill_words(template: str, told: dict[str, Any]) -> list[str]:
    """A command without a shell: split first, then filled, so that no value can become two words."""
    return [_put(word, told) for word in shlex.split(template)]


def call(engine: Engine, what: str, told: dict[str, Any]) -> str:
    """Runs an engine's command and returns what it printed. Raises JobError with the command's own words."""
    command = fill_words(getattr(engine, what), told)
    try:
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise JobError(f"{engine.name}: `{shlex.join(command)}` cannot be run ({error})") from error
    if ended.returncode:
        raise JobError(
            f"{engine.name}: `{shlex.join(command)}` says: {' '.join((ended.stderr or ended.stdout).split())}"
        )
    return ended.stdout.strip()


def _put(text: str, told: dict[str, Any]) -> str:
    def value(found: re.Match) -> str:
        name = found[1]
        if name.startswith("env:"):
            return os.environ.get(name[4:], "")
        if name not in told:
            raise JobError(f"a template names {{{name}}}, which is unknown; known: {', '.join(sorted(told))}")
        return str(told[name])

    return _FIELD.sub(value, text)
