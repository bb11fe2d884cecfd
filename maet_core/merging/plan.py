"""What is added to each tensor under a recipe: one coefficient per difference where the method is linear, as Eq. 4 is; else
the task vectors that the method works on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from maet_core.differences import Difference
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.merging.vectors import WeightedVector
from maet_core.methods import METHODS
from maet_core.methods.linear import Place, Shares
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.selection import Measured, Selection, matching, measure
from maet_core.sources import Rows, Sources

_UNSCALED = Shares(1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Addend:
    """coefficient · (θ_k − θ_o), on the key neurons only if there are some."""

    coefficient: float
    difference: Difference
    key_neurons: KeyNeurons | None

    def same(self, other: object) -> bool:
        return isinstance(other, Addend) and vars(self) == vars(other)


@dataclass(frozen=True, eq=False)
class Sum:
    """What a linear method adds to a tensor, or to several: the coefficient of every row, 0 where it is not added."""

    rows: Rows
    coefficients: tuple[float, ...]

    @cached_property
    def addends(self) -> list[Addend]:
        parts = zip(self.coefficients, self.rows.all, strict=True)
        return [Addend(coefficient, *row) for coefficient, row in parts if coefficient != 0]

    @cached_property
    def in_float32(self) -> np.ndarray:
        return in_float32(self.coefficients)

    def same(self, other: Sum) -> bool:
        if self.rows == other.rows:
            return self.coefficients == other.coefficients
        ours, others = self.addends, other.addends
        return len(ours) == len(others) and all(one.same(another) for one, another in zip(ours, others, strict=True))


_Kind = tuple[Rows, tuple[bool, ...], Shares, Shares]


class MergePlan:
    """The merge of one recipe, tensor by tensor. Raises RecipeError if the method does not fit the base."""

    def __init__(self, sources: Sources, selections: dict[str, Selection] | None):
        self.sources = sources
        self.selections = selections
        self.settings = sources.recipe.method
        self.method = METHODS[self.settings.name]
        self._scales = self._scale_factors()
        self._shares: dict[Place, Shares] = {}
        self._kinds = {name: self._kind(name) for name in sources.base.tensors} if self.method.linear else {}
        self._sums: dict[_Kind, Sum] = {}

    def selected(self, ability: str, name: str) -> bool:
        """Whether the tensor is in T_i. Without similarities every tensor is."""
        return self.selections is None or name in self.selections[ability].tensors

    def addends(self, name: str) -> list[Addend] | list[WeightedVector]:
        """What a tensor is made of besides the base; empty where it stays as it is there."""
        return self.sum(name).addends if self.method.linear else self._vectors(name)

    def sum(self, name: str) -> Sum:
        """The same for a linear method: one object for all tensors that are made alike."""
        kind = self._kinds[name]
        if kind not in self._sums:
            self._sums[kind] = Sum(kind[0], tuple(self._coefficients(name, kind)))
        return self._sums[kind]

    def _kind(self, name: str) -> _Kind:
        """What a tensor's coefficients depend on."""
        chosen = tuple(self.selected(ability, name) for ability in self.sources.abilities)
        return self.sources.rows(name), chosen, self._share(name, any(chosen)), self._scales.get(name, _UNSCALED)

    def _coefficients(self, name: str, kind: _Kind) -> Iterator[float]:
        """Those of the sum of Eq. 4, Eq. 2 and 3 multiplied out, in the order of `Sources.rows`."""
        recipe, sources, (_, chosen, shares, scale) = self.sources.recipe, self.sources, kind
        for (key, weights), selected in zip(sources.abilities.items(), chosen, strict=True):
            gamma = scale.ability * shares.ability * recipe.abilities[key].gamma if selected else 0.0
            signs = (gamma * weights.alpha, -gamma * weights.beta)
            for sign, part in zip(signs, weights.parts, strict=False) if weights.touches(name) else ():
                if part.touches(name):
                    yield sign
        for key, part in sources.languages.items():
            if part.touches(name):
                yield scale.language * shares.language * recipe.languages[key].mu

    def _scale_factors(self) -> dict[str, Shares]:
        """The product of the recipe's `scales` at every tensor that one of them is about."""
        base, found = self.sources.base, {}
        for i, scale in enumerate(self.sources.recipe.scales):
            for name in matching([scale.tensors], list(base.tensors), base.anatomy.places, f"scales.{i}.tensors"):
                before = found.get(name, _UNSCALED)
                found[name] = Shares(before.ability * scale.ability, before.language * scale.languages)
        return found

    def _share(self, name: str, selected: bool) -> Shares:
        anatomy = self.sources.base.anatomy
        place = Place(selected, anatomy.place(name).layer, anatomy.layers)
        if place not in self._shares:
            self._shares[place] = self.method.function(place, self.sources.recipe.eta, **self.settings.parameters)
        return self._shares[place]

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


def in_float32(coefficients: Sequence[float]) -> np.ndarray:
    with np.errstate(over="ignore"):  # an infinite coefficient shows in the result, and is refused there
        return np.array(coefficients, np.float64).astype(np.float32)


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
    selections = None
    if needs_similarity(sources.recipe):
        measured = measured or measure(sources, progress, halted)
        selections = measured.select(sources.recipe)
    sources.rank(progress, halted)
    return MergePlan(sources, selections)
