"""Tables of the core as cells of the heatmap: key neurons and similarities by layer and module."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from maet_core.anatomy import Anatomy
from maet_core.recipe import Recipe
from maet_core.studio.heatmap import DIVERGING, Cell, Scale, Share

if TYPE_CHECKING:
    import pandas as pd

    from maet_core.selection import Row, Selection

OUTSIDE = "–"  # the column of tensors that belong to no layer
Place = tuple[str, str]  # (row, column) = (module, layer)


def column(layer: int | None) -> str:
    return OUTSIDE if layer is None else str(layer)


def layer_of(name: str) -> int | None:
    return None if name == OUTSIDE else int(name)


def place_name(place: Place) -> str:
    module, layer = place
    return module if layer == OUTSIDE else f"layer {layer} · {module}"


def axes(places: Iterable[Place], order: tuple[str, ...], layers: int) -> tuple[list[str], list[str]]:
    """Modules (rows) in the order of computation and layers (columns); only those that occur, but every layer."""
    places = set(places)
    modules = {module for module, _ in places}
    rows = [module for module in order if module in modules] + sorted(modules - set(order))
    columns = [str(layer) for layer in range(layers)] + ([OUTSIDE] if any(c == OUTSIDE for _, c in places) else [])
    return rows, columns


def density_cells(table: pd.DataFrame) -> dict[Place, Cell]:
    """Cells of `cell_table`: the share of key neurons in percent."""
    cells = {}
    for row in table.itertuples():
        cells[row.module, column(_whole(row.layer))] = Cell(
            100 * row.density,
            (
                f"{row.key_neurons:,} of {row.neurons:,} neurons are key",
                f"mean importance {row.mean_importance:.3g}",
            ),
        )
    return cells


def density_scale(tables: list[pd.DataFrame]) -> Scale:
    """One scale for all the tables that are compared, from 0 to the highest density."""
    top = max((100 * table["density"].max() for table in tables if len(table)), default=0.0)
    return Scale("of the neurons are key", 0.0, max(top, 1e-9), form="{:.1f}" if top >= 1 else "{:.2f}", unit="%")


def density_shares(table: pd.DataFrame, rows: list[str], columns: list[str]) -> tuple[list[Share], list[Share]]:
    """Which share of all key neurons lies in each module and in each layer."""
    total = max(int(table["key_neurons"].sum()), 1)
    by_module = table.groupby("module")["key_neurons"].sum()
    layers = [column(_whole(layer)) for layer in table["layer"]]
    by_layer = table["key_neurons"].groupby(layers).sum()

    def share(count: int, name: str) -> Share:
        return Share(count / total, f"{name}: {100 * count / total:.1f} % of all key neurons ({count:,} of {total:,})")

    return (
        [share(int(by_module.get(row, 0)), row) for row in rows],
        [share(int(by_layer.get(name, 0)), f"layer {name}") for name in columns],
    )


def by_place(rows: Iterable[Row]) -> dict[Place, list[Row]]:
    """The candidate tensors of a selection, by cell."""
    places: dict[Place, list[Row]] = defaultdict(list)
    for row in rows:
        places[row.module, column(row.layer)].append(row)
    return dict(places)


def similarity_cells(places: dict[Place, list[Row]]) -> dict[Place, Cell]:
    """The mean cosine of each cell's tensors, marked by what is selected and whether by rule or by hand."""
    return {place: Cell(_mean(rows), _lines(rows), _mark(rows)) for place, rows in places.items()}


def similarity_scale(cells: dict[Place, Cell]) -> Scale:
    """Symmetric about 0, as far as the values go."""
    reach = max((abs(cell.value) for cell in cells.values()), default=0.0)
    form = "{:+.2f}" if reach >= 0.1 else "{:+.3f}"
    return Scale("cosine of R(A) and R_Lang", -max(reach, 0.001), max(reach, 0.001), DIVERGING, form)


def toggled(recipe: Recipe, ability: str, place: Place, select: Callable[[Recipe], dict[str, Selection]]) -> Recipe:
    """The recipe after a click on a cell: all its tensors in, or all out if all were in. Undoing the rule leaves no trace.

    Where a pattern of the hand stands against it (`module:down_proj` excluded, one of them clicked), the hand's changes
    are written out tensor by tensor.
    """
    before = select(recipe)[ability].rows
    rows = by_place(before)[place]
    names, wanted = {row.name for row in rows}, not all(row.selected for row in rows)
    rule = recipe.abilities[ability].tensors
    against_rule = [row.name for row in rows if _by_rule(row) != wanted]

    def changed(include: Iterable[str], exclude: Iterable[str]) -> Recipe:
        lists = [{name for name in patterns if name not in names} for patterns in (include, exclude)]
        lists[0 if wanted else 1].update(against_rule)
        content = {"include": sorted(lists[0]), "exclude": sorted(lists[1])}
        return recipe.with_value(f"abilities.{ability}.tensors", rule.model_dump() | content)

    attempt = changed(rule.include, rule.exclude)
    if all(row.selected == wanted for row in by_place(select(attempt)[ability].rows)[place]):
        return attempt
    by_hand = [row for row in before if row.by == "hand"]
    return changed((row.name for row in by_hand if row.selected), (row.name for row in by_hand if not row.selected))


def _by_rule(row: Row) -> bool:
    """Whether k2 alone selects it."""
    return row.selected == (row.by == "rule")


def order(anatomy: Anatomy) -> tuple[str, ...]:
    """Modules in the order of computation; a fused one stands right before its parts."""
    parts = {place.module: [part.module for part in place.parts] for place in anatomy.places.values() if place.parts}
    return tuple(dict.fromkeys(name for module in anatomy.modules for name in (module, *parts.get(module, ()))))


def _mean(rows: list[Row]) -> float:
    return sum(row.cosine for row in rows) / len(rows)


def _lines(rows: list[Row]) -> tuple[str, ...]:
    kept, by_hand = sum(row.selected for row in rows), sum(row.by == "hand" for row in rows)
    parameters = sum(row.parameters for row in rows)
    if len(rows) == 1:
        state = ("kept" if kept else "left out") + (" by hand" if by_hand else " by the rule")
    else:
        state = f"{kept} of {len(rows)} tensors kept" + (f", {by_hand} changed by hand" if by_hand else "")
    return (state, f"n = {parameters:,} parameters", f"‖R(A)‖ = {sum(row.norm**2 for row in rows) ** 0.5:.3g}")


def _mark(rows: list[Row]) -> str:
    kept = sum(row.selected for row in rows)
    state = "in" if kept == len(rows) else "part" if kept else "out"
    if any(row.by == "hand" for row in rows):
        hand = {"in": "hand-in", "out": "hand-out", "part": "part hand-part"}
        return hand[state]
    return state


def _whole(layer) -> int | None:
    return None if layer is None or layer != layer or str(layer) == "<NA>" else int(layer)
