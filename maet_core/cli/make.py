"""Commands that write a file or a directory: `maet locate`, `maet pack`, `maet merge`."""

from __future__ import annotations

import time
from pathlib import Path

import click

from maet_core.cli.background import runs_as_job
from maet_core.cli.loading import quickly
from maet_core.cli.output import count, json_option, print_json, print_table, shown_progress
from maet_core.cli.stopping import asked_to_stop
from maet_core.errors import InputError

_HERE = Path()


@runs_as_job()
@click.command(epilog="Example:  maet locate --base models/base --trained models/math-en -o scores/math.safetensors")
@click.option("--base", required=True, help="The base model: a directory or a hub id.")
@click.option("--trained", help="value-change: the trained model or adapter that is compared with the base.")
@click.option(
    "--corpus", help="gradient, taylor, probe: a text, JSONL or Parquet file, or a hub dataset (name:config:split)."
)
@click.option(
    "--method", help="value-change, gradient, taylor, probe, or random as the control.  [default: by what is given]"
)
@click.option("--granularity", type=click.Choice(["parameter", "unit"]), default="parameter", show_default=True)
@click.option(
    "--include", multiple=True, metavar="GLOB", help="Tensors beyond the default ones, e.g. 'model.embed_tokens.*'."
)
@click.option(
    "--seed", type=click.IntRange(min=0), default=0, show_default=True, help="For probe, and the random control."
)
@click.option(
    "--batches", type=click.IntRange(1), default=32, show_default=True, help="How much of the corpus is used."
)
@click.option("--batch-rows", type=click.IntRange(1), default=8, show_default=True)
@click.option("--row-tokens", type=click.IntRange(8), default=256, show_default=True)
@click.option("--answers-only", is_flag=True, help="The loss is on the answers of the corpus alone.")
@click.option(
    "--learning-rate", type=click.FloatRange(0, min_open=True), default=1e-4, show_default=True, help="For probe."
)
@click.option("--split-half", is_flag=True, help="Also tell how many key neurons two halves of the sample share.")
@click.option("--device", default="cpu", show_default=True, help="Where the model runs.")
@click.option(
    "--k1",
    type=click.FloatRange(0, 100),
    default=5.0,
    show_default=True,
    help="Percent for the summary that is printed.",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="The file of scores to write.")
@json_option
def locate(
    base: str,
    trained: str | None,
    corpus: str | None,
    method: str | None,
    granularity: str,
    include: tuple[str, ...],
    seed: int,
    batches: int,
    batch_rows: int,
    row_tokens: int,
    answers_only: bool,
    learning_rate: float,
    split_half: bool,
    device: str,
    k1: float,
    output: Path,
    as_json: bool,
) -> None:
    """How important every neuron is for an ability. The scores are kept, so that k1 can move later without computing again.

    Either from a trained model (--trained), or by going through examples of the ability (--corpus). What was stopped or killed on
    its way through a corpus goes on from its last state when the same command is given again.
    """
    import pandas as pd

    from maet_core import importance
    from maet_core.checkpoints import Checkpoint
    from maet_core.differences import Models

    started = time.monotonic()
    method = method or ("value-change" if trained else "taylor" if corpus else None)
    if method is None:
        raise InputError(
            "--trained or --corpus: both are missing; name a trained model or a corpus, or use --method random"
        )
    if output.exists():
        raise InputError(f"{output}: exists already; choose another name or remove it first")
    checkpoint = Checkpoint.open(base)
    with shown_progress() as progress:
        if corpus is None:
            difference = Models(checkpoint, _HERE).open(trained) if trained else None
            scores = importance.locate(method, checkpoint, difference, granularity, seed, include)
            importance.save_scores(scores, output, progress)
        else:
            from maet_core.corpora import read_corpus
            from maet_core.locating import Sample, locate_in_corpus
            from maet_core.merging.devices import choose_device
            from maet_core.unfinished import begun

            with begun(output, "locating", "making") as folder, asked_to_stop() as asked:
                scores = locate_in_corpus(
                    method,
                    checkpoint,
                    read_corpus(corpus),
                    Sample(batches, batch_rows, row_tokens, answers_only),
                    granularity,
                    include,
                    split_half,
                    learning_rate,
                    seed,
                    str(choose_device(device)[0]),
                    progress,
                    asked,
                    folder,
                )
                scores.details["corpus"] = corpus
                importance.save_scores(scores, output, progress)
        saved = importance.SavedScores(output, checkpoint)
        keys = importance.select_key_neurons(saved, k1, progress=progress)
    cells = importance.cell_table(keys)
    rows = cells.drop(columns="tensors").to_dict("records")
    result = {
        "output": str(output),
        "method": method,
        "granularity": granularity,
        "base_identity": checkpoint.identity,
        "tensors": len(saved.shapes),
        "neurons": keys.total,
        "k1": k1,
        "key_neurons": keys.count,
        "bytes_written": output.stat().st_size,
        "seconds": round(time.monotonic() - started, 3),
        **{field: value for field, value in saved.details.items() if field not in ("maet_version", "trained")},
        "cells": [row | {"layer": None if pd.isna(row["layer"]) else row["layer"]} for row in rows],
    }
    if as_json:
        print_json(result)
        return
    click.echo(
        f"{output}: {count(keys.total)} neurons in {len(saved.shapes)} tensors; at k1 = {k1:g} % {count(keys.count)} are key"
    )
    for percent, share in saved.details.get("split_half", {}).items():
        click.echo(
            f"two halves of the sample share {100 * share:.1f} % of the key neurons at k1 = {percent} % (chance: {percent} %)"
        )
    by_module = cells.groupby("module", sort=False)[["neurons", "key_neurons"]].sum()
    rows = [
        (module, count(int(n)), count(int(k)), f"{100 * k / n:.2f} %")
        for module, (n, k) in zip(by_module.index, by_module.values, strict=True)
    ]
    print_table(("module", "neurons", "key", "density"), rows, right=(1, 2, 3))


@click.group()
def pack() -> None:
    """Writes R(A) or R(L) as one small file that can be shared and is tied to its base."""


@pack.command(
    epilog="Example:  maet pack ability --base models/base --ability models/math-en "
    "--source-language models/general-en --beta 0.5 --key-neurons scores/math.safetensors --k1 5 -o packs/math.safetensors"
)
@click.option("--base", required=True)
@click.option(
    "--ability", required=True, help="θ_{A,L0}: the model or adapter trained on ability and source-language text."
)
@click.option("--source-language", help="θ_{L0}: the model or adapter trained on source-language text alone.")
@click.option("--alpha", type=float, default=1.0, show_default=True, help="α of Eq. 2.")
@click.option("--beta", type=float, default=0.0, show_default=True, help="β of Eq. 2.")
@click.option(
    "--key-neurons",
    "scores",
    type=click.Path(path_type=Path),
    help="Scores by `maet locate`; without them all parameters count.",
)
@click.option(
    "--k1", type=click.FloatRange(0, 100), default=5.0, show_default=True, help="Percent of neurons that are key."
)
@click.option("--scope", type=click.Choice(["global", "per-tensor"]), default="global", show_default=True)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@json_option
def ability(
    base: str,
    ability: str,
    source_language: str | None,
    alpha: float,
    beta: float,
    scores: Path | None,
    k1: float,
    scope: str,
    output: Path,
    as_json: bool,
) -> None:
    """R(A) as an ability pack (Eq. 2), sparse where it is sparse."""
    from maet_core.importance import SavedScores
    from maet_core.recipe import Recipe
    from maet_core.sources import Sources

    rule = None
    if scores is not None:
        from maet_core.checkpoints import Checkpoint

        saved = SavedScores(scores, Checkpoint.open(base))
        rule = {
            "method": saved.method,
            "granularity": saved.granularity,
            "scope": scope,
            "k1": k1,
            "scores": str(scores),
        }
    fields = {"ability": ability, "source_language": source_language, "alpha": alpha, "beta": beta, "key_neurons": rule}
    fields = {field: value for field, value in fields.items() if value is not None}
    recipe = Recipe.from_dict({"base": base, "abilities": {"packed": fields}}, "maet pack ability")
    sources = Sources.open(recipe, _HERE)
    made_from = {"made_from": fields, "inputs": sources.identities()}
    _write_pack("ability", sources.abilities["packed"], sources.base, output, made_from, as_json)


@pack.command(
    epilog="Example:  maet pack language --base models/base --checkpoint models/lang-sw -o packs/sw.safetensors"
)
@click.option("--base", required=True)
@click.option("--checkpoint", required=True, help="θ_{Lj}: the model or adapter trained on text of the language.")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@json_option
def language(base: str, checkpoint: str, output: Path, as_json: bool) -> None:
    """R(L) = θ_{Lj} − θ_o as a language pack."""
    from maet_core.checkpoints import Checkpoint
    from maet_core.differences import Models

    opened = Checkpoint.open(base)
    difference = Models(opened, _HERE).open(checkpoint)
    made_from = {
        "made_from": {"checkpoint": checkpoint},
        "inputs": {base: opened.identity, checkpoint: difference.identity},
    }
    _write_pack("language", difference, opened, output, made_from, as_json)


@pack.command("recipe", epilog="Example:  maet pack recipe recipes/demo.yaml --name math -o packs/math.safetensors")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--name", help="Which of the recipe's abilities; may be left out where there is one.")
@click.option(
    "--relative-to",
    type=click.Path(path_type=Path),
    help="The folder that RECIPE's paths start from.  [default: its own]",
)
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path))
@json_option
def of_recipe(recipe: Path, name: str | None, relative_to: Path | None, output: Path, as_json: bool) -> None:
    """R(A) of an ability of RECIPE as an ability pack, with its α, β and key neurons."""
    from maet_core.recipe import Recipe
    from maet_core.sources import Sources

    loaded = Recipe.load(recipe)
    names = list(loaded.abilities)
    if name is None and len(names) == 1:
        name = names[0]
    if name not in names:
        raise InputError(
            f"--name: found {name or 'none'}, expected one of {recipe}'s abilities: {', '.join(names) or 'none'}"
        )
    if loaded.abilities[name].pack:
        raise InputError(f"abilities.{name}: a pack already; copy {loaded.abilities[name].pack}")
    alone = loaded.model_copy(update={"abilities": {name: loaded.abilities[name]}, "languages": {}})
    sources = Sources.open(alone, relative_to or recipe.parent)
    made_from = {"made_from": alone.to_dict()["abilities"][name], "inputs": sources.identities()}
    _write_pack("ability", sources.abilities[name], sources.base, output, made_from, as_json)


def _write_pack(kind: str, weights, base, output: Path, made_from: dict, as_json: bool) -> None:
    from maet_core.weights.packs import write_pack

    started = time.monotonic()
    with shown_progress() as progress:
        result = write_pack(kind, weights, base, output, made_from, progress)
    result["seconds"] = round(time.monotonic() - started, 3)
    if as_json:
        print_json(result)
    else:
        click.echo(
            f"{output}: {count(result['values'])} values in {result['tensors']} tensors, {result['bytes_written'] / 1e6:,.1f} MB"
        )


@runs_as_job(recipe="recipe")
@click.command(epilog="Example:  maet merge recipes/demo.yaml -o models/merged")
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, help="The new directory; it must not exist.")
@click.option(
    "--device", default="auto", show_default=True, help="auto, cpu, cuda (every card with room), cuda:N or mps."
)
@click.option(
    "--relative-to",
    type=click.Path(path_type=Path),
    help="The folder that RECIPE's paths start from.  [default: its own]",
)
@click.option(
    "--sync/--no-sync",
    default=True,
    show_default=True,
    help="Wait until the model is on the disk. Without, a power cut within the next minute can leave it with holes.",
)
@json_option
def merge(recipe: Path, output: str, device: str, relative_to: Path | None, sync: bool, as_json: bool) -> None:
    """Merges RECIPE into a directory that transformers opens (Eq. 4, or the method it names)."""
    with quickly():
        from maet_core import merging
        from maet_core.recipe import Recipe

    if not output.strip():
        raise InputError("--output: empty; name a new directory")
    loaded = Recipe.load(recipe)
    with shown_progress() as progress:
        report = merging.merge(loaded, relative_to or recipe.parent, output, device, progress, sync=sync)
    if as_json:
        print_json(report.to_dict())
        return
    click.echo(
        f"{output}: {report.tensors_changed} of {report.tensors} tensors and {count(report.parameters_changed)} of "
        f"{count(report.parameters)} parameters changed; {report.seconds:.1f} s on {report.device} ({report.device_reason}), "
        f"{report.bytes_read / 1e6:,.1f} MB read, {report.bytes_written / 1e6:,.1f} MB written, peak {report.peak_bytes / 1e6:,.0f} MB"
    )
