"""Task vectors for methods that look at single values: streamed, with thresholds of whole tensors and reproducible chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.checkpoints import Checkpoint
from maet_core.counting import share_count
from maet_core.differences import Difference, widened
from maet_core.methods import MethodSettings
from maet_core.methods.vectors import Vector
from maet_core.ranking import Cuts, largest
from maet_core.weights.ability import AbilityWeights


@dataclass(frozen=True, eq=False)
class WeightedVector:
    """One task vector of a recipe, its weight (γ_i or η·μ_j), and the method that it goes through. `key` is its field's name."""

    key: str
    weight: float
    weights: AbilityWeights | Difference
    method: MethodSettings

    def same(self, other: object) -> bool:
        return isinstance(other, WeightedVector) and vars(self) == vars(other)


class StreamedVector(Vector):
    """Elements `start` to `stop` of one task vector within a tensor; `base_values` are the base's of that range, in the precision of
    the merge."""

    def __init__(
        self,
        vector: WeightedVector,
        base: Checkpoint,
        cuts: Cuts,
        name: str,
        start: int,
        stop: int,
        base_values: np.ndarray,
    ):
        self.weight = vector.weight
        self.values = vector.weights.values(name, start, stop, base_values)
        self._vector, self._base, self._cuts, self._name = vector, base, cuts, name
        self._start, self._stop = start, stop

    def largest(self, share: float) -> np.ndarray:
        numel = self._base.tensors[self._name].numel
        count = share_count(share, numel)
        if count in (0, numel):
            return np.full(self.values.size, bool(count))
        key = (self._vector.weights, self._name, self.values.dtype, count)
        weights, single = self._vector.weights, self.values.dtype == np.float32
        near = weights.near if isinstance(weights, Difference) and single else None
        cut = self._cuts.get(
            key, lambda: largest({self._name: numel}, count, self._magnitudes, near=near)[0][self._name]
        )
        return cut.chosen(self.values.astype(np.float32, copy=False), self._start)

    def row_ranks(self) -> np.ndarray:
        shape = self._base.tensors[self._name].shape
        width = shape[-1] if shape else 1
        first, last = self._start // width * width, -(-self._stop // width) * width
        whole = (first, last) == (self._start, self._stop)
        values = self.values if whole else self._read(first, last)
        ranks = np.empty(values.size, np.int32)
        kernels.row_ranks(values.astype(np.float32, copy=False).view(np.uint32), width, ranks)
        shares = ranks.astype(np.float32) / np.float32(width - 1) if width > 1 else np.full(ranks.size, 0.5, np.float32)
        return shares[self._start - first : self._stop - first]

    def uniform(self, seed: int) -> np.ndarray:
        seed_text = "\0".join((str(seed), self._vector.key, self._name))
        key = int.from_bytes(hashlib.blake2b(seed_text.encode(), digest_size=8).digest(), "little")
        numbers = np.empty(self._stop - self._start, np.float32)
        kernels.uniform(np.uint64(key), self._start, numbers)
        return numbers

    def _read(self, start: int, stop: int) -> np.ndarray:
        stored = self._base.values(self._name, start, stop)
        base = widened(stored, self._base.source, self._name, start, self.values.dtype)
        return self._vector.weights.values(self._name, start, stop, base)

    def _magnitudes(self, name: str, start: int, stop: int) -> np.ndarray:
        return self._read(start, stop).astype(np.float32, copy=False)
