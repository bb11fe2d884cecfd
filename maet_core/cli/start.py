"""Commands that start something: `maet generate`, `maet demo`, `maet app`."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from maet_core.cli.output import json_option, print_json, shown_progress
from maet_core.cli.stopping import asked_to_stop
from maet_core.errors import InputError

PROJECT = Path(__file__).resolve().parents[2]


@click.command(
    epilog="Example:  maet generate recipes/demo.yaml --prompt "
    "$'Q: Omar had 30 balls. He put the balls equally into 5 boxes. How many balls does each box have?\\nA:'"
)
@click.argument("model")
@click.option("--prompt", required=True, help="The text that the model continues.")
@click.option("--max-new-tokens", type=click.IntRange(1, 4096), default=128, show_default=True)
@click.option(
    "--temperature", type=click.FloatRange(0, 5), default=0.0, show_default=True, help="0 is greedy decoding."
)
@click.option("--top-p", type=click.FloatRange(0, 1, min_open=True), default=1.0, show_default=True)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@json_option
def generate(
    model: str,
    prompt: str,
    max_new_tokens: int,
    temperature: float,
    top_p: float,
    seed: int,
    device: str,
    as_json: bool,
) -> None:
    """Answers PROMPT with MODEL: a model, or a recipe, which is then merged in memory and not written anywhere."""
    from maet_core.conversation import Decoding
    from maet_core.generation import stream

    speaker = _speaker(model, device)
    decoding = Decoding(max_new_tokens, temperature, top_p, seed)
    shown, answer = 0, None
    for answer in stream([speaker], prompt, decoding):
        if not as_json:
            click.echo(answer.text[shown:], nl=False)
            shown = len(answer.text)
    if answer.finished == "error":
        raise InputError(f"{model}: {answer.error}")
    if as_json:
        fields = ("text", "tokens", "seconds", "finished")
        print_json({"model": model, "prompt": prompt, **{field: getattr(answer, field) for field in fields}})
    else:
        click.echo()


def _speaker(model: str, device: str):
    from maet_core.checkpoints import Checkpoint
    from maet_core.conversation import Speaker
    from maet_core.live import LiveModel
    from maet_core.merging.devices import choose_device
    from maet_core.recipe import Recipe
    from maet_core.resident import load_model, load_tokenizer
    from maet_core.sources import Sources

    target = str(choose_device(device)[0])
    if Path(model).suffix in (".yaml", ".yml"):
        live = LiveModel(Sources.open(Recipe.load(model), Path(model).parent), target)
        return Speaker(model, live.model, live.tokenizer)
    checkpoint = Checkpoint.open(model)
    return Speaker(model, load_model(checkpoint, target), load_tokenizer(checkpoint))


@click.group()
def demo() -> None:
    """The demo world: generated corpora and the small models trained on them."""


@demo.command(epilog="Example:  maet demo build -o assets/demo")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="A new directory, or the one to replace."
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True)
@click.option(
    "--scale",
    type=click.FloatRange(0, 100, min_open=True),
    default=1.0,
    show_default=True,
    help="Share of the training steps.",
)
@click.option("--processes", type=click.IntRange(1), help="Trainings at once, after the base's.  [default: one a core]")
@click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto: a CUDA card where there is one."
)
def build(output: Path, seed: int, scale: float, processes: int | None, device: str) -> None:
    """Generates the corpora and trains every demo model again: about an hour and a quarter on two cores, less with a CUDA card (`--device`).

    A build that was stopped or killed goes on from its last state when the same command is given again.
    """
    from maet_core.demo.build import build as build_demo
    from maet_core.merging.devices import choose_device

    with shown_progress() as progress, asked_to_stop() as asked:
        build_demo(output, seed, scale, progress, asked, processes, choose_device(device)[0])


@demo.command(epilog="Example:  maet demo results --seeds 3 --work runs/demo-results -o docs/demo-results.md")
@click.option(
    "--assets",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="A demo build.  [default: the shipped one]",
)
@click.option(
    "--work",
    required=True,
    type=click.Path(path_type=Path),
    help="Where models and scores are kept; a stopped run goes on from there.",
)
@click.option(
    "--seeds",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="How often everything that is merged is trained.",
)
@click.option("--limit", type=click.IntRange(1), help="At most this many problems a language.  [default: all]")
@click.option("--processes", type=click.IntRange(1), help="Trainings at once.  [default: one a core]")
@click.option(
    "--device", default="auto", show_default=True, help="cpu, cuda, cuda:N or auto: a CUDA card where there is one."
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The Markdown file.")
def results(
    assets: Path | None,
    work: Path,
    seeds: int,
    limit: int | None,
    processes: int | None,
    device: str,
    output: Path,
) -> None:
    """Measures the demo's merges beside everything they are compared with, both abilities. About an hour and a quarter on two cores."""
    from maet_core.demo.pool import resumable, usable_cores
    from maet_core.demo.report import report
    from maet_core.demo.results import results as measured
    from maet_core.merging.devices import choose_device

    shipped = assets or PROJECT / "assets" / "demo"
    with shown_progress() as progress, asked_to_stop() as asked, resumable():
        found = measured(
            shipped,
            work,
            seeds,
            limit,
            progress=progress,
            halted=asked,
            processes=processes or usable_cores(),
            device=choose_device(device)[0],
        )
    output.write_text(report(found), "utf-8")
    click.echo(output)


@click.command(epilog="Example:  maet app --workspace ~/merges")
@click.option(
    "--workspace",
    type=click.Path(path_type=Path),
    help="The folder to work in.  [default: workspace, with --demo a temporary one]",
)
@click.option("--port", type=click.IntRange(1, 65535), default=8501, show_default=True)
@click.option(
    "--address", default="127.0.0.1", show_default=True, help="Who may connect: the default is this machine only."
)
@click.option(
    "--allow-host",
    multiple=True,
    metavar="NAME",
    help="With --address: the name or number under which others reach this machine.",
)
@click.option("--browser/--no-browser", default=True, help="Open a browser window.")
@click.option(
    "--demo",
    is_flag=True,
    help="For public talks: the demo project, nothing is written, and limits on length and load.",
)
def app(
    workspace: Path | None, port: int, address: str, allow_host: tuple[str, ...], browser: bool, demo: bool
) -> None:
    """Opens MAET Studio in the browser."""
    if not (PROJECT / "app.py").exists():
        raise InputError(f"{PROJECT}: app.py is not here; run `maet app` from a checkout of the project")
    command = [sys.executable, "-m", "streamlit", "run", str(PROJECT / "maet_core" / "studio" / "server.py")]
    command += ["--server.port", str(port), "--server.address", address, "--server.headless", str(not browser).lower()]
    hosts = [address] if address not in ("127.0.0.1", "0.0.0.0", "::") else []
    for host in ("localhost", "127.0.0.1", "::1", *hosts, *allow_host):
        command += ["--server.allowedHosts", host]
    with _folder(workspace, demo) as folder:
        shown = f"[{address}]" if ":" in address else address
        click.echo(f"MAET Studio: http://{shown}:{port}, in {folder}; Ctrl-C ends it")
        environment = {**os.environ, "MAET_WORKSPACE": str(folder), "MAET_DEMO": "1" if demo else "0"}
        # the settings in .streamlit/ are read from the folder that the server starts in
        status = subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode
    raise SystemExit(status)


@contextmanager
def _folder(workspace: Path | None, demo: bool) -> Iterator[Path]:
    """The folder to work in; a demonstration without one of its own gets a temporary one, which is gone afterwards."""
    if demo and workspace is None:
        with tempfile.TemporaryDirectory(prefix="maet-demo-") as name:
            yield Path(name)
    else:
        yield (workspace or Path("workspace")).expanduser().resolve()
