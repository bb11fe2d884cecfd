"""What Neurons says about whole sets of key neurons: shares by layer and module, overlaps, stability."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from maet_core.errors import MaetError
from maet_core.importance import KeyNeurons
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import cells, charts, files, scores, state
from maet_core.studio.drawing import SEQUENTIAL, Scale
from maet_core.studio.heatmap import Cell, heatmap


def shares(table: pd.DataFrame, rows: list[str], columns: list[str]) -> None:
    """By layer and by module: the share of all key neurons beside that of as many random ones."""
    for side, by, names in zip(st.columns(2, gap="medium"), ("module", "layer"), (rows, columns), strict=True):
        found = share_table(table, by, names)
        with side:
            charts.plot(charts.share_bars(found, by), f"neurons-share-{by}")
            files.csv_button(lambda found=found: found, f"share-by-{by}")
    st.caption("Random: neurons drawn by lot lie everywhere in proportion to how many neurons there are.")


def share_table(table: pd.DataFrame, by: str, names: list[str]) -> pd.DataFrame:
    """Columns `by`, key_neurons, neurons, share and random (percent of all), in the order of `names`."""
    groups = table["module"] if by == "module" else [cells.column(cells.whole(layer)) for layer in table["layer"]]
    found = table[["key_neurons", "neurons"]].groupby(groups).sum().reindex(names, fill_value=0)
    found.insert(0, by, names)
    found["share"] = 100 * found["key_neurons"] / max(int(found["key_neurons"].sum()), 1)
    found["random"] = 100 * found["neurons"] / max(int(found["neurons"].sum()), 1)
    return found.reset_index(drop=True)


def overlap_line(first: KeyNeurons, second: KeyNeurons) -> list[tuple[str, str]]:
    """The overlap of two sets for the line of figures; empty where they cannot be compared, and after a Stop."""
    try:
        pairs = scores.overlaps((first, second))
    except MaetError:
        return []
    return [
        (f"{found.jaccard:.3f}", f"Jaccard overlap of the two; random sets of these sizes: {found.random_jaccard:.3f}")
        for found in (pairs or {}).values()
    ]


def overlap_map(recipe: Recipe, rule: KeyNeuronRule, granularity: str) -> None:
    """All scores against all: Jaccard, with what chance gives; a click puts the pair side by side."""
    found, left_out = [], []
    for origin in scores.origins(recipe):
        try:
            keys = scores.key_neurons(recipe, origin.id, rule)
        except MaetError as error:
            left_out.append(f"{origin.title}: {error}")
            continue
        if keys.scores.granularity == granularity:
            found.append((origin, keys))
        else:
            left_out.append(f"{origin.title}: its neurons are {keys.scores.granularity}s; choose the same above")
    try:
        pairs = scores.overlaps(tuple(keys for _, keys in found))
    except MaetError as error:
        st.info(str(error))
        return
    if pairs is None:
        return
    titles = _distinct([origin for origin, _ in found])
    grid, lines = {}, []
    for (i, j), overlap in pairs.items():
        more = overlap.jaccard / overlap.random_jaccard if overlap.random_jaccard else 0.0
        cell = Cell(
            overlap.jaccard,
            (
                f"{overlap.common:,} shared of {overlap.first:,} and {overlap.second:,}",
                f"random sets of these sizes: {overlap.random_jaccard:.4f} ({more:.1f} times that)",
            ),
        )
        grid[titles[i], titles[j]] = grid[titles[j], titles[i]] = cell
        lines.append(
            {
                "first": titles[i],
                "second": titles[j],
                "first_neurons": overlap.first,
                "second_neurons": overlap.second,
                "shared": overlap.common,
                "all_neurons": overlap.total,
                "jaccard": overlap.jaccard,
                "random_jaccard": overlap.random_jaccard,
            }
        )
    ids = dict(zip(titles, (origin.id for origin, _ in found), strict=True))
    values = [cell.value for cell in grid.values()]
    low, top = min([*values, *(line["random_jaccard"] for line in lines)], default=0.0), max(values, default=0.0)

    def pair(first: str, second: str) -> None:
        state.set_view("score", ids[first])
        state.set_view("beside", ids[second])

    heatmap(
        grid,
        titles,
        titles,
        Scale("Jaccard overlap of key neurons", low, max(top, low + 1e-6), SEQUENTIAL, "{:.3f}"),
        key="neurons-overlap",
        on_pick=pair,
        column_title="",
        title=f"Jaccard overlap of the top {rule.k1:g} %",
        csv=files.csv_text(pd.DataFrame(lines)),
    )
    st.caption(
        "Click a pair to see both maps. The random control shows what chance gives; so does each cell's hover text."
    )
    for line in left_out:
        st.caption(line)


def _distinct(found: list[scores.Origin]) -> list[str]:
    """Titles, with the kind where two are the same."""
    titles = [origin.title for origin in found]
    return [
        f"{origin.title} ({origin.id.split(':')[0]})" if titles.count(origin.title) > 1 else origin.title
        for origin in found
    ]


def stability(recipe: Recipe) -> None:
    """How far two halves of the corpus choose the same neurons, where a file of scores says so."""
    rows = [
        {"score": origin.title, "k1 (%)": k1, "agree (%)": 100 * share, "random (%)": k1}
        for origin in scores.origins(recipe)
        for k1, share in sorted(scores.split_half(recipe, origin.id).items())
    ]
    if not rows:
        st.info(
            "No score here was made from two halves of a corpus. `maet locate … --split-half -o scores/NAME.safetensors` "
            "stores how far they agree.",
            icon=":material/info:",
        )
        return
    st.dataframe(
        rows,
        hide_index=True,
        key="neurons-stability",
        column_config={
            "agree (%)": st.column_config.NumberColumn(
                format="%.1f", help="share of the key neurons of one half of the corpus that are key in the other"
            ),
            "random (%)": st.column_config.NumberColumn(format="%g", help="what two random sets would share"),
        },
    )
