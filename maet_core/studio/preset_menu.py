"""Presets on Merge: what the merge is compared with, one click away, and back to one's own setting."""

from __future__ import annotations

import streamlit as st

from maet_core.presets import PRESETS
from maet_core.recipe import Recipe
from maet_core.studio import state

MINE = "mine"
_TITLES = {
    "base": "Base",
    "languages-only": "Languages only",
    "task-vector": "Task vectors",
    "paper-like": "MAET, all parts",
    MINE: "Mine",
}
_MINE = "_mine"


def menu(recipe: Recipe) -> None:
    mine = own(recipe)
    made = {name: preset(mine) for name, preset in PRESETS.items()}
    now = next((name for name, one in made.items() if one == recipe and one != mine), MINE)

    def take(name: str | None) -> None:
        state.set_recipe(made.get(name, mine))

    st.pills(
        "Presets",
        list(_TITLES),
        format_func=_TITLES.get,
        required=True,
        help="**Base**: nothing is added. **Languages only**: θ_o + R_Lang. **Task vectors**: plain sums, without β, key neurons "
        "and tensor selection. **MAET, all parts**: β 0.5, 5 % key neurons, 80 % of the tensors. **Mine**: what you had set "
        "before.",
        **state.bound("merge-preset", now, take),
    )


def own(recipe: Recipe) -> Recipe:
    """The person's own setting: what is on the screen, unless that came from a preset of it."""
    mine = st.session_state.get(_MINE) or state.saved_recipe()
    if _models(mine) != _models(recipe) or recipe not in [preset(mine) for preset in PRESETS.values()]:
        mine = recipe
    st.session_state[_MINE] = mine
    return mine


def _models(recipe: Recipe) -> tuple:
    return recipe.base, tuple(recipe.abilities), tuple(recipe.languages)
