"""Inner products of values of any kind, read into memory part by part and added up in float64."""

from __future__ import annotations

from functools import cached_property

import numpy as np

from maet_core import kernels
from maet_core.differences import Difference, widened
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights


def from_values(sources: Sources, name: str, abilities: dict[str, AbilityWeights]) -> dict[str, np.ndarray]:
    """As `inner_products`, of these abilities."""
    grams: dict[str, np.ndarray] = {}
    for start in range(0, sources.base.tensors[name].numel, kernels.RANGE_ELEMENTS):
        part = _Range(sources, name, start)
        among_languages = _gram(part.language_values)
        for key, weights in abilities.items():
            own, languages = part.on_key_neurons(weights)
            gram = _gram([*own, *languages], columns=len(own))
            gram[len(own) :, len(own) :] = among_languages
            grams[key] = grams.get(key, 0) + gram
    return {key: np.tril(gram) + np.tril(gram, -1).T for key, gram in grams.items()}


class _Range:
    """The elements of a tensor from `start` on, `RANGE_ELEMENTS` of them at most; what is costly is computed when it is asked for."""

    def __init__(self, sources: Sources, name: str, start: int):
        self.name, self.start = name, start
        self.stop = min(start + kernels.RANGE_ELEMENTS, sources.base.tensors[name].numel)
        self._base, self._languages = sources.base, list(sources.languages.values())
        self._precision = sources.precision(name)
        self._stored = sources.base.values(name, start, self.stop)

    @cached_property
    def base(self) -> np.ndarray:
        return widened(self._stored, self._base.source, self.name, self.start, self._precision)

    @cached_property
    def language_values(self) -> list[np.ndarray | None]:
        return [self._values(part) for part in self._languages]

    def _values(self, part: Difference) -> np.ndarray | None:
        return part.values(self.name, self.start, self.stop, self.base) if part.touches(self.name) else None

    def on_key_neurons(self, weights: AbilityWeights) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
        """The differences of an ability, and those of the languages, on its key neurons; on all if it has none."""
        own, keys = [self._values(part) for part in weights.parts], weights.key_neurons
        if keys is None:
            return own, self.language_values
        # the ranking is on float32 scores, and what is read in another precision is not what was ranked
        known = dict(zip(weights.parts, own, strict=True)).get if self._precision == np.float32 else None
        positions = np.flatnonzero(keys.chosen(self.name, self.start, self.stop, known))
        return tuple(
            [None if values is None else values[positions] for values in parts] for parts in (own, self.language_values)
        )


def _gram(vectors: list[np.ndarray | None], columns: int | None = None) -> np.ndarray:
    """The inner products of each vector with itself and the ones before it, among the first `columns` only; None stands for zero."""
    gram = np.zeros((len(vectors), len(vectors)))
    for i, first in enumerate(vectors):
        for j, second in enumerate(vectors[: i + 1][:columns]):
            if first is not None and second is not None:
                gram[i, j] = kernels.inner_product(first, second)
    return gram
