"""`--job`: the same command, in the background."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from maet_core.cli.output import print_json
from maet_core.errors import InputError


def runs_as_job(
    output: str = "output", recipe: str = "", grows: bool = False
) -> Callable[[click.Command], click.Command]:
    """Gives a command `--job`, `--engine`, `--gpus` and `--nodes`.

    `output` names the parameter with what the command writes: whole or not at all, or a folder that `grows`. `recipe` names the one
    with a recipe's file, which is kept as it is now, so that a later change does not change the job. Such a command needs the
    option `--relative-to`.
    """

    def decorate(command: click.Command) -> click.Command:
        run = command.callback

        def callback(job: bool, engine: str | None, gpus: int | None, nodes: int, **told: Any) -> Any:
            if not job:
                for name, value in (("--engine", engine), ("--gpus", gpus)):
                    if value is not None:
                        raise click.UsageError(f"{name} is for --job")
                return run(**told)
            return _submit(command, told, output, recipe, grows, engine or "local", gpus, nodes)

        command.callback = callback
        command.params += [
            click.Option(["--job"], is_flag=True, help="Run in the background and return at once; see `maet jobs`."),
            click.Option(["--engine"], metavar="NAME", help="With --job: local, slurm, or another that jobs.yaml describes.  [default: local]"),
            click.Option(["--gpus"], type=click.IntRange(0), help="With --job: GPUs (a node) that it waits for.  [default: by --device]"),
            click.Option(["--nodes"], type=click.IntRange(1), default=1, help="With --job on a cluster: machines that train together."),
        ]  # fmt: skip
        return command

    return decorate


def workspace_here(named: Path | None = None) -> Path:
    """The workspace whose jobs are meant: the one that is named, MAET_WORKSPACE, the nearest folder upwards that has runs/,
    the folder `workspace` that `maet app` makes, else the current folder."""
    if named or os.environ.get("MAET_WORKSPACE"):
        return Path(named or os.environ["MAET_WORKSPACE"])
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "runs").is_dir():
            return folder
    return here / "workspace" if (here / "workspace" / "runs").is_dir() else here


def _submit(
    command: click.Command, told: dict, output: str, recipe: str, grows: bool, engine: str, gpus: int | None, nodes: int
) -> None:
    from maet_core import jobs

    words, text = _typed(command, told), ""
    if recipe:
        file = Path(told[recipe])
        try:
            text = file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"{file}: cannot be read ({error})") from error
        words[words.index(str(file))] = "{run}/recipe.yaml"
        words += ["--relative-to", str(told.get("relative_to") or os.path.relpath(file.parent))]
    if any(parameter.name == "as_json" for parameter in command.params) and "--json" not in words:
        words.append("--json")
    made = jobs.submit(
        workspace_here(),
        ["maet", *words],
        folder=Path.cwd(),
        output=told[output] or "",
        recipe=text,
        engine=engine,
        gpus=_gpus(str(told.get("device") or "cpu"), engine) if gpus is None else gpus,
        nodes=nodes,
        grows=grows,
    )
    if told.get("as_json"):
        print_json(made.to_dict())
    else:
        click.echo(
            f"job {made.job.number}: {made.job.typed}\n`maet jobs` shows where it is, `maet jobs log {made.job.number} -f` what it says"
        )


def _typed(command: click.Command, told: dict) -> list[str]:
    """The command again, from what was given on the line, without the words about the job."""
    context = click.get_current_context()
    words = context.command_path.split()[1:]
    for parameter in command.params:
        given = context.get_parameter_source(parameter.name) is click.core.ParameterSource.COMMANDLINE
        if not given or parameter.name not in told:
            continue
        value = told[parameter.name]
        values = value if isinstance(value, (tuple, list)) else [value]
        if isinstance(parameter, click.Argument):
            words += [str(one) for one in values]
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(parameter.opts[0] if value else parameter.secondary_opts[0])
        else:
            for one in values:
                words += [parameter.opts[0], str(one)]
    return words


def _gpus(device: str, engine: str) -> int:
    from maet_core.jobs.config import local_limits

    if engine != "local":
        return 0  # the engine's own setting
    return int(device.startswith("cuda") or (device == "auto" and bool(local_limits().gpus)))
