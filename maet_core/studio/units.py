"""Inside a cell of Neurons: its units as bars and as a table; a click opens one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from maet_core.studio import cells, charts, files, scores, state

if TYPE_CHECKING:
    import pandas as pd

    from maet_core.importance import KeyNeurons

TOP_UNITS = 25
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
    zoomed = 0 <= start < len(units) and len(units) > charts.MOST_BARS
    first, last = (start, min(start + charts.MOST_BARS, len(units))) if zoomed else (0, len(units))
    figure, size = charts.unit_bars(units, first, last)
    key = f"neurons-bars-{place[0]}-{place[1]}-{first}-{last}"

    def clicked() -> None:
        points = st.session_state[key]["selection"]["points"]
        if not points:
            return
        row = first + size * int(points[0]["point_index"])
        if size > 1:
            begin = max(0, min(row + size // 2 - charts.MOST_BARS // 2, len(units) - charts.MOST_BARS))
            state.set_view("zoom", begin)
        elif 0 <= row < len(units):
            _open(units, row)

    with st.container(key="neurons-units"):
        charts.plot(figure, key, on_select=clicked, selection_mode="points")
    with st.container(horizontal=True, vertical_alignment="center"):
        if size > 1:
            st.caption(f"Each bar is the highest of {size} neighbouring units. Click one to zoom in.")
        elif zoomed:
            st.caption(f"Units {first:,} to {last - 1:,} of {len(units):,}. Click one to open it.")
            st.button("Show all", key="neurons-zoom-out", on_click=state.set_view, args=("zoom", None))
        else:
            st.caption("Click a bar to open its unit.")
        files.csv_button(lambda: units, f"units-{place[0]}-{place[1]}")


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


def _tenth(units: pd.DataFrame) -> int:
    return max(1, round(len(units) / 10))


def _top_share(units: pd.DataFrame) -> float:
    total = units["key_neurons"].sum()
    return float(units.nlargest(_tenth(units), "importance")["key_neurons"].sum() / total) if total else 0.0
