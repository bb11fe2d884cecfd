"""Key neurons off or amplified in the model that everybody shares, beside as many random ones: losses and answers."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from maet_core.conversation import Speaker
from maet_core.recipe import Recipe
from maet_core.studio import answers, in_memory, resources, shared_work, waiting
from maet_core.workspace import short_name

if TYPE_CHECKING:
    from maet_core.importance import KeyNeurons
    from maet_core.inspection.losses import Losses

MERGED, BASE = "merged", "base"
_LOSS = "neurons-loss"


@dataclass(frozen=True)
class Setting:
    """What is scaled: `signature` (hashable) tells this set of neurons from any other."""

    label: str
    keys: KeyNeurons | None
    signature: tuple


def models(recipe: Recipe) -> dict[str, str]:
    """{id: name} of the models that the one in memory can be: merged, the base, and each ability's checkpoint."""
    found = {MERGED: "merged"}
    if recipe.method.name == "maet":
        found[BASE] = f"base ({short_name(recipe.base)})"
        for name, ability in recipe.abilities.items():
            if ability.ability:
                found[f"trained:{name}"] = f"{name} ({short_name(ability.ability)})"
    return found


def variant(recipe: Recipe, model: str) -> Recipe:
    """The recipe whose merge is that model: coefficients of zero give the base, α = γ = 1 alone an ability's checkpoint."""
    if model == MERGED:
        return recipe
    content = recipe.to_dict()
    for name, ability in content["abilities"].items():
        wanted = model == f"trained:{name}"
        ability |= {"gamma": float(wanted), "tensors": {"k2": 100.0}}
        ability.pop("key_neurons", None)
        if wanted:
            ability |= {"alpha": 1.0, "beta": 0.0}
    for language in content["languages"].values():
        language["mu"] = 0.0
    content.pop("scales", None)
    return Recipe.from_dict(content | {"eta": 0.0})


def losses(recipe: Recipe, setting: Setting, factor: float, pairs: list, sample: tuple) -> Losses | None:
    """Loss of the answers while the setting's neurons are scaled; None after a Stop. `sample` tells the texts from others."""
    from maet_core.inspection.losses import answer_losses

    resident, hold = in_memory.live(recipe), _scaled(recipe, setting.keys, factor)

    def work(progress) -> Losses:
        with waiting.held(resident.lock, progress), hold():
            return answer_losses(resident.model, resident.tokenizer, pairs, progress=progress)

    return waiting.result(_LOSS, _signature(recipe, setting, factor, sample), work, f"Taking the loss: {setting.label}")


def known_losses(recipe: Recipe, setting: Setting, factor: float, sample: tuple) -> Losses | None:
    """The same if somebody has had it already."""
    return shared_work.known(_LOSS, _signature(recipe, setting, factor, sample))


def _signature(recipe: Recipe, setting: Setting, factor: float, sample: tuple) -> tuple:
    return resources.fingerprint(recipe), recipe.model_dump_json(), setting.signature, factor, sample


def slot(recipe: Recipe, setting: Setting, factor: float) -> answers.Slot:
    """A column of the answers' panel."""

    def speaker() -> Speaker:
        resident = in_memory.live(recipe)
        return Speaker(setting.label, resident.model, resident.tokenizer, _scaled(recipe, setting.keys, factor))

    note = "nothing is scaled" if setting.keys is None else f"× {factor:g} · {setting.keys.count:,} neurons"
    return answers.Slot(setting.label, note, (recipe, setting.signature, factor), speaker)


def _scaled(recipe: Recipe, keys: KeyNeurons | None, factor: float) -> Callable:
    """A context in which the shared model is the recipe's, with these neurons scaled, and nobody else's."""
    from maet_core.knockout import scaled

    resident, following = in_memory.live(recipe), in_memory.following(recipe)

    @contextmanager
    def hold():
        with following():
            if keys is None:
                yield
                return
            with scaled(resident.model, resident.sources.base, keys, factor):
                yield

    return hold
