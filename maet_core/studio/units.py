"""Inside a cell of Neurons: its units as bars and as a table; a click opens one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from maet_core.studio import cells, charts, files, scores, state
from maet_core.studio.bars import bars
from maet_core.studio.drawing import Scale

if TYPE_CHECKING:
    import pandas as pd

    from maet_core.importance import KeyNeurons

TOP_UNITS, MOST_BARS = 25, 512
SHADES = Scale(
    "of its neurons are key",
    0.0,
    100.0,
    {"light": ("#bcc6cb", "#d9822b", "#b4560a"), "dark": ("#4d5a62", "#b8691f", "#f2a24c")},
    "{:.0f}",
    "%",
)
NO_EXPERT = -1  # links hold whole numbers


def inside(keys: KeyNeurons, place: cells.Place) -> pd.DataFrame:
    """Draws the units of a cell and returns their table; a click opens a unit."""
    units = scores.unit_table(keys, place[0], cells.layer_of(place[1]))
    st.subheader(f"Inside {cells.place_name(place)}")
    total, key_count = int(units["neurons"].sum()), int(units["key_neurons"].sum())
    held = int((units["key_neurons"] > 0).sum())
    charts.numbers(
        (f"{key_count:,}", f"of {total:,} neurons are key ({100 * key_count / max(total, 1):.1f} %)"),
        (f"{held:,}", f"of {len(units):,} units hold one or more"),
        (f"{100 * _top_share(units):.0f} %", f"of its key neurons lie in its {_tenth(units)} most important units"),
    )
    chart, table = st.columns([3, 2], gap="medium")
    with chart:
        _bars(units, place)
    with table:
        _table(units, place)
    return units


def _bars(units: pd.DataFrame, place: cells.Place) -> None:
    start = state.view("zoom", NO_EXPERT)
    zoomed = 0 <= start < len(units) and len(units) > MOST_BARS
    first, last = (start, min(start + MOST_BARS, len(units))) if zoomed else (0, len(units))
    heights, shades, size = pooled(units, first, last)
    starts = range(first, last, size)
    row = _row(units, open_unit())

    def clicked(position: int) -> None:
        if size > 1:
            middle = first + size * position + size // 2
            state.set_view("zoom", max(0, min(middle - MOST_BARS // 2, len(units) - MOST_BARS)))
        else:
            _open(units, first + position)

    with st.container(key="neurons-units"):
        bars(
            heights,
            shades,
            _names(units, starts, size),
            units["unit"].to_numpy()[first:last:size],
            SHADES,
            key="neurons-bars",
            on_pick=clicked,
            label=f"{cells.place_name(place)}: importance of its units",
            titles=("unit", "importance"),
            picture=f"units-{place[0]}-{place[1]}-{first}-{last}",
            selected=(row - first) // size if row is not None and first <= row < last else None,
        )
    with st.container(horizontal=True, vertical_alignment="center"):
        if size > 1:
            st.caption(f"Each bar is the highest of {size} neighbouring units. Click one to zoom in.")
        elif zoomed:
            st.caption(f"Units {first:,} to {last - 1:,} of {len(units):,}. Click one to open it.")
            st.button("Show all", key="neurons-zoom-out", on_click=state.set_view, args=("zoom", None))
        else:
            st.caption("Click a bar to open its unit.")
        files.csv_button(lambda: units, f"units-{place[0]}-{place[1]}")


def pooled(units: pd.DataFrame, first: int, last: int) -> tuple[np.ndarray, np.ndarray, int]:
    """Importance and percent of key neurons of the rows `first` to `last`, and how many rows one bar stands for: the highest of them."""
    shown = units.iloc[first:last]
    size = -(-len(shown) // MOST_BARS)
    starts = np.arange(0, len(shown), size)
    percent = 100 * shown["key_neurons"].to_numpy(float) / shown["neurons"].to_numpy(float)
    highest = (np.maximum.reduceat(values, starts) for values in (shown["importance"].to_numpy(float), percent))
    return *highest, size


def _names(units: pd.DataFrame, starts: range, size: int) -> list[str]:
    def name(row: int) -> str:
        expert = experts[row]
        return str(numbers[row]) if expert is None or expert != expert else f"{numbers[row]} of expert {int(expert)}"

    numbers, experts = units["unit"].to_numpy(), units["expert"].to_numpy()
    if size == 1:
        return [f"unit {name(row)}" for row in starts]
    return [f"units {name(row)} to {name(min(row + size, starts.stop) - 1)}" for row in starts]


def _table(units: pd.DataFrame, place: cells.Place) -> None:
    top = units.nlargest(TOP_UNITS, "importance")
    names = ["unit", "importance", "key_neurons", "neurons"]
    if units["expert"].notna().any():
        names = ["expert", *names]
    if units["tensor"].nunique() > 1:
        names = ["tensor", *names]
    key = f"neurons-table-{place[0]}-{place[1]}"

    def chosen() -> None:
        rows = st.session_state[key]["selection"]["rows"]
        if rows and rows[0] < len(top):
            _open(units, int(top.index[rows[0]]))

    st.dataframe(
        top[names],
        key=key,
        hide_index=True,
        height=212,
        on_select=chosen,
        selection_mode="single-row",
        column_config={
            "importance": st.column_config.ProgressColumn(
                "importance", format="%.3g", min_value=0.0, max_value=float(top["importance"].max()) or 1.0
            ),
            "key_neurons": st.column_config.NumberColumn("key", help="how many of the unit's neurons are key"),
            "neurons": st.column_config.NumberColumn("of", help="neurons in the unit"),
        },
    )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.caption(f"The {len(top)} most important of {len(units):,} units.")
        opened = open_unit()
        st.number_input(
            "Open unit",
            0,
            int(units["unit"].max()),
            width=140,
            **state.bound("neurons-unit", opened[0] if opened else None, _open_number),
        )


def open_unit() -> tuple[int, int] | None:
    """(index, expert) of the unit that is open; the expert is `NO_EXPERT` where there is only one."""
    value = state.view("unit", [])
    return tuple(value) if len(value) == 2 and all(type(part) is int for part in value) else None


def _open_number(index: int | None) -> None:
    opened = open_unit()
    state.set_view("unit", None if index is None else [index, opened[1] if opened else NO_EXPERT])


def _open(units: pd.DataFrame, row: int) -> None:
    found = units.iloc[row]
    expert = NO_EXPERT if found["expert"] is None or found["expert"] != found["expert"] else int(found["expert"])
    state.set_view("unit", [int(found["unit"]), expert])


def _row(units: pd.DataFrame, opened: tuple[int, int] | None) -> int | None:
    """The row of the unit that is open; the first one where a unit has several (a weight and its bias)."""
    if opened is None:
        return None
    found = units["unit"] == opened[0]
    if opened[1] != NO_EXPERT:
        found &= units["expert"] == opened[1]
    rows = np.flatnonzero(found)
    return int(rows[0]) if len(rows) else None


def _tenth(units: pd.DataFrame) -> int:
    return max(1, round(len(units) / 10))


def _top_share(units: pd.DataFrame) -> float:
    total = units["key_neurons"].sum()
    return float(units.nlargest(_tenth(units), "importance")["key_neurons"].sum() / total) if total else 0.0
