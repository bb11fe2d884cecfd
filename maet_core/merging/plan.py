"""What is added to each tensor under a recipe: one coefficient per difference where the method is linear, as Eq. 4 is; else
the task vectors that the method works on."""

from __future__ import annotations

from dataclasses import dataclass

from maet_core.differences import Difference
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.merging.vectors import WeightedVector
from maet_core.methods import METHODS
from maet_core.methods.linear import Place, Shares
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.selection import Measured, Selection, matching, measure
from maet_core.sources import Sources

_UNSCALED = Shares(1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Addend:
    """coefficient · (θ_k − θ_o), on the key neurons only if there are some."""

    coefficient: float
    difference: Difference
    key_neurons: KeyNeurons | None

    def same(self, other: object) -> bool:
        return isinstance(other, Addend) and vars(self) == vars(other)


class MergePlan:
    """The merge of one recipe, tensor by tensor. Raises RecipeError if the method does not fit the base."""

    def __init__(self, sources: Sources, selections: dict[str, Selection] | None):
        self.sources = sources
        self.selections = selections
        self.settings = sources.recipe.method
        self.method = METHODS[self.settings.name]
        self._scales = self._scale_factors()
        self._shares = {name: self._share(name) for name in sources.base.tensors} if self.method.linear else {}

    def selected(self, ability: str, name: str) -> bool:
        """Whether the tensor is in T_i. Without similarities every tensor is."""
        return self.selections is None or name in self.selections[ability].tensors

    def addends(self, name: str) -> list[Addend] | list[WeightedVector]:
        """What a tensor is made of besides the base; empty where it stays as it is there."""
        return self._addends(name) if self.method.linear else self._vectors(name)

    def _addends(self, name: str) -> list[Addend]:
        """The sum of Eq. 4 for one tensor, Eq. 2 and 3 multiplied out."""
        recipe, sources, shares = self.sources.recipe, self.sources, self._shares[name]
        scale = self._scales.get(name, _UNSCALED)
        parts: list[tuple[float, Difference, KeyNeurons | None]] = []
        for key, ability in recipe.abilities.items():
            gamma, weights = scale.ability * shares.ability * ability.gamma, sources.abilities[key]
            if not self.selected(key, name) or not weights.touches(name):
                continue
            parts.append((gamma * weights.alpha, weights.ability, weights.key_neurons))
            if weights.source_language is not None:
                parts.append((-gamma * weights.beta, weights.source_language, weights.key_neurons))
        parts += [
            (scale.language * shares.language * language.mu, sources.languages[key], None)
            for key, language in recipe.languages.items()
        ]
        return [Addend(*part) for part in parts if part[0] != 0 and part[1].touches(name)]

    def _scale_factors(self) -> dict[str, Shares]:
        """The product of the recipe's `scales` at every tensor that one of them is about."""
        base, found = self.sources.base, {}
        for i, scale in enumerate(self.sources.recipe.scales):
            for name in matching([scale.tensors], list(base.tensors), base.anatomy.places, f"scales.{i}.tensors"):
                before = found.get(name, _UNSCALED)
                found[name] = Shares(before.ability * scale.ability, before.language * scale.languages)
        return found

    def _share(self, name: str) -> Shares:
        recipe, anatomy = self.sources.recipe, self.sources.base.anatomy
        selected = any(self.selected(key, name) for key in recipe.abilities)
        place = Place(selected, anatomy.place(name).layer, anatomy.layers)
        return self.method.function(place, recipe.eta, **self.settings.parameters)

    def _vectors(self, name: str) -> list[WeightedVector]:
        recipe, sources, scale = self.sources.recipe, self.sources, self._scales.get(name, _UNSCALED)
        parts = [
            (f"abilities.{key}", scale.ability * ability.gamma, sources.abilities[key])
            for key, ability in recipe.abilities.items()
        ]
        parts += [
            (f"languages.{key}", scale.language * recipe.eta * language.mu, sources.languages[key])
            for key, language in recipe.languages.items()
        ]
        return [WeightedVector(*part, self.settings) for part in parts if part[1] != 0 and part[2].touches(name)]


def needs_similarity(recipe: Recipe) -> bool:
    """False where T_i cannot change the result: every candidate is selected, and the others have no R(A) to add, or the method
    selects nothing."""
    if recipe.method.name != "maet":
        return False
    rules = [ability.tensors for ability in recipe.abilities.values()]
    everything = all(rule.k2 == 100 and not rule.include and not rule.exclude for rule in rules)
    return bool(recipe.abilities) and not (everything and recipe.eta == 1)


def plan_merge(
    sources: Sources,
    measured: Measured | None = None,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> MergePlan:
    """The plan of `sources.recipe`; similarities are measured only where they matter and are not given."""
    if not needs_similarity(sources.recipe):
        return MergePlan(sources, None)
    measured = measured or measure(sources, progress, halted)
    return MergePlan(sources, measured.select(sources.recipe))
