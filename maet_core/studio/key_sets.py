"""What Neurons says about whole sets of key neurons: shares by layer and module, overlaps, stability, knock-out."""

from __future__ import annotations

import pandas as pd
import streamlit as st

from maet_core.errors import MaetError
from maet_core.importance import KeyNeurons
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import answers, cells, charts, knocked, limits, questions, scores, state, texts
from maet_core.studio.heatmap import SEQUENTIAL, Cell, Scale, heatmap

FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
LOSS_COUNTS = (12, 24, 60, 200)


def shares(table: pd.DataFrame, rows: list[str], columns: list[str]) -> None:
    """By layer and by module: the share of all key neurons beside that of as many random ones."""
    for side, by, names in zip(st.columns(2, gap="medium"), ("module", "layer"), (rows, columns), strict=True):
        found = share_table(table, by, names)
        with side:
            charts.plot(charts.share_bars(found, by), f"neurons-share-{by}")
            charts.csv_button(lambda found=found: found, f"share-by-{by}")
    st.caption("Random: neurons drawn by lot lie everywhere in proportion to how many neurons there are.")


def share_table(table: pd.DataFrame, by: str, names: list[str]) -> pd.DataFrame:
    """Columns `by`, key_neurons, neurons, share and random (percent of all), in the order of `names`."""
    groups = table["module"] if by == "module" else [cells.column(cells.whole(layer)) for layer in table["layer"]]
    found = table[["key_neurons", "neurons"]].groupby(groups).sum().reindex(names, fill_value=0)
    found.insert(0, by, names)
    found["share"] = 100 * found["key_neurons"] / max(int(found["key_neurons"].sum()), 1)
    found["random"] = 100 * found["neurons"] / max(int(found["neurons"].sum()), 1)
    return found.reset_index(drop=True)


def overlap_line(first: KeyNeurons, second: KeyNeurons) -> tuple[str, str] | None:
    """The overlap of two sets for the line of figures; None where they cannot be compared."""
    try:
        found = scores.overlaps((first, second))[0, 1]
    except MaetError:
        return None
    return f"{found.jaccard:.3f}", f"Jaccard overlap of the two; random sets of these sizes: {found.random_jaccard:.3f}"


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
        csv=charts.csv_text(pd.DataFrame(lines)),
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


def knock_out(recipe: Recipe, keys: KeyNeurons, name: str, signature: tuple) -> None:
    """The key neurons scaled in the model in memory, beside as many random ones in the same tensors."""
    models = knocked.models(recipe)
    options = texts.choices()
    if not options:
        st.info("Put texts into corpora/ or questions into tasks/ to take the loss on.", icon=":material/info:")
        return
    left, right = st.columns([5, 4], gap="medium")
    with left:
        factor = st.select_slider(
            "Multiply every key neuron by (0: off, 1: as is)",
            FACTORS,
            format_func=lambda value: f"{value:g}",
            **state.bound("neurons-factor", _factor(), lambda value: state.set_view("factor", value)),
        )
    with right.container(horizontal=True, vertical_alignment="bottom"):
        model = st.selectbox(
            "In the model",
            format_func=models.get,
            width=190,
            **state.bound_view("neurons-model", list(models), "model", knocked.MERGED),
        )
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = texts.choose("neurons-loss-texts", options)
        counts = limits.current().texts(LOSS_COUNTS)
        count = st.selectbox(
            "Of the first", width=110, **state.bound_view("neurons-loss-count", counts, "losses", counts[:2][-1])
        )
    variant = knocked.variant(recipe, model)
    settings = {
        "as is": knocked.Setting("As is", None, ()),
        "key": knocked.Setting(f"{name}: key neurons × {factor:g}", keys, ("key", *signature)),
        "random": knocked.Setting(f"Random neurons × {factor:g}", scores.control(keys), ("random", *signature)),
    }
    _losses(variant, settings, factor, chosen, count)
    question = questions.choose_question("neurons")
    if question is not None:
        questions.show_question(question)
        factors = {"as is": 1.0, "key": factor, "random": factor}
        slots = [knocked.slot(variant, setting, factors[kind]) for kind, setting in settings.items()]
        answers.panel_auto("neurons", slots, question)


def _factor() -> float:
    value = state.view("factor", 0.0)
    return value if value in FACTORS else 0.0


def _losses(variant: Recipe, settings: dict, factor: float, chosen: texts.Texts, count: int) -> None:
    pairs = texts.pairs(chosen, count)
    sample = (chosen.id, hash(tuple(pairs)))
    found = {}
    for kind, setting in settings.items():
        found[kind] = knocked.losses(variant, setting, 1.0 if kind == "as is" else factor, pairs, sample)
        if found[kind] is None:
            return
    as_is = found["as is"].mean()
    rows = []
    for kind, losses in found.items():
        mean, change = losses.mean(), losses.change_from(found["as is"])
        rows.append(
            {
                "neurons": settings[kind].label,
                "scaled": 0 if settings[kind].keys is None else settings[kind].keys.count,
                "loss": mean.value,
                "interval": mean.interval,
                "change": change.value,
                "change_interval": change.interval,
                "texts": mean.texts,
                "tokens": mean.tokens,
            }
        )
    charts.numbers(
        (f"{as_is.value:.3f} ± {as_is.interval:.3f}", "nats per token, as is"),
        (f"{rows[1]['change']:+.3f} ± {rows[1]['change_interval']:.3f}", f"key neurons × {factor:g}"),
        (f"{rows[2]['change']:+.3f} ± {rows[2]['change_interval']:.3f}", f"as many random ones × {factor:g}"),
    )
    st.caption(
        f"n = {as_is.texts} answers with {as_is.tokens:,} tokens; ±: 95 % interval over answers. Changes are paired: "
        "the same answers, as is and scaled. The random neurons lie in the same tensors, as many in each."
    )
    points = _measured(variant, settings, pairs, sample)
    with st.expander("Loss over the factor", expanded=len(points) > 4):
        charts.plot(charts.loss_curves(points, as_is.value), "neurons-loss-curve")
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption("Every factor that you have tried is a point.")
            charts.csv_button(lambda: points, "loss-over-factor")


def _measured(variant: Recipe, settings: dict, pairs: list, sample: tuple) -> pd.DataFrame:
    """The losses at all factors that somebody has looked at."""
    rows = []
    for kind in ("key", "random"):
        for factor in FACTORS:
            losses = knocked.known_losses(variant, settings[kind], factor, sample)
            if losses is not None:
                mean = losses.mean()
                rows.append(
                    {
                        "neurons": kind,
                        "factor": factor,
                        "loss": mean.value,
                        "interval": mean.interval,
                        "texts": mean.texts,
                        "tokens": mean.tokens,
                    }
                )
    return pd.DataFrame(rows)
