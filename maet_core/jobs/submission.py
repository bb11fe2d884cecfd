"""A new job: its run directory, and the process or the cluster that will see to it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import threading
import time
from collections.abc import Sequence
from pathlib import Path

from maet_core.errors import JobError
from maet_core.jobs import config, launching, turns
from maet_core.jobs.files import is_locked, locked, take_lock, write_json
from maet_core.jobs.record import ENDED, Job, Run, State, Status, all_runs, runs_folder
from maet_core.jobs.status import look


def submit(
    workspace: str | Path,
    command: Sequence[str],
    *,
    folder: str | Path | None = None,
    output: str | Path = "",
    recipe: str = "",
    engine: str = "local",
    gpus: int = 0,
    nodes: int = 1,
    grace_seconds: float = 30.0,
    grows: bool = False,
) -> Status:
    """Starts `command` in the background and returns at once.

    `command` begins with "maet" (this installation) or with a program. "{run}" in its words is the run directory. `folder` is
    where it runs, the workspace if left out; `output` the file or directory that it makes, whole or not at all, so that no two
    jobs make the same one and a finished one is never lost. An output that `grows` may be there before: a folder of results that the
    command adds to, one job at a time. `recipe` is the text of the recipe, kept as {run}/recipe.yaml.
    `gpus` (a node) wait for tickets on this machine. Raises JobError if the output is there already or another job is making it,
    if the engine is unknown or refuses, if more GPUs are wanted than there are.
    """
    workspace = Path(workspace).expanduser().resolve()
    folder = Path(folder or workspace).expanduser().resolve()
    target = os.path.normpath(folder / output) if output else ""
    if engine == "local" and gpus > len(config.local_limits().gpus):
        raise JobError(
            f"--gpus: {gpus} wanted, this machine has {len(config.local_limits().gpus)}; ask for fewer, or use another --engine"
        )
    if engine == "local" and nodes > 1:
        raise JobError(f"--nodes: {nodes} wanted, and this is one machine; use another --engine, e.g. slurm")
    if engine != "local":
        gpus = gpus or int(config.engine(engine).settings.get("gpus") or 0)
    runs = runs_folder(workspace)
    try:
        runs.mkdir(parents=True, exist_ok=True)
        with locked(runs / ".submit.lock"):  # two submits at once: one after the other
            _refuse_taken(workspace, target, grows)
            run, lock = _make(
                runs, list(command), str(folder), target, recipe, engine, gpus, nodes, grace_seconds, grows
            )
            launch(run, run.job(), lock)
    except OSError as error:
        raise JobError(
            f"{runs}: the job cannot be written down ({error.strerror or error}); free some space, or choose another workspace"
        ) from error
    return look(run)


def launch(run: Run, job: Job, lock: int) -> None:
    """Hands the run to a supervisor of its own, or to the cluster. `lock` is the run's, and is given away with it."""
    try:
        if job.engine != "local":
            _launch_on_cluster(run, job)
            return
        turns.queue_up(run.path.parent, run.state().place, job.gpus, run.id)
        with (run.path / "log.txt").open("ab") as log:
            process = subprocess.Popen(
                launching.supervisor_command(run, "--lock", str(lock)),
                cwd=run.path.parent,
                env=launching.environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives whoever submits: a terminal, or the app
                pass_fds=(lock,),
            )
    finally:
        os.close(lock)  # the supervisor holds it from here on: there is no moment in which nobody does
    threading.Thread(target=process.wait, daemon=True, name=f"reap {run.id}").start()


def _launch_on_cluster(run: Run, job: Job) -> None:
    engine = config.engine(job.engine)
    told = launching.values(run, job, engine)
    Path(told["script"]).write_text(launching.fill(engine.script, told), "utf-8")
    state = run.state()
    try:
        launching.call(engine, "submit", told)
    except JobError as error:
        state.state, state.error = "failed", str(error)
        run.write(state)
        raise


def _refuse_taken(workspace: Path, output: str, grows: bool) -> None:
    if not output:
        return
    for run in all_runs(workspace):
        job = run.job()
        if job.output == output and (is_locked(run.output_lock(output)) or look(run).name not in ENDED):
            raise JobError(f"{output}: job {job.number} is making it; wait for it, cancel it, or choose another name")
    if os.path.lexists(output) and not grows:
        raise JobError(f"{output}: exists already; choose another name or remove it first")


def _make(
    runs: Path,
    command: list[str],
    folder: str,
    output: str,
    recipe: str,
    engine: str,
    gpus: int,
    nodes: int,
    grace: float,
    grows: bool,
) -> tuple[Run, int]:
    """The run directory, complete before it has its name, and its lock, held from its first moment."""
    number = turns.next_number(runs)
    kind = command[1] if command[0] == "maet" and len(command) > 1 else Path(command[0]).name
    words = [
        re.sub(r"[^\w.]+", "-", word, flags=re.ASCII).strip("-.")
        for word in (kind.replace("-", "_"), Path(output).name)
    ]
    name = "-".join([str(number), *filter(None, words)])[:80]
    part = runs / f".{name}.part"
    path, lock = runs / name, None
    try:
        part.mkdir()
        lock = take_lock(part / "lock")
        if recipe:
            (part / "recipe.yaml").write_text(recipe, "utf-8")
        command = [word.replace("{run}", os.path.relpath(path, folder)) for word in command]
        job = Job(
            name, number, command, folder, output, "recipe.yaml" if recipe else "", engine, gpus, nodes, grace,
            time.strftime("%Y-%m-%dT%H:%M:%S%z"), grows,
        )  # fmt: skip
        write_json(part / "job.json", vars(job))
        Run(part).write(State(place=number))
        os.rename(part, path)
    except BaseException:
        if lock is not None:
            os.close(lock)
        shutil.rmtree(part, ignore_errors=True)
        raise
    return Run(path), lock
