"""N_i: the top k1 % of the neurons by importance, exactly, without holding all scores at once."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property, lru_cache
from math import prod

import numpy as np
import torch

from maet_core import kernels
from maet_core.counting import percent_count
from maet_core.importance.scores import Scores, unit_axis
from maet_core.progress import Halted, Progress, each
from maet_core.ranking import Cut, largest


class KeyNeurons:
    """Which neurons are key. Ties go by tensor name, then by position, so that exactly `count` neurons are chosen."""

    def __init__(self, scores: Scores, k1: float, scope: str, cuts: dict[str, Cut], counts: dict[str, int]):
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
        return self._cuts[name].chosen(self.scores.read(name, start, stop), start)


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

    def chunks(name: str) -> Iterator[tuple[int, np.ndarray]]:
        for start in range(0, sizes[name], kernels.CHUNK_ELEMENTS):
            yield start, scores.read(name, start, min(start + kernels.CHUNK_ELEMENTS, sizes[name])).numpy()

    if scope == "global":
        cuts, counts = largest(sizes, percent_count(k1, sum(sizes.values())), chunks, progress, halted)
        return KeyNeurons(scores, k1, scope, cuts, counts)

    def of_tensor(name: str) -> tuple[dict[str, Cut], dict[str, int]]:
        return largest({name: sizes[name]}, percent_count(k1, sizes[name]), chunks)

    cuts, counts = {}, {}
    for tensor_cuts, tensor_counts in each(list(sizes), of_tensor, "ranking", progress, halted):
        cuts |= tensor_cuts
        counts |= tensor_counts
    return KeyNeurons(scores, k1, scope, cuts, counts)
