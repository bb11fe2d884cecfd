"""What Eq. 4 adds to each tensor under a recipe: MAET is linear, so that is one coefficient per difference."""

from __future__ import annotations

from dataclasses import dataclass

from maet_core.importance.key_neurons import KeyNeurons
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.selection import Measured, Selection, measure
from maet_core.sources import Sources
from maet_core.weights.differences import Difference


@dataclass(frozen=True, eq=False)
class Addend:
    """coefficient · (θ_k − θ_o), on the key neurons only if there are some."""

    coefficient: float
    difference: Difference
    key_neurons: KeyNeurons | None

    def same(self, other: Addend) -> bool:
        return (self.coefficient, self.difference, self.key_neurons) == (
            other.coefficient,
            other.difference,
            other.key_neurons,
        )


class MergePlan:
    """Eq. 4 of one recipe, tensor by tensor."""

    def __init__(self, sources: Sources, selections: dict[str, Selection] | None):
        self.sources = sources
        self.selections = selections

    def selected(self, ability: str, name: str) -> bool:
        """Whether the tensor is in T_i. Without similarities every tensor is."""
        return self.selections is None or name in self.selections[ability].tensors

    def addends(self, name: str) -> list[Addend]:
        """The sum of Eq. 4 for one tensor, Eq. 2 and 3 multiplied out; empty where the tensor stays as it is in the base."""
        recipe, sources = self.sources.recipe, self.sources
        chosen = [key for key in recipe.abilities if self.selected(key, name)]
        parts: list[tuple[float, Difference, KeyNeurons | None]] = []
        for key in chosen:
            gamma, weights = recipe.abilities[key].gamma, sources.abilities[key]
            if not weights.touches(name):
                continue
            parts.append((gamma * weights.alpha, weights.ability, weights.key_neurons))
            if weights.source_language is not None:
                parts.append((-gamma * weights.beta, weights.source_language, weights.key_neurons))
        eta = recipe.eta if chosen else 1.0
        parts += [(eta * language.mu, sources.languages[key], None) for key, language in recipe.languages.items()]
        return [Addend(*part) for part in parts if part[0] != 0 and part[1].touches(name)]


def needs_similarity(recipe: Recipe) -> bool:
    """False where T_i cannot change the result: every candidate is selected, and the others have no R(A) to add."""
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
