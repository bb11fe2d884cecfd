"""`maet jobs`: the background jobs of a workspace."""

from __future__ import annotations

import time
from pathlib import Path

import click

from maet_core.cli.background import workspace_here
from maet_core.cli.output import json_option, print_json, print_table


@click.group(invoke_without_command=True, epilog="Example:  maet jobs log 12 -f")
@click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    help="The folder whose runs/ is looked at.  [default: MAET_WORKSPACE, or the one around here]",
)
@json_option
@click.pass_context
def jobs(context: click.Context, workspace: Path | None, as_json: bool) -> None:
    """Background jobs: what runs, what waits, what has ended. Without a subcommand: all of them, the latest first."""
    context.obj = workspace_here(workspace)
    if context.invoked_subcommand is None:
        _list(context.obj, as_json)


@jobs.command("list", epilog="Example:  maet jobs list --json")
@json_option
@click.pass_obj
def list_(workspace: Path, as_json: bool) -> None:
    """All jobs, the latest first."""
    _list(workspace, as_json)


@jobs.command(epilog="Example:  maet jobs show 12")
@click.argument("job")
@json_option
@click.pass_obj
def show(workspace: Path, job: str, as_json: bool) -> None:
    """All about one job: its command, where it is, what came out."""
    from maet_core.jobs import reading, status
    from maet_core.jobs.record import Run

    found, run = status(workspace, job), Run.find(workspace, job)
    printed = reading.result(run.path / "result.json")
    if as_json:
        print_json({**found.to_dict(), "run": str(run.path), "result": printed})
        return
    state = found.state
    rows = [
        ("job", f"{found.job.id} on {found.job.engine}"),
        ("command", found.job.typed),
        ("in", found.job.folder),
        ("state", _where(found)),
        ("error", state.error.replace("\n", "\n         ")),
        ("note", found.note),
        ("submitted", found.job.submitted),
        ("started", state.started),
        ("ended", state.ended),
        ("worked", f"{state.seconds:.1f} s in {state.attempt} {'attempt' if state.attempt == 1 else 'attempts'}"),
        ("status", "" if state.exit_status is None else str(state.exit_status)),
        ("output", found.job.output),
        ("recipe", found.job.recipe and str(run.path / "recipe.yaml")),
        ("run", str(run.path)),
    ]
    for name, value in rows:
        if value:
            click.echo(f"{name:<10} {value}")


@jobs.command(epilog="Example:  maet jobs log 12 -f")
@click.argument("job")
@click.option("-f", "--follow", is_flag=True, help="Go on until the job has ended.")
@click.option("-n", "--lines", type=click.IntRange(1), default=40, show_default=True)
@click.pass_obj
def log(workspace: Path, job: str, follow: bool, lines: int) -> None:
    """What a job said, without its progress."""
    from maet_core.jobs import ENDED, reading, status
    from maet_core.jobs.record import Run

    path = Run.find(workspace, job).path / "log.txt"
    shown: list[str] = []
    while True:
        ended = status(workspace, job).name in ENDED
        now = reading.said(path, 10_000 if shown else lines)
        new = now[now.index(shown[-1]) + 1 :] if shown and shown[-1] in now else now
        for line in new:
            click.echo(line)
        shown = now or shown
        if ended or not follow:
            return
        time.sleep(0.5)


@jobs.command(epilog="Example:  maet jobs cancel 12")
@click.argument("job")
@json_option
@click.pass_obj
def cancel(workspace: Path, job: str, as_json: bool) -> None:
    """Stops a job: it is told to end, and ended if it does not. What it has finished so far is kept for `resume`."""
    from maet_core import jobs as background

    wanted = background.cancel(workspace, job)
    _tell(background.wait(workspace, job, wanted.job.grace_seconds + 60), as_json)


@jobs.command(epilog="Example:  maet jobs resume 12")
@click.argument("job")
@json_option
@click.pass_obj
def resume(workspace: Path, job: str, as_json: bool) -> None:
    """Starts a job again that failed, was cancelled or interrupted; it goes on from what it left on disk."""
    from maet_core import jobs as background

    _tell(background.resume(workspace, job), as_json)


@jobs.command(epilog="Example:  maet jobs remove 12")
@click.argument("job")
@json_option
@click.pass_obj
def remove(workspace: Path, job: str, as_json: bool) -> None:
    """Forgets a job that has ended, with what it left unfinished. A finished output stays."""
    from maet_core import jobs as background

    found = background.status(workspace, job)
    background.remove(workspace, job)
    if as_json:
        print_json({"removed": found.job.id})
    else:
        click.echo(f"job {found.job.number} removed")


def _list(workspace: Path, as_json: bool) -> None:
    from maet_core.jobs import listed

    found = listed(workspace)
    if as_json:
        print_json({"jobs": [one.to_dict() for one in found]})
        return
    if not found:
        click.echo(f"no jobs in {workspace / 'runs'}; `maet merge … --job` or `maet train … --job` starts one")
        return
    print_table(
        ("job", "kind", "makes", "state", "worked"),
        [(one.job.number, one.job.kind, one.job.title, _where(one), f"{one.state.seconds:.0f} s") for one in found],
        right=(0, 4),
    )


def _tell(found, as_json: bool) -> None:
    if as_json:
        print_json(found.to_dict())
    else:
        click.echo(f"job {found.job.number}: {_where(found)}")


def _where(found) -> str:
    """`running, 40 % training, 12 s left`"""
    state = found.state
    if found.name == "queued":
        return f"queued, number {found.position}" if found.position else "queued"
    if found.name != "running":
        return found.name
    parts = ["running"]
    if state.total:
        parts.append(f"{100 * found.share:.0f} % {state.phase}")
    if state.seconds_left is not None and not state.phase.endswith("left"):
        parts.append(f"{state.seconds_left:.0f} s left")
    return ", ".join(parts)
