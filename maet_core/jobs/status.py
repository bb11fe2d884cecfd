"""Where jobs are. The kernel's lock says whether one lives; what is on disk says how it ended."""

from __future__ import annotations

import contextlib
import os
import socket
from pathlib import Path

from maet_core.errors import JobError
from maet_core.jobs import config, launching, reading, turns
from maet_core.jobs.files import take_lock
from maet_core.jobs.outputs import sweep
from maet_core.jobs.processes import is_supervisor
from maet_core.jobs.record import ENDED, Job, Run, State, Status, all_runs

_SILENT = (
    "its processes ended without a word: killed, or the machine was restarted; resume goes on from what is on disk"
)


def status(workspace: str | Path, job: str | int) -> Status:
    """Where the job of this id or number is. Raises JobError if there is none."""
    return look(Run.find(workspace, job))


def listed(workspace: str | Path) -> list[Status]:
    """All jobs of a workspace, the latest first. One that cannot be read is left out."""
    found = []
    for run in reversed(all_runs(workspace)):
        with contextlib.suppress(JobError, OSError):
            found.append(look(run))
    return found


def look(run: Run) -> Status:
    job, state = run.job(), run.state()
    if state.state in ENDED:
        return Status(job, state)
    if not run.alive:
        if job.engine == "local":
            return Status(job, settle(run, job))
        word, note = ask_engine(run, job)
        if not word and not run.alive:
            return Status(job, settle(run, job))
        state = run.state()
        if state.state not in ENDED and word:
            state.state = word
        return Status(job, state, note=note)
    state = run.state()  # it may have started since
    if state.state == "queued":
        waiting = turns.position(run.path.parent, job.gpus, run.id) if job.engine == "local" else 0
        return Status(job, state, waiting)
    if (
        state.state == "running"
        and state.host == socket.gethostname()
        and not is_supervisor(state.supervisor, run.path)
    ):
        if found := reading.progress(run.path / "log.txt"):
            state.done, state.total, state.phase = found
        state.rate, state.seconds_left = 0.0, None
        return Status(job, state, note="its supervisor was killed; the work goes on")
    return Status(job, state)


def ask_engine(run: Run, job: Job) -> tuple[str, str]:
    """("queued" | "running" | "", note) from the cluster. A cluster that does not answer has not lost the job."""
    try:
        engine = config.engine(job.engine)
        words = launching.call(engine, "status", launching.values(run, job, engine)).split()
    except JobError as error:
        return run.state().state, str(error)
    if any(word in engine.running for word in words):
        return "running", ""
    return ("queued", "") if any(word in engine.waiting for word in words) else ("", "")


def settle(run: Run, job: Job) -> State:
    """Writes down how a job ended that nobody supervised to its end."""
    lock = take_lock(run.lock)
    if lock is None:
        return run.state()  # somebody is settling it, or has resumed it
    try:
        state = run.state()
        if state.state in ENDED:
            return state
        conclude(run, job, state, run.exit_status())
        with contextlib.suppress(OSError):
            run.write(state)
            turns.leave(run.path.parent, run.id)
        return state
    finally:
        os.close(lock)


def conclude(run: Run, job: Job, state: State, exit_status: int | None) -> None:
    """Says in `state` how the job ended. Outputs are whole or not there, so one that is there is a finished result, whatever
    happened to the process after it; `submit` has made sure that it was not there before. One that grows says nothing."""
    state.exit_status, state.rate, state.seconds_left = exit_status, 0.0, None
    killed = exit_status is None or exit_status < 0 or exit_status > 128 or was_told_to_stop(run, exit_status)
    there = bool(job.output) and not job.grows and Path(job.output).exists()
    if (exit_status == 0 and (there or job.grows or not job.output)) or (killed and there):
        state.state, state.error = "done", ""
        state.done, state.total = max(state.done, state.total), max(state.done, state.total)
        sweep(job.output)
    elif run.cancel_wanted:
        state.state, state.error = "cancelled", ""
    elif exit_status is None:
        state.state, state.error = "interrupted", _SILENT
    elif killed:
        number = 15 if was_told_to_stop(run, exit_status) else abs(exit_status) % 128
        hint = "; often for want of memory" if number == 9 else ""
        state.state, state.error = (
            "interrupted",
            f"stopped by signal {number}{hint}; resume goes on from what is on disk",
        )
    elif exit_status == 0:
        state.state, state.error = "failed", f"the command ended well, but {job.output} is not there"
    else:
        state.state = "failed"
        state.error = reading.error_lines(run.path / "log.txt") or f"exit status {exit_status}"


def was_told_to_stop(run: Run, exit_status: int | None) -> bool:
    """Whether the command ended because of SIGTERM or Ctrl-C: `maet` exits with 130 or 143 then, torchrun with 1 and a word of it."""
    if exit_status == 1:
        return any("SignalException" in line for line in reading.said(run.path / "log.txt", 20))
    return exit_status in (130, 143, -2, -15)
