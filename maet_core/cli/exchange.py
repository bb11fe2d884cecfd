"""Commands about merge methods: `maet methods`, and mergekit's YAML with `maet export` and `maet import`."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from maet_core.cli.output import json_option, print_json, print_table, shown_progress
from maet_core.errors import InputError, OutputError


@click.command(epilog="Example:  maet methods --json")
@json_option
def methods(as_json: bool) -> None:
    """The merge methods that a recipe's field `method` takes, with their papers and parameters."""
    from maet_core.methods import METHODS

    if as_json:
        found = [
            {
                "name": entry.name,
                "summary": entry.summary,
                "paper": asdict(entry.paper) | {"url": entry.paper.url},
                "parameters": [asdict(parameter) for parameter in entry.parameters],
            }
            for entry in METHODS.values()
        ]
        print_json({"methods": found})
        return
    for entry in METHODS.values():
        click.echo(f"{entry.name}  ({entry.paper})\n  {entry.summary}")
        rows = [
            ("   ", parameter.name, f"{parameter.default}", parameter.expected, parameter.help)
            for parameter in entry.parameters
        ]
        if rows:
            print_table(("   ", "parameter", "default", "expected", ""), rows)
        click.echo()


@click.command(epilog="Example:  maet export recipes/demo.yaml -o mergekit.yaml")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The YAML file to write.")
@json_option
def export(recipe: Path, output: Path, as_json: bool) -> None:
    """Writes RECIPE as YAML for mergekit, if mergekit can express it."""
    from maet_core.merging.exchange import to_mergekit
    from maet_core.recipe import Recipe

    _refuse_existing(output)
    with shown_progress() as progress:
        text = to_mergekit(Recipe.load(recipe), recipe.parent, progress)
    _write(output, text)
    _tell(output, "mergekit-yaml", as_json, f"run `mergekit-yaml {output} DIR` with mergekit 0.1")


@click.command("import", epilog="Example:  maet import mergekit.yaml -o recipes/theirs.yaml")
@click.argument("file", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The recipe to write.")
@json_option
def import_(file: Path, output: Path, as_json: bool) -> None:
    """Writes the recipe that says the same as mergekit's YAML FILE. Its paths are taken from the current folder, as mergekit does."""
    from maet_core.merging.mergekit_import import from_mergekit

    _refuse_existing(output)
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{file}: cannot be read ({error})") from error
    _write(output, from_mergekit(text, str(file)).to_yaml())
    _tell(output, "recipe", as_json, f"`maet merge {output} -o DIR` merges it")


def _refuse_existing(output: Path) -> None:
    if output.exists():
        raise OutputError(f"{output}: exists already; choose another name or remove it first")


def _write(output: Path, text: str) -> None:
    try:
        output.write_text(text, "utf-8")
    except OSError as error:
        raise OutputError(f"{output}: cannot be written ({error.strerror})") from error


def _tell(output: Path, kind: str, as_json: bool, advice: str) -> None:
    if as_json:
        print_json({"output": str(output), "kind": kind})
    else:
        click.echo(f"{output}: written; {advice}")
