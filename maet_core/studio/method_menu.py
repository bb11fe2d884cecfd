"""The menu of merge methods: MAET and what it is compared with, their parameters read from the registry."""

from __future__ import annotations

import functools
from typing import Any

import streamlit as st

from maet_core.methods import METHODS
from maet_core.methods.registry import Parameter
from maet_core.recipe import Recipe
from maet_core.studio import state

_TITLES = {"maet": "MAET"}


def menu(recipe: Recipe) -> None:
    """Chooses the recipe's method. Key neurons and tensors belong to MAET; they come back with it from the saved recipe."""
    chosen = METHODS[recipe.method.name]
    st.selectbox(
        "Method",
        list(METHODS),
        format_func=title,
        help=f"{chosen.summary}\n\n{chosen.paper}",
        **state.bound("merge-method", chosen.name, lambda name: state.set_recipe(with_method(state.recipe(), name))),
    )
    for parameter in chosen.parameters:
        _widget(parameter, recipe.method.parameters[parameter.name])


def title(name: str) -> str:
    """How a method is called in the app: names of papers in capitals, plain words as they are."""
    return _TITLES.get(name, name.upper() if name.startswith(("ties", "dare", "della")) else name.replace("-", " "))


def with_method(recipe: Recipe, name: str) -> Recipe:
    """The recipe under another method, without the fields that only MAET has; with the saved ones again on the way back."""
    content = {**recipe.to_dict(), "method": name}
    saved = state.saved_recipe().to_dict()["abilities"]
    for key, ability in content["abilities"].items():
        for field in ("key_neurons", "tensors"):
            ability.pop(field, None)
            if name == "maet" and field in saved.get(key, {}):
                ability[field] = saved[key][field]
    return Recipe.from_dict(content)


def _widget(parameter: Parameter, value: Any) -> None:
    take = functools.partial(_set, parameter.name)
    bound = state.bound(f"merge-method-{parameter.name}", value, take)
    label = parameter.name.replace("_", " ")
    match parameter.kind:
        case "choice":
            st.selectbox(label, parameter.choices, help=parameter.help, **bound)
        case "switch":
            st.toggle(label, help=parameter.help, **bound)
        case _:
            number = int if parameter.kind == "whole number" else float
            low, high = (None if end is None else number(end) for end in (parameter.minimum, parameter.maximum))
            say = f"{parameter.help} Expected: {parameter.expected}."
            st.number_input(label, low, high, step=number(1) if number is int else 0.05, help=say, **bound)


def _set(name: str, value: Any) -> None:
    recipe = state.recipe()
    settings = {"name": recipe.method.name, **recipe.method.parameters, name: value}
    state.set_recipe(Recipe.from_dict({**recipe.to_dict(), "method": settings}))
