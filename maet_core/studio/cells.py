"""Tables of the core as cells of the heatmap: key neurons and similarities by layer and module."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from maet_core.anatomy import Anatomy
from maet_core.recipe import Recipe
from maet_core.studio.drawing import DIVERGING, Scale
from maet_core.studio.heatmap import Cell, Share

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
    return {
        place: Cell(100 * row.density, (_counted(row), f"mean importance {row.mean_importance:.3g}"))
        for place, row in _by_place(table)
    }


def density_scale(tables: list[pd.DataFrame]) -> Scale:
    """One scale for all the tables that are compared, from 0 to the highest density."""
    top = max((100 * table["density"].max() for table in tables if len(table)), default=0.0)
    return Scale("of the neurons are key", 0.0, max(top, 1e-9), form="{:.1f}" if top >= 1 else "{:.2f}", unit="%")


def importance_cells(table: pd.DataFrame, scale: Scale) -> dict[Place, Cell]:
    """Cells of `cell_table`: the mean importance, in the unit of the scale."""
    return {
        place: Cell(row.mean_importance / scale.one, (f"{_counted(row)} ({100 * row.density:.2f} %)",))
        for place, row in _by_place(table)
    }


def importance_scale(tables: list[pd.DataFrame]) -> Scale:
    """From 0 to the highest mean, in a power of ten that leaves readable numbers."""
    top = max((float(table["mean_importance"].max()) for table in tables if len(table)), default=0.0)
    power = math.floor(math.log10(top)) if top > 0 else 0
    digits = str(power).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    title = "mean importance" + (f" (× 10{digits})" if power else "")
    return Scale(title, 0.0, top / 10.0**power or 1.0, form="{:.2f}", one=10.0**power)


def difference_cells(first: pd.DataFrame, second: pd.DataFrame) -> dict[Place, Cell]:
    """By how many percentage points the density of the first is above that of the second, where both have the cell."""
    others = dict(_by_place(second))
    return {
        place: Cell(
            100 * (row.density - others[place].density),
            (f"{100 * row.density:.2f} % against {100 * others[place].density:.2f} %", f"n = {row.neurons:,} neurons"),
        )
        for place, row in _by_place(first)
        if place in others
    }


def difference_scale(cells: dict[Place, Cell]) -> Scale:
    """Symmetric about 0, as far as the values go."""
    reach = max(max((abs(cell.value) for cell in cells.values()), default=0.0), 0.01)
    form = "{:+.1f}" if reach >= 1 else "{:+.2f}"
    return Scale("percentage points more key neurons", -reach, reach, DIVERGING, form)


def _by_place(table: pd.DataFrame) -> list[tuple[Place, Any]]:
    return [((row.module, column(whole(row.layer))), row) for row in table.itertuples()]


def _counted(row) -> str:
    return f"{row.key_neurons:,} of {row.neurons:,} neurons are key"


def density_shares(table: pd.DataFrame, rows: list[str], columns: list[str]) -> tuple[list[Share], list[Share]]:
    """Which share of all key neurons lies in each module and in each layer."""
    total = max(int(table["key_neurons"].sum()), 1)
    by_module = table.groupby("module")["key_neurons"].sum()
    layers = [column(whole(layer)) for layer in table["layer"]]
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


def toggled(
    recipe: Recipe, ability: str, places: Iterable[Place], select: Callable[[Recipe], dict[str, Selection]]
) -> Recipe:
    """The recipe after a click or a drag: all tensors of the cells in, or all out if all were in."""
    found = by_place(select(recipe)[ability].rows)
    rows = [row for place in places for row in found.get(place, ())]
    return with_hand(recipe, ability, places, not all(row.selected for row in rows), select)


def with_hand(
    recipe: Recipe,
    ability: str,
    places: Iterable[Place],
    wanted: bool,
    select: Callable[[Recipe], dict[str, Selection]],
) -> Recipe:
    """The recipe in which all tensors of these cells are in, or out: by hand where the rule says otherwise, without a trace elsewhere.

    Whole layers and modules become patterns, single cells names. Where neither does (a pattern of the hand stands against it:
    `module:down_proj` excluded, one of them clicked), the hand's changes are written out tensor by tensor.
    """
    before = select(recipe)[ability].rows
    found = by_place(before)
    names = {row.name for place in places for row in found.get(place, ())}
    rule = recipe.abilities[ability].tensors
    against_rule = [row.name for row in before if row.name in names and _by_rule(row) != wanted]
    patterns = _patterns(set(places), set(found))

    def changed(include: Iterable[str], exclude: Iterable[str], added: list[str]) -> Recipe:
        known = names | set(patterns)
        lists = [{entry for entry in side if entry not in known} for side in (include, exclude)]
        lists[0 if wanted else 1].update(added)
        content = {"include": sorted(lists[0]), "exclude": sorted(lists[1])}
        return recipe.with_value(f"abilities.{ability}.tensors", rule.model_dump() | content)

    def is_right(attempt: Recipe) -> bool:
        after = {row.name: row.selected for row in select(attempt)[ability].rows}
        return all(after[row.name] == (wanted if row.name in names else row.selected) for row in before)

    for added in (patterns if against_rule else [], against_rule):
        attempt = changed(rule.include, rule.exclude, added)
        if is_right(attempt):
            return attempt
    by_hand = [row for row in before if row.by == "hand"]
    kept, gone = ([row.name for row in by_hand if row.selected == side] for side in (True, False))
    return changed(kept, gone, against_rule)


def _patterns(places: set[Place], everywhere: set[Place]) -> list[str]:
    """`layer:2-5` or `module:x` for cells that are all of these layers, or of these modules; else nothing."""
    layers = sorted({layer_of(column) for _, column in places if column != OUTSIDE})
    modules = sorted({module for module, _ in places})
    if len(places) < 2:
        return []
    of_layers = {place for place in everywhere if layer_of(place[1]) in layers}
    if places == of_layers and layers == list(range(layers[0], layers[-1] + 1)):
        return [f"layer:{layers[0]}-{layers[-1]}" if len(layers) > 1 else f"layer:{layers[0]}"]
    if places == {place for place in everywhere if place[0] in modules}:
        return [f"module:{module}" for module in modules]
    return []


def _by_rule(row: Row) -> bool:
    """Whether k2 alone selects it."""
    return row.selected == (row.by == "rule")


def order(anatomy: Anatomy) -> tuple[str, ...]:
    """Modules in the order of computation; a fused one stands right before its parts."""
    parts = {place.module: [part.module for part in place.parts] for place in anatomy.places.values() if place.parts}
    return tuple(dict.fromkeys(name for module in anatomy.modules for name in (module, *parts.get(module, ()))))


def norm_shares(places: dict[Place, list[Row]], rows: list[str], columns: list[str]) -> tuple[list[Share], list[Share]]:
    """Which share of ‖R(A)‖² lies in each module and in each layer."""
    squares = {place: sum(row.norm**2 for row in found) for place, found in places.items()}
    total = sum(squares.values()) or 1.0

    def share(name: str, position: int, label: str) -> Share:
        part = sum(square for place, square in squares.items() if place[position] == name) / total
        return Share(part, f"{label}: {100 * part:.1f} % of ‖R(A)‖²")

    return [share(name, 0, name) for name in rows], [share(name, 1, f"layer {name}") for name in columns]


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


def whole(layer) -> int | None:
    """A layer as tables hold it: None where there is none."""
    return None if layer is None or layer != layer or str(layer) == "<NA>" else int(layer)
