"""What Eq. 4 adds to each tensor under a recipe, and the values of any range of it. Disk and live merges share this."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from maet_core import equations
from maet_core.progress import Halted, Progress
from maet_core.recipe import Recipe
from maet_core.selection import Measured, Selection, measure
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights
from maet_core.weights.differences import Difference, finite


@dataclass(frozen=True)
class TensorTerms:
    """The sum of Eq. 4 for one tensor: (γ_i, R(A_i)) for the abilities it is selected for, η, and (μ_j, R(L_j))."""

    abilities: tuple[tuple[float, AbilityWeights], ...]
    eta: float
    languages: tuple[tuple[float, Difference], ...]

    @property
    def empty(self) -> bool:
        """True where the tensor stays as it is in the base."""
        return not self.abilities and not self.languages


class MergePlan:
    """Eq. 4 of one recipe, tensor by tensor."""

    def __init__(self, sources: Sources, selections: dict[str, Selection] | None):
        self.sources = sources
        self.selections = selections

    def selected(self, ability: str, name: str) -> bool:
        """Whether the tensor is in T_i. Without similarities every tensor is."""
        return self.selections is None or name in self.selections[ability].tensors

    def terms(self, name: str) -> TensorTerms:
        recipe, sources = self.sources.recipe, self.sources
        chosen = [key for key in recipe.abilities if self.selected(key, name)]
        abilities = tuple(
            (recipe.abilities[key].gamma, sources.abilities[key])
            for key in chosen
            if recipe.abilities[key].gamma != 0 and sources.abilities[key].touches(name)
        )
        eta = recipe.eta if chosen else 1.0
        languages = tuple(
            (language.mu, sources.languages[key])
            for key, language in recipe.languages.items()
            if eta != 0 and language.mu != 0 and sources.languages[key].touches(name)
        )
        return TensorTerms(abilities, eta, languages)

    def chunk(self, terms: TensorTerms, name: str, start: int, stop: int, base_chunk: torch.Tensor) -> torch.Tensor:
        """Elements `start` to `stop` of the merged tensor, accumulated in float32 or float64, not yet rounded."""
        values = base_chunk.to(self.sources.precision(name))
        abilities = [(gamma, weights.chunk(name, start, stop, values)) for gamma, weights in terms.abilities]
        languages = equations.language_sum((mu, part.chunk(name, start, stop, values)) for mu, part in terms.languages)
        return equations.merged(values, abilities, terms.eta, languages)

    def tensor(self, name: str, dtype: torch.dtype, step: int = 1 << 20) -> torch.Tensor:
        """The whole merged tensor in its shape, rounded once to `dtype`."""
        info, terms = self.sources.base.tensors[name], self.terms(name)
        if terms.empty:
            return self.sources.base.read(name).to(dtype)
        result = torch.empty(info.numel, dtype=dtype)
        for start in range(0, info.numel, step):
            stop = min(start + step, info.numel)
            base = finite(self.sources.base.read(name, start, stop).reshape(-1), self.sources.base.source, name, start)
            result[start:stop] = self.chunk(terms, name, start, stop, base)
        return result.reshape(info.shape)


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
