"""N_i: the top k1 % of the neurons by importance, exactly, without holding all scores at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import prod

import numpy as np
import torch

from maet_core import kernels
from maet_core.counting import percent_count
from maet_core.importance.scores import Scores, unit_axis
from maet_core.progress import Halted, Progress, each


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

    def mask(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        """Whether each parameter belongs to a key neuron: bool, elements `start` to `stop` of the flattened tensor."""
        info = self.scores.base.tensors[name]
        stop = info.numel if stop is None else stop
        if not self.counts.get(name):
            return torch.zeros(stop - start, dtype=torch.bool)
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


def select_key_neurons(
    scores: Scores, k1: float, scope: str = "global", progress: Progress | None = None, halted: Halted | None = None
) -> KeyNeurons:
    """The top `k1` percent by importance, over the whole model or (`per-tensor`) within each tensor.

    The count is `k1` % of all neurons, rounded half up. Cost: three passes over the scores, one chunk a thread in memory.
    """
    sizes = {name: prod(shape) for name, shape in scores.shapes.items()}
    groups = [list(sizes)] if scope == "global" else [[name] for name in sizes]
    wanted = [percent_count(k1, sum(sizes[name] for name in group)) for group in groups]
    thresholds = {}
    if scope == "global":
        thresholds = dict.fromkeys(sizes, _kth_largest(scores, groups[0], wanted[0], progress, halted))
    else:
        found = each(
            groups, lambda group: _kth_largest(scores, group, wanted[groups.index(group)]), "ranking", progress, halted
        )
        thresholds = dict(zip(sizes, found, strict=True))
    counted = each(
        list(sizes), lambda name: _above_and_equal(scores, name, thresholds[name]), "counting", progress, halted
    )
    above_and_equal = dict(zip(sizes, counted, strict=True))
    cuts: dict[str, _Cut] = {}
    counts: dict[str, int] = {}
    for group, count in zip(groups, wanted, strict=True):
        free = count - sum(above_and_equal[name][0] for name in group)
        for name in group:
            above, equal = above_and_equal[name]
            ties = min(free, equal)
            free -= ties
            cuts[name] = _Cut(thresholds[name], _tie_stop(scores, name, thresholds[name], ties, equal))
            counts[name] = above + ties
    return KeyNeurons(scores, k1, scope, cuts, counts)


def _above_and_equal(scores: Scores, name: str, threshold: float) -> tuple[int, int]:
    if threshold == float("inf"):
        return 0, 0
    bits, above, equal = np.float32(threshold).view(np.uint32), 0, 0
    for _, values in _chunks(scores, name):
        counts = kernels.count_above_and_equal(values.numpy().view(np.uint32), bits)
        above, equal = above + counts[0], equal + counts[1]
    return above, equal


def _tie_stop(scores: Scores, name: str, threshold: float, ties: int, equal: int) -> int:
    """The position behind the last of the first `ties` scores that equal the threshold."""
    if ties == equal:
        return prod(scores.shapes[name])
    for start, values in _chunks(scores, name) if ties else ():
        positions = (values == threshold).nonzero().reshape(-1)
        if len(positions) >= ties:
            return start + int(positions[ties - 1]) + 1
        ties -= len(positions)
    return 0


def _kth_largest(
    scores: Scores, names: list[str], k: int, progress: Progress | None = None, halted: Halted | None = None
) -> float:
    """The k-th largest score, by radix selection on the bits: those of float32 values ≥ 0 order like the values. k = 0: infinity."""
    if k == 0:
        return float("inf")

    def leading_counts(name: str) -> np.ndarray:
        counts = np.zeros(1 << 16, dtype=np.int64)
        for _, values in _chunks(scores, name):
            kernels.count_leading_bits(values.numpy().view(np.uint32), counts)
        return counts

    def trailing_counts(name: str) -> np.ndarray:
        counts = np.zeros(1 << 16, dtype=np.int64)
        for _, values in _chunks(scores, name):
            kernels.count_trailing_bits(values.numpy().view(np.uint32), np.uint32(leading), counts)
        return counts

    leading, k = _digit(sum(each(names, leading_counts, "ranking", progress, halted)), k)
    trailing, _ = _digit(sum(each(names, trailing_counts, "ranking further", progress, halted)), k)
    return float(np.uint32(leading << 16 | trailing).view(np.float32))


def _digit(counts: np.ndarray, k: int) -> tuple[int, int]:
    """The digit of the k-th largest, and its rank among those with this digit."""
    from_top = np.cumsum(counts[::-1])
    position = int(np.searchsorted(from_top, k))
    return len(counts) - 1 - position, k - int(from_top[position] - counts[::-1][position])


def _chunks(scores: Scores, name: str) -> Iterator[tuple[int, torch.Tensor]]:
    total = prod(scores.shapes[name])
    for start in range(0, total, kernels.CHUNK_ELEMENTS):
        yield start, scores.read(name, start, min(start + kernels.CHUNK_ELEMENTS, total))
