"""The clickable heatmap that Neurons and Tensors share: layers across, modules down, one cell a (layer, module).

The browser's half (heatmap.js and the files that it imports) draws buttons, so a cell can be clicked, reached with the arrow keys
and read aloud. It also saves what it draws as SVG and PNG, and the table behind it as CSV.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from maet_core.studio.drawing import Scale, component, new_picks


@dataclass(frozen=True)
class Cell:
    """One cell: its value, what the hover says below the name, and its mark (`in`, `out`, `part`, `hand-in`, …).

    `text` stands in the cell in place of the value.
    """

    value: float
    lines: tuple[str, ...] = ()
    mark: str = ""
    text: str = ""


@dataclass(frozen=True)
class Share:
    """The length of a bar at the margin, and what it says when pointed at."""

    value: float
    text: str


def heatmap(
    cells: dict[tuple[str, str], Cell],
    rows: Sequence[str],
    columns: Sequence[str],
    scale: Scale,
    *,
    key: str,
    on_pick: Callable[[str, str], None],
    on_area: Callable[[list[tuple[str, str]]], None] | None = None,
    selected: tuple[str, str] | None = None,
    row_shares: Sequence[Share] | None = None,
    column_shares: Sequence[Share] | None = None,
    shares_title: str = "",
    legend: Sequence[tuple[str, str]] = (),
    column_title: str = "layer",
    title: str = "",
    csv: str = "",
) -> None:
    """Draws the cells, keyed by (row, column); absent ones stay blank. Each click calls `on_pick(row, column)` before the rerun.

    With `on_area`, a rectangle of cells can be dragged and the names at the margin stand for their lines: it is called with the
    cells that are there. `title` heads the picture when it is saved; `csv` is the table that can be saved beside it.
    """

    def picked() -> None:
        for pick in new_picks(key):
            area = [(row, column) for row in pick.get("rows", ()) for column in pick.get("columns", ())]
            area = [place for place in area if place in cells]
            if (pick.get("row"), pick.get("column")) in cells:
                on_pick(pick["row"], pick["column"])
            elif on_area and area:
                on_area(area)

    grid = [[cells.get((row, column)) for column in columns] for row in rows]
    component("heatmap", _HTML)(
        key=key,
        data={
            "rows": list(rows),
            "columns": list(columns),
            "values": [[cell and cell.value for cell in line] for line in grid],
            "texts": [
                ["" if cell is None else cell.text or scale.number(cell.value) for cell in line] for line in grid
            ],
            "names": [
                [
                    cell and _describe(row, column, column_title, cell, scale)
                    for column, cell in zip(columns, line, strict=True)
                ]
                for row, line in zip(rows, grid, strict=True)
            ],
            "marks": [["" if cell is None else cell.mark for cell in line] for line in grid],
            "selected": selected,
            "row_bars": row_shares and [vars(share) for share in row_shares],
            "column_bars": column_shares and [vars(share) for share in column_shares],
            "bars_title": shares_title,
            "column_title": column_title,
            "keys": list(legend),
            "areas": on_area is not None,
            "name": key,
            "title": title,
            "csv": csv,
            "scale": scale.data(),
        },
        on_picks_change=picked,
    )


def _describe(row: str, column: str, column_title: str, cell: Cell, scale: Scale) -> list[str]:
    place = f"{column_title} {column}, {row}" if column.isdigit() else row
    return [place, scale.text(cell.value) + f" {scale.title}", *cell.lines]


_HTML = '<div class="frame"><div class="grid" role="group"></div></div>'
