"""N_i: the top k1 % of the neurons by importance, exactly, without holding all scores at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np
import torch

from maet_core.counting import percent_count
from maet_core.importance.scores import Scores, unit_axis

CHUNK = 1 << 20


@dataclass(frozen=True)
class _Cut:
    """Neurons above `threshold` are key, and those that equal it and lie before position `tie_stop` of the flattened scores."""

    threshold: float
    tie_stop: int


class KeyNeurons:
    """Which neurons are key. Ties go by tensor name, then by position, so that exactly `count` neurons are chosen."""

    def __init__(self, scores: Scores, k1: float, scope: str, cuts: dict[str, _Cut], counts: dict[str, int]):
        self.scores, self.k1, self.scope = scores, k1, scope
        self.counts = counts
        self._cuts = cuts
        self._units = lru_cache(maxsize=4)(self.neurons)  # some tensors' masks, for the threads that work on them

    @cached_property
    def count(self) -> int:
        return sum(self.counts.values())

    @cached_property
    def total(self) -> int:
        return sum(prod(shape) for shape in self.scores.shapes.values())

    def neurons(self, name: str) -> torch.Tensor:
        """Whether each neuron of a tensor is key: bool, in the shape of its scores."""
        shape = self.scores.shapes[name]
        return self._chosen(name, 0, prod(shape)).reshape(shape)

    def mask(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor | None:
        """Whether each parameter belongs to a key neuron: bool, elements `start` to `stop` of the flattened tensor.

        None where the tensor has no key neuron at all.
        """
        if not self.counts.get(name):
            return None
        info = self.scores.base.tensors[name]
        stop = info.numel if stop is None else stop
        if self.scores.granularity == "parameter":
            return self._chosen(name, start, stop)
        axis = unit_axis(self.scores.base.anatomy.place(name), info.shape)
        return spread(self._units(name), info.shape, axis, start, stop)

    def _chosen(self, name: str, start: int, stop: int) -> torch.Tensor:
        values, cut = self.scores.read(name, start, stop), self._cuts[name]
        chosen = values > cut.threshold
        if start < cut.tie_stop:
            ties = cut.tie_stop - start
            chosen[:ties] |= values[:ties] == cut.threshold
        return chosen


def spread(units: torch.Tensor, shape: tuple[int, ...], axis: int, start: int, stop: int) -> torch.Tensor:
    """One value per unit, for the parameters `start` to `stop` of the flattened tensor of `shape`."""
    if len(shape) == 1:
        return units[start:stop]
    width = shape[-1]
    first, last = start // width, -(-stop // width)
    axis %= len(shape)
    if len(shape) == 2:
        rows = units[first:last, None].expand(-1, width) if axis == 0 else units[None, :].expand(last - first, -1)
    else:
        expert = torch.arange(first, last) // shape[1]
        rows = (
            units[expert]
            if axis == 2
            else units[expert, torch.arange(first, last) % shape[1]][:, None].expand(-1, width)
        )
    return rows.reshape(-1)[start - first * width : stop - first * width]


def select_key_neurons(scores: Scores, k1: float, scope: str = "global") -> KeyNeurons:
    """The top `k1` percent by importance, over the whole model or (`per-tensor`) within each tensor.

    The count is `k1` % of all neurons, rounded half up. Cost: three passes over the scores, one chunk in memory at a time.
    """
    if scope == "global":
        wanted = percent_count(k1, sum(prod(shape) for shape in scores.shapes.values()))
        groups = [(list(scores.shapes), wanted)]
    else:
        groups = [([name], percent_count(k1, prod(shape))) for name, shape in scores.shapes.items()]
    cuts: dict[str, _Cut] = {}
    counts: dict[str, int] = {}
    for names, wanted in groups:
        _cut(scores, names, wanted, cuts, counts)
    return KeyNeurons(scores, k1, scope, cuts, counts)


def _cut(scores: Scores, names: list[str], wanted: int, cuts: dict[str, _Cut], counts: dict[str, int]) -> None:
    """Finds the cut that chooses exactly `wanted` neurons of these tensors together."""
    threshold = _kth_largest(scores, names, wanted) if wanted else float("inf")
    above, equal = {}, {}
    for name in names if wanted else ():
        above[name] = equal[name] = 0
        for _, values in _chunks(scores, name):
            above[name] += int((values > threshold).sum())
            equal[name] += int((values == threshold).sum())
    free = wanted - sum(above.values())
    for name in names:
        ties = min(free, equal.get(name, 0))
        free -= ties
        cuts[name] = _Cut(threshold, _tie_stop(scores, name, threshold, ties))
        counts[name] = above.get(name, 0) + ties


def _tie_stop(scores: Scores, name: str, threshold: float, ties: int) -> int:
    """The position behind the last of the first `ties` scores that equal the threshold."""
    for start, values in _chunks(scores, name) if ties else ():
        positions = (values == threshold).nonzero().reshape(-1)
        if len(positions) >= ties:
            return start + int(positions[ties - 1]) + 1
        ties -= len(positions)
    return 0


def _kth_largest(scores: Scores, names: list[str], k: int) -> float:
    """The k-th largest score (k ≥ 1), by radix selection on the bits: those of float32 values ≥ 0 order like the values."""
    prefix = 0
    for shift in (16, 0):
        histogram = np.zeros(1 << 16, dtype=np.int64)
        for name in names:
            for _, values in _chunks(scores, name):
                bits = values.numpy().view(np.uint32)
                if shift == 0:
                    bits = bits[bits >> 16 == prefix]
                histogram += np.bincount((bits >> shift) & 0xFFFF, minlength=1 << 16)
        from_top = np.cumsum(histogram[::-1])
        digit = (1 << 16) - 1 - int(np.searchsorted(from_top, k))
        k -= int(from_top[::-1][digit] - histogram[digit])
        prefix = prefix << 16 | digit
    return float(np.array([prefix], dtype=np.uint32).view(np.float32)[0])


def _chunks(scores: Scores, name: str) -> Iterator[tuple[int, torch.Tensor]]:
    total = prod(scores.shapes[name])
    for start in range(0, total, CHUNK):
        yield start, scores.read(name, start, min(start + CHUNK, total))
