"""Task vectors for methods that look at single values: streamed, with thresholds of whole tensors and reproducible chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

import numpy as np

from maet_core import kernels
from maet_core.checkpoints import Checkpoint
from maet_core.counting import share_count
from maet_core.differences import Difference, widened
from maet_core.methods import MethodSettings
from maet_core.methods.vectors import Vector
from maet_core.ranking import Cut, Cuts, largest
from maet_core.scratch import Scratch
from maet_core.weights.ability import AbilityWeights

_scratch = Scratch()


@dataclass(frozen=True, eq=False)
class WeightedVector:
    """One task vector of a recipe, its weight (γ_i or η·μ_j), and the method that it goes through. `key` is its field's name."""

    key: str
    weight: float
    weights: AbilityWeights | Difference
    method: MethodSettings

    @property
    def as_difference(self) -> Difference | None:
        """The difference that the task vector is, where it is one as it stands."""
        return self.weights.as_difference if isinstance(self.weights, AbilityWeights) else self.weights

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
        single = self.values.astype(np.float32, copy=False)
        (cut,) = cuts_of([self._vector], [share], self._base, self._cuts, self._name, self.values.dtype)
        return cut.chosen(single, self._start)

    def row_ranks(self) -> np.ndarray:
        ranks, width = ranks_of(
            self._vector.weights, self._base, self._name, self._start, self._stop, self.values.dtype
        )
        return ranks.astype(np.float32) / np.float32(width - 1) if width > 1 else np.full(ranks.size, 0.5, np.float32)

    def uniform(self, seed: int) -> np.ndarray:
        numbers = np.empty(self._stop - self._start, np.float32)
        kernels.uniform(stream_key(self._vector, self._name, seed), self._start, numbers)
        return numbers


def values_of(
    weights: AbilityWeights | Difference, base: Checkpoint, name: str, start: int, stop: int, precision: np.dtype
) -> np.ndarray:
    """Elements `start` to `stop` of a task vector within a tensor, float32 or float64."""
    if isinstance(weights, Difference) and precision == np.float32:  # then that is its own precision, too
        return weights.difference(name, start, stop)
    stored = base.values(name, start, stop)
    return weights.values(name, start, stop, widened(stored, base.source, name, start, precision))


def ranks_of(
    weights: AbilityWeights | Difference, base: Checkpoint, name: str, start: int, stop: int, precision: np.dtype
) -> tuple[np.ndarray, int]:
    """Elements `start` to `stop` of a task vector within a tensor: the rank of each magnitude within its row, from 0, and the row's width.
    The ranks are the caller's until the same thread asks again."""
    width = (base.tensors[name].shape or (1,))[-1]
    first, last = start // width * width, -(-stop // width) * width
    values = values_of(weights, base, name, first, last, precision).astype(np.float32, copy=False)
    ranks = _scratch.bytes(0, 4 * values.size).view(np.int32)
    kernels.row_ranks(values.view(np.uint32), width, ranks)
    return ranks[start - first : stop - first], width


def stream_key(vector: WeightedVector, name: str, seed: int) -> np.uint64:
    """Where the random numbers of a task vector in a tensor begin (see `kernels.uniform`)."""
    text = "\0".join((str(seed), vector.key, name))
    return np.uint64(int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little"))


def cuts_of(
    vectors: list[WeightedVector], shares: list[float], base: Checkpoint, cuts: Cuts, name: str, precision: np.dtype
) -> list[Cut]:
    """Where the `share` of a tensor's values with the largest magnitude begins: for each vector and each of the shares."""
    numel, finders, keys = base.tensors[name].numel, {}, []
    for vector in vectors:
        for share in shares:
            keys.append((vector.weights, name, precision, share_count(share, numel)))
            finders[keys[-1]] = partial(_cut, vector, keys[-1][-1], base, name, precision)
    found = dict(zip(finders, cuts.get(finders), strict=True))
    return [found[key] for key in keys]


def _cut(vector: WeightedVector, count: int, base: Checkpoint, name: str, precision: np.dtype) -> Cut:
    numel = base.tensors[name].numel
    if count in (0, numel):
        return Cut(float("inf"), 0) if count == 0 else Cut(0.0, numel)

    def read(name: str, start: int, stop: int) -> np.ndarray:
        return values_of(vector.weights, base, name, start, stop, precision).astype(np.float32, copy=False)

    plain = vector.as_difference
    if plain is None or precision != np.float32:
        return largest({name: numel}, count, read)[0][name]
    return largest({name: numel}, count, read, near=plain.near, sampled=plain.sampled)[0][name]
