"""Inner products within one tensor of everything that R(A) and R_Lang are sums of: what the similarities of step 4 come from.

One compiled loop goes through large tensors of which all inputs are bf16 weights; others are read into memory part by part.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from maet_core.ranking import Guess
from maet_core.similarity.bits import from_bits
from maet_core.similarity.products import Products
from maet_core.similarity.values import from_values
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights

__all__ = ["Products", "inner_products"]


def inner_products(
    sources: Sources, name: str, guesses: Mapping[str, Guess] = MappingProxyType({})
) -> dict[str, np.ndarray] | None:
    """Per ability that changes the tensor: the inner products, float64, of its one or two differences on its key neurons, and of the
    languages', in the order of the recipe. Among languages they are over all neurons. Raises CheckpointError for a NaN or an infinity.

    `guesses` stand for the key neurons of their abilities, and are told what is seen. With them the result may have abilities without a
    key neuron in the tensor, or be None, where the tensor can be measured only once they are known.
    """
    touching = {key: weights for key, weights in sources.abilities.items() if _touches(weights, name, guesses.get(key))}
    if not touching:
        return {}
    found = from_bits(sources, name, touching, guesses)
    if found is None and guesses.keys().isdisjoint(touching):
        found = from_values(sources, name, touching)
    return found


def _touches(weights: AbilityWeights, name: str, guess: Guess | None) -> bool:
    if guess is None:
        return weights.touches(name)
    return name in guess.values.sizes and weights.ability.touches(name)  # nothing is chosen where it changes nothing
