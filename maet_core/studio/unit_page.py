"""The page of a single hidden unit: its rank in every score, the tokens of its weights, the texts that excite it."""

from __future__ import annotations

import html
from statistics import NormalDist
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.errors import MaetError
from maet_core.progress import Progress
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import cells, excited, in_memory, limits, resources, scores, state, texts, waiting
from maet_core.studio.units import NO_EXPERT, open_unit
from maet_core.workspace import short_name

if TYPE_CHECKING:
    import pandas as pd

    from maet_core.inspection.directions import Unit

TOP_TOKENS, TOP_EXAMPLES = 10, 5
TEXT_COUNTS = (50, 200, 1000)


def show(recipe: Recipe, rule: KeyNeuronRule, place: cells.Place, units: pd.DataFrame) -> None:
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
                    "module": module,
                    "rank": above + 1,
                    "key": f"{int(one['key_neurons'])} of {int(one['neurons'])}",
                    "importance": float(one["importance"]),
                    "kind": origin.note,
                }
            )
    st.markdown("**Importance in every score**")
    st.dataframe(
        rows,
        key="neurons-unit-ranks",
        hide_index=True,
        height=min(38 + 35 * len(rows), 318),
        column_config={
            # the first columns are as narrow as they can be, so that a phone shows what counts
            "score": st.column_config.TextColumn(width=78),
            "module": st.column_config.TextColumn(width=82),
            "rank": st.column_config.NumberColumn(width=52, help="1 is the most important unit of this layer's module"),
            "key": st.column_config.TextColumn(width=76, help="how many of the unit's neurons are among the top k1 %"),
            "importance": st.column_config.NumberColumn(format="%.3g"),
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


def _tokens(path: str, unit: Unit) -> list[tuple]:
    base = resources.model_entry(path).checkpoint

    def work(progress: Progress) -> list[tuple]:
        progress("reading the unit's weights", 0, 1)
        from maet_core.inspection.directions import strongest, tokens_along, unit_vectors

        found = []
        for vector in unit_vectors(base, unit):
            products = tokens_along(base, vector, progress)
            ends = [strongest(products, TOP_TOKENS, lowest) for lowest in (False, True)]
            found.append((vector.module, vector.side, len(products), *ends))
        return found

    what = f"Going through the vocabulary of {short_name(path)}"
    with st.container():
        return waiting.shared("tokens", (path, resources.stamp(path), unit), work, what, 64)


def _directions(path: str, unit: Unit) -> None:
    found = _tokens(path, unit)
    tokenizer = in_memory.speaker(path, "").tokenizer
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
        "The unit's weights, with the gain of the norm in between, times each token's vector: in standard deviations from the "
        f"vocabulary's mean. Among {count:,} tokens a random direction reaches about ±{highest:.1f}."
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
        counts = limits.current().texts(TEXT_COUNTS)
        count = st.selectbox(
            "Of the first", width=110, **state.bound_view("neurons-count", counts, "count", counts[:2][-1])
        )
        end = st.segmented_control(
            "Where it goes", required=True, **state.bound_view("neurons-end", ["highest", "lowest"], "end", "highest")
        )
    try:
        with st.container():
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
