"""Scaling by layer band and module type, for experts: factors on R(A) or R_Lang beside the coefficients of the whole model."""

from __future__ import annotations

import numpy as np
import streamlit as st

from maet_core.recipe import Recipe, Scale
from maet_core.studio import resources, state
from maet_core.studio.slider import slider

BANDS, COLUMNS = 4, 4
HIGHEST = 2.0
_KINDS = {"ability": "R(A)", "languages": "R_Lang"}


def section(recipe: Recipe) -> None:
    shown = state.view("expert", False)
    bound = state.bound("merge-expert", shown, lambda on: state.set_view("expert", on or None))
    shown = st.toggle("Scale by layer and module type", help="For experts: factors per part of the model", **bound)
    if not shown:
        if recipe.scales:
            st.caption(f"{len(recipe.scales)} parts of the model are scaled.")
        return
    kind = st.segmented_control(
        "What is scaled",
        format_func=_KINDS.get,
        required=True,
        **state.bound_view("merge-scaled", list(_KINDS), "scaled", "ability"),
    )
    anatomy = resources.opened(recipe).base.anatomy
    by_layer = {
        f"layer:{low}-{high}": f"layers {low}–{high}" if low < high else f"layer {low}"
        for low, high in bands(anatomy.layers)
    }
    by_module = {f"module:{module}": module for module in anatomy.modules}
    parts = [*by_layer.items(), *by_module.items()]
    height = -(-len(parts) // COLUMNS)
    for i, column in enumerate(st.columns(COLUMNS)):
        with column:
            for pattern, label in parts[i * height : (i + 1) * height]:
                _slider(recipe, kind, pattern, label)
    if others := [scale for scale in recipe.scales if scale.tensors not in by_layer | by_module]:
        lines = "; ".join(f"`{one.tensors}` R(A) × {one.ability:g}, R_Lang × {one.languages:g}" for one in others)
        st.caption(f"Also in the recipe: {lines}")
    st.caption("Where a layer and a module meet, their factors multiply. The tensors T are chosen without them.")
    st.button(
        "Undo all scaling",
        key="merge-scales-reset",
        disabled=not recipe.scales,
        on_click=state.change,
        args=("scales", []),
    )


def bands(layers: int) -> list[tuple[int, int]]:
    """First and last layer of at most `BANDS` bands of nearly the same height."""
    parts = np.array_split(np.arange(layers), min(BANDS, layers)) if layers else []
    return [(int(part[0]), int(part[-1])) for part in parts]


def scaled(recipe: Recipe, kind: str, pattern: str, factor: float) -> Recipe:
    """The recipe with this factor for this pattern; a pattern with nothing but ones goes."""
    before = next((scale for scale in recipe.scales if scale.tensors == pattern), Scale(tensors=pattern))
    after = before.model_copy(update={kind: factor})
    rest = [scale for scale in recipe.scales if scale.tensors != pattern]
    if (after.ability, after.languages) != (1.0, 1.0):
        rest.append(after)
    rest.sort(key=lambda scale: scale.tensors)
    return recipe.with_value("scales", [scale.model_dump() for scale in rest])


def _slider(recipe: Recipe, kind: str, pattern: str, label: str) -> None:
    value = next((getattr(scale, kind) for scale in recipe.scales if scale.tensors == pattern), 1.0)
    slider(
        f"{label}, × {_KINDS[kind]}",
        value,
        lambda factor: state.set_recipe(scaled(state.recipe(), kind, pattern, factor)),
        key=f"merge-scale-{kind}-{pattern}",
        high=HIGHEST,
    )
