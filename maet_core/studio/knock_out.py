"""The knock-out as Neurons draws it: a factor, the losses it makes beside the random control's, and the answers."""

from __future__ import annotations

from collections.abc import Callable

import pandas as pd
import streamlit as st

from maet_core.importance import KeyNeurons
from maet_core.recipe import Recipe
from maet_core.studio import answers, charts, files, knocked, limits, questions, scores, state, texts
from maet_core.studio.slider import slider

_MOVED, _TRIED = "_knock_moved", "_knock_factors"
FACTORS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0)
LOSS_COUNTS = (12, 24, 60, 200)


def section(
    recipe: Recipe, keys: KeyNeurons, name: str, signature: tuple, to_read: Callable[[], None] = lambda: None
) -> None:
    """The key neurons scaled in the model in memory, beside as many random ones in the same tensors.

    `to_read` is called when losses and answers show what the factor does.
    """
    models = knocked.models(recipe)
    options = texts.choices()
    if not options:
        st.info("Put texts into corpora/ or questions into tasks/ to take the loss on.", icon=":material/info:")
        return
    left, right = st.columns([5, 4], gap="medium", vertical_alignment="bottom")
    with left:
        factor = _factor()
        slider(
            "Multiply every key neuron by (0: off, 1: as is)",
            factor,
            _take_factor,
            key="neurons-factor",
            stops=FACTORS,
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
        "key": knocked.Setting(f"{name}: key neurons", keys, ("key", *signature)),
        "random": knocked.Setting("Random neurons", scores.control(keys), ("random", *signature)),
    }
    _losses(variant, settings, factor, chosen, count)
    question = questions.choose_question("neurons")
    if question is not None:
        questions.show_question(question)
        factors = {"as is": 1.0, "key": factor, "random": factor}
        slots = [knocked.slot(variant, setting, factors[kind]) for kind, setting in settings.items()]
        answers.panel_auto("neurons", slots, question, to_read)
    else:
        to_read()


def has_moved() -> bool:
    """Whether it is the factor that brought this run; told once. The page then draws this section first."""
    return st.session_state.pop(_MOVED, False)


def _take_factor(value: float) -> None:
    st.session_state[_MOVED] = True
    state.set_view("factor", value)


def _factor() -> float:
    value = state.view("factor")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not FACTORS[0] <= value <= FACTORS[-1]:
        return 0.0
    return float(value)


def _losses(variant: Recipe, settings: dict, factor: float, chosen: texts.Texts, count: int) -> None:
    pairs = texts.pairs(chosen, count)
    sample = (chosen.id, hash(tuple(pairs)))
    found = {}
    with st.container():
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
            files.csv_button(lambda: points, "loss-over-factor")


def _measured(variant: Recipe, settings: dict, pairs: list, sample: tuple) -> pd.DataFrame:
    """The losses at all factors that have been looked at: by anybody, or, of those between the slider's steps, by this person."""
    tried = st.session_state.setdefault(_TRIED, {*FACTORS})
    tried.add(_factor())
    rows = []
    for kind in ("key", "random"):
        for factor in sorted(tried):
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
