"""Tables behind the views of key neurons: one row a cell (layer × module), one row a unit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from maet_core.anatomy import Place
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.importance.scores import unit_axis
from maet_core.lazy import torch

if TYPE_CHECKING:
    import pandas as pd  # a third of a second, which a merge without tables need not wait for


def cell_table(keys: KeyNeurons) -> pd.DataFrame:
    """One row per layer and module (per tensor where the architecture is unknown), in the model's order.

    Columns: layer (None outside the stack), module, kind, tensors (names), neurons, key_neurons (counts), density (key share,
    0 to 1), mean_importance. A fused tensor counts towards each of its modules; biases count with their weights.
    """
    import pandas as pd

    anatomy = keys.scores.base.anatomy
    cells: dict[tuple[int | None, str], dict] = {}
    for name in keys.scores.shapes:
        place = anatomy.place(name)
        values, chosen = keys.scores.read(name), keys.neurons(name)
        for module, part_values, part_chosen in _parts(keys, place, values, chosen):
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
            cell["neurons"] += part_values.numel()
            cell["key_neurons"] += int(part_chosen.sum())
            cell["sum"] += float(part_values.sum(dtype=torch.float64))
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


def unit_table(keys: KeyNeurons, layer: int | None, module: str) -> pd.DataFrame:
    """The hidden units inside one cell, one row a unit and tensor.

    Columns: tensor, expert (None without experts), unit (index within the module), importance (the unit's score; at `parameter`
    granularity the L2 norm of its parameters' scores), key_neurons (how many neurons of the unit are key), neurons.
    """
    import pandas as pd

    anatomy = keys.scores.base.anatomy
    tables = []
    for name in keys.scores.shapes:
        place = anatomy.place(name)
        if place.layer != layer:
            continue
        for part_module, values, chosen in _parts(keys, place, keys.scores.read(name), keys.neurons(name)):
            if part_module == module:
                tables.append(_units(name, place, values, chosen))
    columns = ["tensor", "expert", "unit", "importance", "key_neurons", "neurons"]
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=columns)


def _parts(keys: KeyNeurons, place: Place, values: torch.Tensor, chosen: torch.Tensor) -> list[tuple]:
    """(module, scores, key mask) with the unit axis last; several for a fused tensor."""
    if keys.scores.granularity == "parameter" and values.ndim > 1:
        axis = unit_axis(place, tuple(values.shape))
        values, chosen = values.movedim(axis, -1), chosen.movedim(axis, -1)
    if not place.parts:
        return [(place.module, values, chosen)]
    picks = [(part.module, torch.as_tensor(list(part.units))) for part in place.parts]
    return [(module, values[..., units], chosen[..., units]) for module, units in picks]


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
