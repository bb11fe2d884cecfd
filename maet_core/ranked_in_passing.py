"""Key neurons and similarities in one pass over the weights, where two would read everything of the abilities twice.

Which neurons are key is known only when all have been looked at, but a sample says which threshold they will probably have. Inner products
are taken with that; what the guess got wrong is measured again.
"""

from __future__ import annotations

import numpy as np

from maet_core.progress import Halted, Progress, each
from maet_core.ranking import Guess
from maet_core.similarity import inner_products
from maet_core.sources import Sources

_PHASE = "measuring similarity"


def rank_and_measure(
    sources: Sources, names: list[str], progress: Progress | None = None, halted: Halted | None = None
) -> list[dict[str, np.ndarray]]:
    """The inner products of these tensors (see `similarity.inner_products`); afterwards all key neurons are ranked."""
    guesses = _guesses(sources)
    sources.rank(progress, halted, but=guesses)
    scored = {name for guess in guesses.values() for name in guess.values.sizes}
    more = scored.difference(names)

    def look(name: str) -> dict[str, np.ndarray] | None:
        found = inner_products(sources, name, guesses) if name not in more else None
        for guess in guesses.values():
            if name in guess.values.sizes:
                guess.look(name)
        return found

    found = dict(zip(names, each([*names, *sorted(more)], look, _PHASE, progress, halted), strict=False))
    right = _settle(sources, guesses)
    sources.rank(progress, halted)
    again = [name for name, products in found.items() if products is None or not right.get(name, True)]
    measured = each(again, lambda name: inner_products(sources, name), f"{_PHASE} again", progress, halted)
    found |= zip(again, measured, strict=True)
    # an ability without a key neuron in a tensor does not change it, which was not known before
    return [{key: gram for key, gram in found[name].items() if sources.abilities[key].touches(name)} for name in names]


def _guesses(sources: Sources) -> dict[str, Guess]:
    found = {}
    for ability, weights in sources.abilities.items():
        keys = weights.key_neurons
        guess = None if keys is None or keys.is_ranked else keys.guess()
        if guess is not None:
            found[ability] = guess
    return found


def _settle(sources: Sources, guesses: dict[str, Guess]) -> dict[str, bool]:
    """Of every tensor whether all guesses were right about it. What was another threshold altogether stays unranked."""
    right: dict[str, bool] = {}
    for ability, guess in guesses.items():
        ranking = guess.settled()
        if ranking is not None:
            sources.abilities[ability].key_neurons.settle(ranking)
        for name in guess.values.sizes:
            here = ranking is not None and guess.right(name, ranking[0][name])
            right[name] = right.get(name, True) and here
    return right
