"""Settings of a recipe that everybody wants beside their own: what it is compared with, made from the same models."""

from __future__ import annotations

from collections.abc import Callable

from maet_core.methods import METHODS
from maet_core.recipe import KeyNeuronRule, Recipe, TensorRule


def base(recipe: Recipe) -> Recipe:
    """θ_o: nothing is added. The models stay named, so that every coefficient can be turned up from here."""
    return _with(recipe, ability={"gamma": 0.0}, language={"mu": 0.0}, eta=1.0)


def languages_only(recipe: Recipe) -> Recipe:
    """θ_o + R_Lang in every tensor, the recipe's own μ in it; no ability."""
    return _with(recipe, ability={"gamma": 0.0}, eta=1.0)


def task_vector(recipe: Recipe) -> Recipe:
    """Plain task vectors (Ilharco et al. 2023): θ_o + Σ γ_i·(θ_{Ai,L0} − θ_o) + η·R_Lang; no β, no key neurons, every tensor."""
    plain = {"key_neurons": None, "tensors": TensorRule()}
    return _with(recipe, method="task-arithmetic", ability=plain, checkpoints={"alpha": 1.0, "beta": 0.0})


def paper_like(recipe: Recipe) -> Recipe:
    """MAET with all its parts: β takes the source language away, 5 % of the parameters are key neurons, 80 % of the tensors
    take the ability; γ, η and the recipe's μ in full. An ability without a source-language checkpoint has no β."""
    tensors = TensorRule(k2=80.0)
    checkpoints = {"alpha": 1.0, "beta": 0.5, "key_neurons": KeyNeuronRule(k1=5.0)}
    return _with(recipe, ability={"gamma": 1.0, "tensors": tensors}, checkpoints=checkpoints, eta=1.0)


PRESETS: dict[str, Callable[[Recipe], Recipe]] = {
    "base": base,
    "languages-only": languages_only,
    "task-vector": task_vector,
    "paper-like": paper_like,
}


def _with(
    recipe: Recipe,
    method: str = "maet",
    ability: dict | None = None,
    checkpoints: dict | None = None,
    language: dict | None = None,
    eta: float | None = None,
) -> Recipe:
    """Other numbers for every ability (`checkpoints`: only where it is no pack, which has them in it) and language; no scales."""
    abilities = {}
    for name, item in recipe.abilities.items():
        fields = dict(ability or {})
        if not item.pack:
            fields |= checkpoints or {}
            if item.source_language is None:
                fields["beta"] = 0.0
        elif "key_neurons" in fields:
            del fields["key_neurons"]
        abilities[name] = item.model_copy(update=fields)
    languages = {name: item.model_copy(update=language or {}) for name, item in recipe.languages.items()}
    changed = recipe.model_copy(
        update={
            "method": METHODS[method].settings(name=method),
            "abilities": abilities,
            "languages": languages,
            "scales": [],
            "eta": recipe.eta if eta is None else eta,
        }
    )
    return Recipe.from_dict(changed.to_dict())
