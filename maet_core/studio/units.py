"""Inside a cell of Neurons: its units as bars and as a table, and the page of a single unit."""

from __future__ import annotations

import html
from statistics import NormalDist
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.errors import MaetError
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import cells, charts, excited, resources, scores, state, texts
from maet_core.workspace import short_name

if TYPE_CHECKING:
    import pandas as pd

    from maet_core.importance import KeyNeurons
    from maet_core.inspection.directions import Unit

TOP_UNITS, TOP_TOKENS, TOP_EXAMPLES = 25, 10, 5
TEXT_COUNTS = (50, 200, 1000)
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
        charts.csv_button(lambda: units, f"units-{place[0]}-{place[1]}")


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


def page(recipe: Recipe, rule: KeyNeuronRule, place: cells.Place, units: pd.DataFrame) -> None:
    """Everything about the open unit: its rank in every score, its tokens, the texts that excite it."""
    opened = open_unit()
    if opened is None:
        return
    index, number = opened
    of_unit = units[units["unit"] == index]
    if number != NO_EXPERT:
        of_unit = of_unit[of_unit["expert"] == number]
    elif of_unit["expert"].notna().any():
        number = int(of_unit["expert"].iloc[0])
    if of_unit.empty:
        st.caption(f"{cells.place_name(place)} has no unit {index}.")
        return
    expert = None if number == NO_EXPERT else number
    name = f"Unit {index}" + ("" if expert is None else f" of expert {expert}")
    with st.container(border=True, key="neurons-unit-page"):
        with st.container(horizontal=True, horizontal_alignment="distribute", vertical_alignment="center"):
            st.subheader(f"{name} · {cells.place_name(place)}", width="content")
            st.button("Close", key="neurons-unit-close", on_click=state.set_view, args=("unit", None), type="tertiary")
        _ranks(recipe, rule, place, index, expert)
        layer = cells.layer_of(place[1])
        if layer is not None:
            from maet_core.inspection.directions import Unit

            _words(recipe, Unit(layer, place[0], index, expert))


def _ranks(recipe: Recipe, rule: KeyNeuronRule, place: cells.Place, index: int, expert: int | None) -> None:
    from maet_core.inspection.directions import GATED

    modules = GATED if place[0] in GATED else (place[0],)
    rows, silent = [], []
    for origin in scores.origins(recipe):
        try:
            keys = scores.key_neurons(recipe, origin.id, rule)
        except MaetError as error:
            silent.append(f"{origin.title}: {error}")
            continue
        for module in modules:
            units = scores.unit_table(keys, module, cells.layer_of(place[1]))
            own = units[units["unit"] == index]
            if expert is not None:
                own = own[own["expert"] == expert]
            if own.empty:
                continue
            one = own.loc[own["neurons"].idxmax()]  # the weight, where a bias has a row of its own
            fellows = units[units["neurons"] == one["neurons"]]["importance"]
            above = int((fellows > one["importance"]).sum())
            rows.append(
                {
                    "score": origin.title,
                    "kind": origin.note,
                    "module": module,
                    "importance": float(one["importance"]),
                    "rank": above + 1,
                    "of": len(fellows),
                    "key": int(one["key_neurons"]),
                    "neurons": int(one["neurons"]),
                }
            )
    st.markdown("**Importance in every score**")
    st.dataframe(
        rows,
        key="neurons-unit-ranks",
        hide_index=True,
        height=min(38 + 35 * len(rows), 318),
        column_config={
            "importance": st.column_config.NumberColumn(format="%.3g"),
            "rank": st.column_config.NumberColumn(help="1 is the most important unit of this layer's module"),
            "of": st.column_config.NumberColumn(help="units in this layer's module"),
            "key": st.column_config.NumberColumn(help="how many of the unit's neurons are among the top k1 %"),
        },
    )
    for line in silent:
        st.caption(line)


def _words(recipe: Recipe, unit: Unit) -> None:
    """Token directions and exciting texts, in the base or in an ability's checkpoint."""
    paths = [recipe.base, *(ability.ability for ability in recipe.abilities.values() if ability.ability)]
    paths = [path for path in dict.fromkeys(paths) if (entry := resources.model_entry(path)) and entry.checkpoint]
    if not paths:
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        path = st.segmented_control(
            "Weights of",
            format_func=short_name,
            required=True,
            **state.bound_view("neurons-weights", paths, "weights", paths[0]),
        )
    try:
        _directions(path, unit)
    except MaetError as error:
        st.caption(str(error))
        return
    _examples(path, unit)


@st.cache_resource(show_spinner="Going through the vocabulary …", max_entries=64)
def _tokens(path: str, stamp: tuple, unit: Unit) -> list[tuple]:
    from maet_core.inspection.directions import strongest, tokens_along, unit_vectors

    base = resources.model_entry(path).checkpoint
    found = []
    for vector in unit_vectors(base, unit):
        products = tokens_along(base, vector)
        ends = [strongest(products, TOP_TOKENS, lowest) for lowest in (False, True)]
        found.append((vector.module, vector.side, len(products), *ends))
    return found


def _directions(path: str, unit: Unit) -> None:
    found = _tokens(path, resources.stamp(path), unit)
    tokenizer = resources.speaker(path, "").tokenizer
    say = {"reads": ("reads from", "row", "embedding"), "writes": ("writes towards", "column", "unembedding")}
    for column, (module, side, _, most, least) in zip(st.columns(len(found)), found, strict=True):
        verb, line, _ = say[side]
        with column:
            st.markdown(f"**{module} {line} {verb}**")
            _chips(tokenizer, most)
            st.caption("and least of all" if side == "reads" else "and away from")
            _chips(tokenizer, least[: TOP_TOKENS // 2])
    count = found[0][2]
    highest = NormalDist().inv_cdf((count - 0.375) / (count + 0.25))
    st.caption(
        "The unit's weights times each token's vector, in standard deviations from the vocabulary's mean. "
        f"Among {count:,} tokens a random direction reaches about ±{highest:.1f}."
    )


def _chips(tokenizer, tokens: list) -> None:
    chips = "".join(
        f"<span dir='auto' title='product {token.product:+.3g}'>{html.escape(token_text(tokenizer, token.id))}"
        f"<small>{token.deviations:+.1f}</small></span>"
        for token in tokens
    )
    st.html(f"<div class='maet-chips'>{chips}</div>")


def token_text(tokenizer, token: int) -> str:
    """A token as people read it; a space shows as ␣, and part of a letter as its stored form."""
    text = tokenizer.decode([token])
    if not text or "\N{REPLACEMENT CHARACTER}" in text:
        return str(tokenizer.convert_ids_to_tokens(token))
    return text.replace(" ", "␣").replace("\n", "⏎")


def _examples(path: str, unit: Unit) -> None:
    options = texts.choices()
    if not options:
        st.caption("Put texts into corpora/ or questions into tasks/ to see which of them excite this unit.")
        return
    st.markdown("**Texts that excite it most**")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = texts.choose("neurons-texts", options)
        count = st.selectbox(
            "Of the first", width=110, **state.bound_view("neurons-count", TEXT_COUNTS, "count", TEXT_COUNTS[1])
        )
        end = st.segmented_control(
            "Where it goes", required=True, **state.bound_view("neurons-end", ["highest", "lowest"], "end", "highest")
        )
    try:
        found = excited.examples(path, unit, chosen, count, TOP_EXAMPLES, end == "lowest")
    except MaetError as error:
        st.caption(str(error))
        return
    if found is None:
        return
    best, read = found
    reach = max((float(abs(example.activations).max()) for example in best), default=0.0)
    with st.container(key="neurons-examples"):
        for example in best:
            excited.show(example, reach, chosen.language)
    st.caption(
        f"n = {read} texts, the first {excited.MOST_TOKENS} tokens of each. Orange: above zero, blue: below; "
        "the strongest token is underlined."
    )
