"""The clickable heatmap that Neurons and Tensors share: layers across, modules down, one cell a (layer, module).

The browser's half (heatmap.js and the files that it imports) draws buttons, so a cell can be clicked, reached with the arrow keys
and read aloud. It also saves what it draws as SVG and PNG, and the table behind it as CSV.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import streamlit as st

# One hue that gets darker (lighter on dark ground), and a blue–orange pair: both keep their order for every kind of
# colour blindness and in greyscale towards the ends. They end where one ink can still be read on all of them: numbers that are
# black here and white beside it draw the eye to where the ink changes, and nothing changes there.
SEQUENTIAL = {
    "light": ("#f1f6f8", "#cfe3ec", "#a3cde0", "#74b3d0", "#4a99c0", "#3a85ae"),
    "dark": ("#1a2730", "#1d3a4a", "#1e4d65", "#216080", "#266e94", "#2c7da4"),
}
DIVERGING = {
    "light": ("#4b8fd2", "#9dc3e6", "#f3f1ec", "#f2bd8a", "#dd8434"),
    "dark": ("#3a78b8", "#35587d", "#2a3036", "#7a4f28", "#a95f17"),
}
INKS = {"light": "#000000", "dark": "#ffffff"}


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, in units of `unit`, drawn with one of the palettes above.

    `one`: what a value of 1 stands for, where the values are shown in a power of ten.
    """

    title: str
    low: float
    high: float
    palette: dict[str, tuple[str, ...]] = field(default_factory=lambda: SEQUENTIAL)
    form: str = "{:.1f}"
    unit: str = ""
    one: float = 1.0

    def number(self, value: float) -> str:
        text = self.form.format(value)
        return text.replace("-", "−") if text.strip("+-0.") else text.lstrip("-+")

    def text(self, value: float) -> str:
        return f"{self.number(value)} {self.unit}".strip()


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
        seen = st.session_state.get(f"{key}-seen", 0)
        for pick in st.session_state[key].get("picks") or ():
            if pick["time"] > seen:
                st.session_state[f"{key}-seen"] = pick["time"]
                area = [(row, column) for row in pick.get("rows", ()) for column in pick.get("columns", ())]
                area = [place for place in area if place in cells]
                if (pick.get("row"), pick.get("column")) in cells:
                    on_pick(pick["row"], pick["column"])
                elif on_area and area:
                    on_area(area)

    grid = [[cells.get((row, column)) for column in columns] for row in rows]
    _component()(
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
            "scale": {
                "title": scale.title,
                "low": scale.low,
                "high": scale.high,
                "low_text": scale.text(scale.low),
                "high_text": scale.text(scale.high),
                "inks": INKS,
                **{mode: [_rgb(stop) for stop in scale.palette[mode]] for mode in ("light", "dark")},
            },
        },
        on_picks_change=picked,
    )


def _describe(row: str, column: str, column_title: str, cell: Cell, scale: Scale) -> list[str]:
    place = f"{column_title} {column}, {row}" if column.isdigit() else row
    return [place, scale.text(cell.value) + f" {scale.title}", *cell.lines]


def _rgb(stop: str) -> list[int]:
    return [int(stop[i : i + 2], 16) for i in (1, 3, 5)]


_PARTS = ("colours.js", "picture.js", "legend.js", "marking.js", "tip.js", "heatmap.js")


@cache
def _assets() -> tuple[str, str]:
    """The script and the style sheet. Streamlit takes one script a component, so the modules become one, imported ones first."""
    folder = Path(__file__).parent
    modules = "\n".join((folder / name).read_text("utf-8") for name in _PARTS)
    script = re.sub(r"^import .* from \"\./.*\n|^export (?!default)", "", modules, flags=re.MULTILINE)
    return script, (folder / "heatmap.css").read_text("utf-8")


def _component():
    js, css = _assets()
    return _register(js, css)


@st.cache_resource(show_spinner=False)
def _register(js: str, css: str):
    """Registers once a server: Streamlit warns when a name is registered again."""
    html = (
        '<div class="heatmap"><div class="frame"><div class="grid" role="group"></div></div>'
        '<div class="legend"></div><div class="tip" role="tooltip" hidden></div></div>'
    )
    return st.components.v2.component("maet_heatmap", html=html, js=js, css=css)
