"""Tables behind the views of key neurons: one row a cell (layer × module), one row a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maet_core.anatomy import Place
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.importance.scores import Scores, unit_axis
from maet_core.lazy import torch
from maet_core.progress import Halted, Progress, each, tell

if TYPE_CHECKING:
    import pandas as pd  # a third of a second, which a merge without tables need not wait for


Sums = dict[str, list[tuple[str, int, float]]]
"""By tensor and module: how many neurons there are, and the sum of their importances (float64)."""


def importance_sums(scores: Scores, progress: Progress | None = None, halted: Halted | None = None) -> Sums:
    """What a cell's mean importance is made of; it does not depend on k1. One pass over the scores."""

    def sums(name: str) -> list[tuple[str, int, float]]:
        parts = _parts(scores, name, scores.read(name))
        return [(module, values.numel(), float(values.sum(dtype=torch.float64))) for module, values in parts]

    names = list(scores.shapes)
    return dict(zip(names, each(names, sums, "adding up importance", progress, halted), strict=True))


def cell_table(keys: KeyNeurons, sums: Sums | None = None, progress: Progress | None = None) -> pd.DataFrame:
    """One row per layer and module (per tensor where the architecture is unknown), in the model's order.

    Columns: layer (None outside the stack), module, kind, tensors (names), neurons, key_neurons (counts), density (key share,
    0 to 1), mean_importance. A fused tensor counts towards each of its modules; biases count with their weights. With the
    `sums` of the scores only fused tensors are read.
    """
    import pandas as pd

    anatomy = keys.scores.base.anatomy
    sums = importance_sums(keys.scores) if sums is None else sums
    cells: dict[tuple[int | None, str], dict] = {}
    for position, name in enumerate(keys.scores.shapes):
        tell(progress, None, "counting key neurons", position, len(keys.scores.shapes))
        place = anatomy.place(name)
        counts = {place.module: keys.counts[name]}
        if place.parts and keys.counts[name]:
            parts = _parts(keys.scores, name, keys.neurons(name))
            counts = {module: int(chosen.sum()) for module, chosen in parts}
        for module, neurons, total in sums[name]:
            cell = cells.setdefault(
                (place.layer, module),
                {
                    "layer": place.layer,
                    "module": module,
                    "kind": place.kind,
                    "tensors": [],
                    "neurons": 0,
                    "key_neurons": 0,
                    "sum": 0.0,
                },
            )
            cell["tensors"].append(name)
            cell["neurons"] += neurons
            cell["key_neurons"] += counts.get(module, 0)
            cell["sum"] += total
    table = pd.DataFrame(list(cells.values()))
    if table.empty:
        columns = [
            "layer",
            "module",
            "kind",
            "tensors",
            "neurons",
            "key_neurons",
            "density",
            "mean_importance",
        ]
        return pd.DataFrame(columns=columns)
    table["density"] = table["key_neurons"] / table["neurons"]
    table["mean_importance"] = table.pop("sum") / table["neurons"]
    order = {module: position for position, module in enumerate(anatomy.neuron_modules)}
    table["layer"] = table["layer"].astype("Int64")
    table["_module"] = table["module"].map(lambda module: order.get(module, len(order)))
    return table.sort_values(["layer", "_module", "module"], na_position="first", ignore_index=True).drop(
        columns="_module"
    )


def unit_table(keys: KeyNeurons, layer: int | None, module: str, progress: Progress | None = None) -> pd.DataFrame:
    """The hidden units inside one cell, one row a unit and tensor.

    Columns: tensor, expert (None without experts), unit (index within the module), importance (the unit's score; at `parameter`
    granularity the L2 norm of its parameters' scores), key_neurons (how many neurons of the unit are key), neurons.
    """
    import pandas as pd

    anatomy = keys.scores.base.anatomy
    tables = []
    for position, name in enumerate(keys.scores.shapes):
        tell(progress, None, "adding up units", position, len(keys.scores.shapes))
        place = anatomy.place(name)
        if place.layer != layer:
            continue
        if module not in (part.module for part in place.parts or (place,)):
            continue
        parts = (_parts(keys.scores, name, both) for both in (keys.scores.read(name), keys.neurons(name)))
        for (part_module, values), (_, chosen) in zip(*parts, strict=True):
            if part_module == module:
                tables.append(_units(name, place, values, chosen))
    columns = ["tensor", "expert", "unit", "importance", "key_neurons", "neurons"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _parts(scores: Scores, name: str, values: torch.Tensor) -> list[tuple[str, torch.Tensor]]:
    """(module, values) of a tensor's neurons with the unit axis last; several for a fused tensor."""
    place = scores.base.anatomy.place(name)
    if scores.granularity == "parameter" and values.ndim > 1:
        values = values.movedim(unit_axis(place, tuple(values.shape)), -1)
    if not place.parts:
        return [(place.module, values)]
    return [(part.module, values[..., torch.as_tensor(list(part.units))]) for part in place.parts]


def _units(name: str, place: Place, values: torch.Tensor, chosen: torch.Tensor) -> pd.DataFrame:
    """`values` has the unit axis last; a stack of experts has the expert axis first."""
    import pandas as pd

    stacked = values.ndim >= 2 and place.kind == "expert" and place.expert is None
    experts, width = values.shape[0] if stacked else 1, values.shape[-1]
    values = values.reshape(experts, -1, width).double()
    chosen = chosen.reshape(experts, -1, width)
    return pd.DataFrame(
        {
            "tensor": name,
            "expert": [expert if stacked else place.expert for expert in range(experts) for _ in range(width)],
            "unit": list(range(width)) * experts,
            "importance": torch.linalg.vector_norm(values, dim=1).reshape(-1).numpy(),
            "key_neurons": chosen.sum(dim=1).reshape(-1).numpy(),
            "neurons": values.shape[1],
        }
    )
