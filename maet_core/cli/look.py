"""Commands that only look: `maet inspect`, `maet select`."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import click

from maet_core.cli.output import count, json_option, print_json, print_table, shown_progress


@click.command(epilog="Example:  maet inspect models/base --json")
@click.argument("model")
@json_option
def inspect(model: str, as_json: bool) -> None:
    """Anatomy of MODEL (a directory, a .safetensors file or a hub id): layers, modules, dtypes, parameters, identity."""
    from maet_core.checkpoints import Checkpoint

    checkpoint = Checkpoint.open(model)
    anatomy = checkpoint.anatomy
    dtypes: Counter[str] = Counter()
    tensors = []
    for name, info in checkpoint.tensors.items():
        dtype, place = info.dtype_name, anatomy.place(name)
        dtypes[dtype] += info.numel
        tensors.append(
            {
                "name": name,
                "shape": list(info.shape),
                "dtype": dtype,
                "layer": place.layer,
                "module": place.module,
                "kind": place.kind,
                "neuron_axis": place.neuron_axis,
                "expert": place.expert,
            }
        )
    result = {
        "model": model,
        "path": str(checkpoint.path),
        "architecture": checkpoint.architecture,
        "known_architecture": anatomy.known,
        "layers": anatomy.layers,
        "modules": list(anatomy.modules),
        "parameters": checkpoint.parameters,
        "bytes": checkpoint.nbytes,
        "dtypes": dict(dtypes),
        "identity": checkpoint.identity,
        "tensors": tensors,
    }
    if as_json:
        print_json(result)
        return
    known = "" if anatomy.known else " (not in the tables: merging works, the heatmap goes by tensor name)"
    print_table(
        ("model", model),
        [
            ("architecture", result["architecture"] + known),
            ("layers", anatomy.layers),
            ("tensors", len(tensors)),
            ("parameters", f"{count(checkpoint.parameters)} ({checkpoint.parameters:,})"),
            ("dtypes", ", ".join(f"{dtype} {count(number)}" for dtype, number in dtypes.most_common())),
            ("size", f"{checkpoint.nbytes / 1e6:,.1f} MB"),
            ("identity", checkpoint.identity),
        ],
    )
    click.echo()
    modules: dict[str, list] = {}
    for tensor in tensors:
        shapes = modules.setdefault(tensor["module"], [0, 0, set()])
        shapes[0] += 1
        shapes[1] += checkpoint.tensors[tensor["name"]].numel
        shapes[2].add("×".join(map(str, tensor["shape"])))
    rows = [
        (module, modules[module][0], count(modules[module][1]), ", ".join(sorted(modules[module][2])[:3]))
        for module in anatomy.modules
        if module in modules
    ]
    print_table(("module", "tensors", "parameters", "shapes"), rows, right=(1, 2))


@click.command(epilog="Example:  maet select recipe.yaml --json")
@click.argument("recipe", type=click.Path(path_type=Path))
@json_option
def select(recipe: Path, as_json: bool) -> None:
    """Cosine similarity of R(A) and R_Lang for every candidate tensor of RECIPE, and which tensors take the ability."""
    from maet_core.recipe import Recipe
    from maet_core.selection import measure
    from maet_core.sources import Sources

    loaded = Recipe.load(recipe)
    with shown_progress() as progress:
        sources = Sources.open(loaded, recipe.parent, ranked=False)
        selections = measure(sources, progress).select(loaded)
    if as_json:
        abilities = {
            ability: {
                "k2": selection.k2,
                "candidates": len(selection.rows),
                "selected": len(selection.tensors),
                "tensors": [
                    {
                        "name": row.name,
                        "layer": row.layer,
                        "module": row.module,
                        "parameters": row.parameters,
                        "cosine": row.cosine,
                        "norm": row.norm,
                        "selected": row.selected,
                        "by": row.by,
                    }
                    for row in selection.rows
                ],
            }
            for ability, selection in selections.items()
        }
        print_json({"recipe": str(recipe), "abilities": abilities})
        return
    for ability, selection in selections.items():
        click.echo(
            f"{ability}: {len(selection.tensors)} of {len(selection.rows)} candidate tensors, k2 = {selection.k2:g} %"
        )
        rows = [
            (
                row.name,
                "" if row.layer is None else row.layer,
                row.module,
                f"{row.cosine:+.4f}",
                "yes" if row.selected else "",
                row.by,
            )
            for row in sorted(selection.rows, key=lambda row: row.cosine)
        ]
        print_table(("tensor", "layer", "module", "cosine", "selected", "by"), rows, right=(1, 3))
        click.echo()
