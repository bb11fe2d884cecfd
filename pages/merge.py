"""How much of each: sliders for Eq. 2 to 4, a live answer, and ways to keep the result."""

import time

import streamlit as st

from maet_core.evaluation.questions import Question
from maet_core.recipe import Recipe
from maet_core.studio import (
    answers,
    formula,
    grid,
    keeping,
    kept_settings,
    method_menu,
    preset_menu,
    questions,
    scaling,
    shell,
    slots,
    state,
)
from maet_core.studio.slider import settled, slider
from maet_core.workspace import short_name

shell.guard()

RANGES = {"alpha": (0.0, 2.0), "beta": (0.0, 2.0), "gamma": (0.0, 3.0), "mu": (0.0, 2.0), "eta": (0.0, 2.0)}
LIMIT = 100.0
QUICK_SECONDS = 0.5
_QUICK = "_merge_quick"


def coefficient(field: str, value: float, label: str) -> None:
    low, high = RANGES[field.rpartition(".")[2]]
    with st.container(key=f"merge-row-{field}"):
        slider(
            label,
            value,
            lambda entered: state.change(field, entered),
            key=f"merge-{field}",
            low=low,
            high=high,
            limits=(-LIMIT, LIMIT),
        )


def sliders(recipe: Recipe) -> None:
    for name, ability in recipe.abilities.items():
        field = f"abilities.{name}"
        st.markdown(f"**Ability: {name}**")
        coefficient(f"{field}.gamma", ability.gamma, f"γ · how much of R({name}) is added")
        if not ability.pack:
            coefficient(f"{field}.alpha", ability.alpha, f"α · how much of {short_name(ability.ability)} is in it")
            if ability.source_language:
                label = f"β · how much of {short_name(ability.source_language)} is taken away"
                coefficient(f"{field}.beta", ability.beta, label)
    if recipe.languages:
        st.markdown("**Languages**")
    for name, language in recipe.languages.items():
        coefficient(f"languages.{name}.mu", language.mu, f"μ · {questions.language_name(name)}")
    if recipe.languages and recipe.abilities:
        coefficient("eta", recipe.eta, "η · all languages, where the ability is added too")


def live_answer(recipe: Recipe, question: Question | None) -> None:
    if question is None:
        st.info("Type a question, and it is answered after every change.")
        settled()
        return
    questions.show_question(question)
    started = time.monotonic()
    answers.panel_auto("merge", [slots.merged_slot(recipe)], question, settled)
    st.session_state[_QUICK] = time.monotonic() - started < QUICK_SECONDS


shell.title("Merge", "Move a slider: the weights in memory follow, and the question is answered again.")
recipe = shell.need_recipe()
preset_menu.menu(recipe)
with st.container(key="merge-desk"):
    left, right = st.columns([5, 8], gap="large")
with left:
    sliders(recipe)
    method_menu.menu(recipe)
with right:
    with st.container(key="merge-live"):
        question = questions.choose_question("merge")
        live = st.container()
    st.latex(formula.equations(recipe))
# A quick model answers before the rest of the page is drawn again; a slow one last, for nothing else would be drawn meanwhile.
quick = st.session_state.get(_QUICK, False)
if quick:
    with live:
        live_answer(recipe, question)
scaling.section(recipe)
keeping.tabs(recipe)
st.subheader("Kept settings")
kept_settings.section(recipe, question)
st.subheader("γ × η")
below = st.container()
if not quick:
    with live:
        live_answer(recipe, question)
with below:
    grid.section(recipe, question)
