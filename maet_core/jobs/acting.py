"""Cancel, resume, remove, wait."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path

from maet_core.errors import JobError
from maet_core.jobs import config, launching, turns
from maet_core.jobs.files import locked, take_lock
from maet_core.jobs.outputs import sweep
from maet_core.jobs.processes import is_supervisor
from maet_core.jobs.record import ENDED, RESUMABLE, Run, Status
from maet_core.jobs.status import look
from maet_core.jobs.submission import launch


def cancel(workspace: str | Path, job: str | int) -> Status:
    """Asks a waiting or running job to end, and returns at once: SIGTERM, the job's grace, then SIGKILL to the group.

    It works as well when the supervisor was killed. A job that has ended stays as it is. Raises JobError if there is none.
    """
    run = Run.find(workspace, job)
    now = look(run)
    if now.name in ENDED:
        return now
    (run.path / "cancel").touch()
    if now.job.engine != "local":
        engine = config.engine(now.job.engine)
        launching.call(engine, "cancel", launching.values(run, now.job, engine))
    elif run.state().host in ("", socket.gethostname()) and not is_supervisor(run.state().supervisor, run.path):
        # nobody listens: a process of its own ends the worker, so that the caller need not wait for the grace
        with (run.path / "log.txt").open("ab") as log:
            subprocess.Popen(
                launching.supervisor_command(run, "--end"),
                env=launching.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
    return look(run)


def resume(workspace: str | Path, job: str | int) -> Status:
    """Starts the command of a job again that failed, was cancelled or interrupted; it goes on from what it left on disk.

    It waits for its turn behind the jobs that wait already. Of two that resume one job at once, one gets a JobError.
    """
    run = Run.find(workspace, job)
    now = look(run)
    if now.name not in RESUMABLE:
        raise JobError(
            f"{run.id}: it is {now.name}; only a job that failed, was cancelled or interrupted can be resumed"
        )
    lock = take_lock(run.lock, 2.0)
    if lock is None:
        raise JobError(f"{run.id}: it is running already")
    try:
        state = run.state()
        if state.state not in RESUMABLE:
            raise JobError(f"{run.id}: it is {state.state} by now")
        (run.path / "cancel").unlink(missing_ok=True)
        (run.path / "exit").unlink(missing_ok=True)
        state.state, state.place, state.attempt = "queued", turns.next_number(run.path.parent), state.attempt + 1
        state.error, state.exit_status, state.ended, state.supervisor, state.worker = "", None, "", 0, 0
        run.write(state)
    except BaseException:
        os.close(lock)
        raise
    launch(run, now.job, lock)
    return look(run)


def remove(workspace: str | Path, job: str | int) -> None:
    """Forgets a job that has ended: its run directory, and what it left unfinished. A finished output stays.

    Raises JobError while the job waits or runs.
    """
    run = Run.find(workspace, job)
    now = look(run)
    lock = take_lock(run.lock, 2.0) if now.name in ENDED else None
    if lock is None:
        mend = "something that it started still runs" if now.name in ENDED else "cancel it first"
        raise JobError(f"{run.id}: it is {now.name}; {mend}")
    try:
        if now.job.output:
            with locked(run.output_lock(now.job.output)):
                sweep(now.job.output)
        gone = run.path.with_name(f".{run.id}.removed")
        os.rename(run.path, gone)
        shutil.rmtree(gone, ignore_errors=True)
        turns.leave(gone.parent, run.id)
    finally:
        with contextlib.suppress(OSError):
            os.close(lock)


def wait(workspace: str | Path, job: str | int, timeout_seconds: float | None = None) -> Status:
    """Returns when the job has ended. Raises TimeoutError."""
    run, started = Run.find(workspace, job), time.monotonic()
    while (now := look(run)).name not in ENDED or run.alive:
        if timeout_seconds is not None and time.monotonic() - started > timeout_seconds:
            raise TimeoutError(f"{run.id}: it is {now.name} after {timeout_seconds:g} s")
        time.sleep(0.05 if now.job.engine == "local" else 0.5)
    return now
