"""Settings that people kept: names, ratings, what the model said under them, and the way back. They live in the workspace."""

from __future__ import annotations

import html

import streamlit as st

from maet_core.errors import MaetError, WorkspaceError
from maet_core.evaluation.questions import Question
from maet_core.notebook import Notebook
from maet_core.recipe import Recipe
from maet_core.studio import answers, resources, shell, state

MOST_SHOWN = 8
_STARS = 5


def notebook() -> Notebook:
    return Notebook(resources.workspace(), "settings")


def keep(recipe: Recipe, name: str, question: Question | None) -> None:
    """Adds the setting, with the answer to the question on the screen if the model has given it."""
    name = " ".join(name.split())[:80]
    if not name:
        raise WorkspaceError("a setting needs a name; write a word or two")
    row = {"name": name, "recipe": recipe.to_dict(), "rating": None}
    said = st.session_state.get("_answers", {}).get("merge", {})
    answer = said.get("answers", {}).get("Merged")
    if question and answer and answer.finished and said["signature"][0] == question.prompt:
        row |= {"question": question.question, "language": question.language, "answer": answer.text}
        row["right"] = answers.verdict(answer, question)
    notebook().add(row)


def summary(recipe: Recipe) -> str:
    """Its numbers in one line."""
    parts = [] if recipe.method.name == "maet" else [recipe.method.name]
    for ability in recipe.abilities.values():
        parts.append(f"γ {ability.gamma:g}")
        if not ability.pack:
            parts += [f"α {ability.alpha:g}", f"β {ability.beta:g}"]
        if ability.key_neurons:
            parts.append(f"k₁ {ability.key_neurons.k1:g} %")
        if ability.tensors.k2 != 100:
            parts.append(f"k₂ {ability.tensors.k2:g} %")
    parts += [f"μ {name} {language.mu:g}" for name, language in recipe.languages.items()]
    parts.append(f"η {recipe.eta:g}")
    if recipe.scales:
        parts.append(f"{len(recipe.scales)} scaled")
    return " · ".join(parts)


def section(recipe: Recipe, question: Question | None) -> None:
    def add() -> None:
        keep(recipe, st.session_state["merge-setting-name"], question)
        st.session_state["merge-setting-name"] = ""

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name of this setting", max_chars=80, key="merge-setting-name", placeholder="strong, half the languages"
        )
        st.button("Keep", key="merge-setting-keep", icon=":material/bookmark_add:", on_click=shell.guarded(add))
    rows = notebook().rows()[::-1]
    if not rows:
        st.caption("Keep a setting that you like: it stays in the workspace, to rate, to compare and to come back to.")
        return
    everything = state.view("all_settings", False)
    for row in rows if everything else rows[:MOST_SHOWN]:
        _row(row, recipe)
    if len(rows) > MOST_SHOWN:
        label = "Show fewer" if everything else f"Show all {len(rows)}"
        st.button(label, key="merge-settings-all", on_click=state.set_view, args=("all_settings", not everything))


def _row(row: dict, now: Recipe) -> None:
    identity = row["id"]
    try:
        recipe = Recipe.from_dict(row["recipe"])
    except (MaetError, KeyError, TypeError):
        return  # written by hand, or by another version
    mark = {True: "<b class='right'>✓</b>", False: "<b class='wrong'>✗</b>"}.get(row.get("right"), "")
    said = f"{mark} <q>{html.escape(str(row.get('answer', ''))[:60].strip())}</q>" if row.get("answer") else ""
    name = html.escape(str(row.get("name", "")))

    def rate() -> None:
        chosen = st.session_state[f"merge-rate-{identity}"]
        notebook().change(identity, rating=None if chosen is None else chosen + 1)

    with st.container(horizontal=True, vertical_alignment="center", key=f"merge-setting-{identity}"):
        st.html(
            f"<div class='maet-setting'><b>{name}</b> {said}<small>{html.escape(summary(recipe))}</small></div>",
            width="stretch",
        )
        rating = row.get("rating")
        if f"merge-rate-{identity}" not in st.session_state and isinstance(rating, int) and 1 <= rating <= _STARS:
            st.session_state[f"merge-rate-{identity}"] = rating - 1
        st.feedback("stars", key=f"merge-rate-{identity}", on_change=shell.guarded(rate))
        st.button(
            "Restore",
            key=f"merge-restore-{identity}",
            disabled=recipe == now,
            on_click=state.set_recipe,
            args=(recipe,),
            help=f"Back to “{row.get('name', '')}”",
        )
        st.button(
            "",
            icon=":material/delete:",
            key=f"merge-forget-{identity}",
            on_click=shell.guarded(lambda: notebook().change(identity, removed=True)),
            help=f"Remove “{row.get('name', '')}”",
            type="tertiary",
        )
