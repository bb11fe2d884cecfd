"""How many key neurons two sets share, and how many two random sets of their sizes would."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from math import prod

import numpy as np

from maet_core.errors import ScoresError
from maet_core.importance import KeyNeurons
from maet_core.progress import Halted, Progress, tell

_FAR = 60.0  # standard deviations beyond which the hypergeometric weight is below what float64 can add


@dataclass(frozen=True)
class Overlap:
    """Sizes of two sets of neurons, of what they have in common, and of all neurons that were ranked."""

    first: int
    second: int
    common: int
    total: int

    @property
    def jaccard(self) -> float:
        """|A ∩ B| / |A ∪ B|; 0 where both are empty."""
        union = self.first + self.second - self.common
        return self.common / union if union else 0.0

    @cached_property
    def random_jaccard(self) -> float:
        """What it is on average for random sets of these sizes."""
        return expected_jaccard(self.first, self.second, self.total)


def overlaps(
    sets: Sequence[KeyNeurons], progress: Progress | None = None, halted: Halted | None = None
) -> dict[tuple[int, int], Overlap]:
    """Every pair (i < j) of the sets, in one pass over the tensors. A tensor that only one of them ranks counts for both.

    Raises ScoresError if they rank different things: parameters and units, or neurons of models of other shapes.
    """
    if len({keys.scores.granularity for keys in sets}) > 1:
        raise ScoresError("overlap: one set is of single parameters, another of hidden units; choose one granularity")
    shapes: dict[str, tuple[int, ...]] = {}
    for keys in sets:
        for name, shape in keys.scores.shapes.items():
            if shapes.setdefault(name, shape) != shape:
                raise ScoresError(f"overlap: scores of {name} have the shapes {list(shapes[name])} and {list(shape)}")
    common = dict.fromkeys(combinations(range(len(sets)), 2), 0)
    for done, name in enumerate(shapes):
        tell(progress, halted, "comparing key neurons", done, len(shapes))
        chosen = {i: keys.neurons(name) for i, keys in enumerate(sets) if keys.counts.get(name)}
        for i, j in combinations(chosen, 2):
            common[i, j] += int((chosen[i] & chosen[j]).sum())
    total = sum(prod(shape) for shape in shapes.values())
    return {(i, j): Overlap(sets[i].count, sets[j].count, count, total) for (i, j), count in common.items()}


def expected_jaccard(first: int, second: int, total: int) -> float:
    """E[ I / (a + b − I) ] for two independent, uniformly random sets of `first` = a and `second` = b out of `total` neurons.

    I, the size of what they share, is hypergeometric. The sum runs over all of its range that float64 can tell from nothing.
    """
    if not first or not second:
        return 0.0
    mean = first * second / total
    variance = mean * (1 - first / total) * (total - second) / max(total - 1, 1)
    reach = _FAR * variance**0.5 + _FAR
    low = max(first + second - total, 0, int(mean - reach))
    high = min(first, second, int(mean + reach) + 1)
    shared = np.arange(low, high + 1, dtype=np.float64)
    at = shared[:-1]
    # the weight of one more shared neuron over the weight of this many: no factorials, no cancellation
    ratios = (first - at) * (second - at) / ((at + 1) * (total - first - second + at + 1))
    logs = np.concatenate([[0.0], np.cumsum(np.log(ratios))])
    weights = np.exp(logs - logs.max())
    return float((weights * shared / (first + second - shared)).sum() / weights.sum())
