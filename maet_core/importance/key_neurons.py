"""N_i: the top k1 % of the neurons by importance, exactly, without holding all scores at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import torch

from maet_core.counting import percent_count
from maet_core.importance.scores import Scores, unit_axis


@dataclass(frozen=True)
class _Cut:
    """Neurons above `threshold` are key, and the first `ties` (in storage order) of those that equal it."""

    threshold: float
    ties: int


class KeyNeurons:
    """Which neurons are key. Ties go by tensor name, then by position, so that exactly `count` neurons are chosen."""

    def __init__(self, scores: Scores, k1: float, scope: str, cuts: dict[str, _Cut], counts: dict[str, int]):
        self.scores, self.k1, self.scope = scores, k1, scope
        self.counts = counts
        self._cuts = cuts
        self.mask = lru_cache(maxsize=1)(self._mask)

    @cached_property
    def count(self) -> int:
        return sum(self.counts.values())

    @cached_property
    def total(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.scores.shapes.values())

    def neurons(self, name: str) -> torch.Tensor:
        """Whether each neuron of a tensor is key: bool, in the shape of its scores."""
        values, cut = self.scores.read(name), self._cuts[name]
        chosen = values > cut.threshold
        if cut.ties:
            equal = (values == cut.threshold).reshape(-1).nonzero().reshape(-1)
            chosen.view(-1)[equal[: cut.ties]] = True
        return chosen

    def _mask(self, name: str) -> torch.Tensor | None:
        """Whether each parameter belongs to a key neuron: bool, in the shape of the tensor; None where no neuron is key."""
        if not self.counts.get(name):
            return None
        chosen = self.neurons(name)
        if self.scores.granularity == "parameter":
            return chosen
        shape = self.scores.base.tensors[name].shape
        return spread(chosen, shape, unit_axis(self.scores.base.anatomy.place(name), shape))


def spread(units: torch.Tensor, shape: tuple[int, ...], axis: int) -> torch.Tensor:
    """One value per unit, expanded over the parameters of the unit to the tensor's shape (a view, nothing is copied)."""
    view = [1] * len(shape)
    view[axis % len(shape)] = shape[axis]
    if len(shape) == 3:
        view[0] = shape[0]
    return units.reshape(view).expand(shape)


def select_key_neurons(scores: Scores, k1: float, scope: str = "global") -> KeyNeurons:
    """The top `k1` percent by importance, over the whole model or (`per-tensor`) within each tensor.

    The count is `k1` % of all neurons, rounded half up. Cost: two passes over the scores, one tensor in memory at a time.
    """
    if scope == "global":
        wanted = percent_count(k1, sum(int(np.prod(shape)) for shape in scores.shapes.values()))
        return _cut(scores, k1, scope, {"": (list(scores.shapes), wanted)})
    groups = {name: ([name], percent_count(k1, int(np.prod(shape)))) for name, shape in scores.shapes.items()}
    return _cut(scores, k1, scope, groups)


def _cut(scores: Scores, k1: float, scope: str, groups: dict[str, tuple[list[str], int]]) -> KeyNeurons:
    cuts: dict[str, _Cut] = {}
    counts: dict[str, int] = {}
    for names, wanted in groups.values():
        if wanted == 0:
            cuts |= dict.fromkeys(names, _Cut(float("inf"), 0))
            counts |= dict.fromkeys(names, 0)
            continue
        threshold = _kth_largest(scores, names, wanted)
        above, equal = {}, {}
        for name in names:
            values = scores.read(name)
            above[name] = int((values > threshold).sum())
            equal[name] = int((values == threshold).sum())
        free = wanted - sum(above.values())
        for name in names:
            ties = min(free, equal[name])
            free -= ties
            cuts[name] = _Cut(threshold, ties)
            counts[name] = above[name] + ties
    return KeyNeurons(scores, k1, scope, cuts, counts)


def _kth_largest(scores: Scores, names: list[str], k: int) -> float:
    """The k-th largest score (k ≥ 1), by radix selection on the bits: those of float32 values ≥ 0 order like the values."""
    prefix = 0
    for shift in (16, 0):
        histogram = np.zeros(1 << 16, dtype=np.int64)
        for name in names:
            bits = scores.read(name).reshape(-1).numpy().view(np.uint32)
            if shift == 0:
                bits = bits[bits >> 16 == prefix]
            histogram += np.bincount((bits >> shift) & 0xFFFF, minlength=1 << 16)
        from_top = np.cumsum(histogram[::-1])
        digit = (1 << 16) - 1 - int(np.searchsorted(from_top, k))
        k -= int(from_top[::-1][digit] - histogram[digit])
        prefix = prefix << 16 | digit
    return float(np.array([prefix], dtype=np.uint32).view(np.float32)[0])
