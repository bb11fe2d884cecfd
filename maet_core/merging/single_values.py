"""Merged ranges by methods that look at single values: in one compiled loop over bf16 weights, else piece by piece by the method's own
function."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from maet_core import dtypes, kernels
from maet_core.differences import widened
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.merging.plan import MergePlan
from maet_core.merging.rounding import rounded
from maet_core.merging.vectors import StreamedVector, WeightedVector, cuts_of, ranks_of, stream_key, values_of
from maet_core.methods.steps import Chance, Steps
from maet_core.scratch import Scratch

# What a method's own function takes at once: about this many, whole rows where it can.
METHOD_STEP = CHUNK_ELEMENTS // 8
_SINGLE = np.dtype(np.float32)
_NOT_GIVEN = np.empty(0, np.float32)
_RANKS = -1  # a place in scratch memory, beside those of the vectors
_NO_RANKS = np.empty((0, 0), np.int32)


class SingleValues:
    """The merge on chunks, with scratch memory of each thread and what is known of some tensors."""

    def __init__(self, plan: MergePlan):
        self.plan, self._scratch = plan, Scratch()
        steps = plan.method.steps
        self._steps: Steps | None = None if steps is None else steps(**plan.settings.parameters)
        self._of_tensor = lru_cache(maxsize=4)(self._look_up)

    def chunk(
        self, vectors: list[WeightedVector], name: str, start: int, stop: int, stored: np.ndarray, code: str
    ) -> tuple[np.ndarray, int, bool]:
        """(values in the dtype `code`, how many differ from the base, whether all fit), of the base's `stored` values from `start`."""
        sources = self.plan.sources
        single = sources.precision(name) == _SINGLE
        if self._steps is not None and vectors and single and code == sources.base.tensors[name].code == "BF16":
            return self._by_one_loop(vectors, name, start, stop, stored)
        return self._by_function(vectors, name, start, stop, stored, code)

    def _look_up(self, name: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Limits and ties of every vector, or the keys of its random numbers, as `kernels.merge_kept` has them."""
        vectors, keep = self.plan.addends(name), self._steps.keep
        limits, ties = np.zeros((len(vectors), 2), np.uint32), np.zeros((len(vectors), 2), np.int64)
        keys = np.zeros(len(vectors), np.uint64)
        if isinstance(keep, Chance):
            keys[:] = [stream_key(vector, name, keep.seed) for vector in vectors]
            return limits, ties, keys
        sources = self.plan.sources
        cuts = cuts_of(vectors, [keep.share, keep.without], sources.base, sources.cuts, name, _SINGLE)
        limits.flat = np.array([cut.threshold for cut in cuts], np.float32).view(np.uint32)
        ties.flat = [cut.tie_stop for cut in cuts]
        return limits, ties, keys

    def _by_one_loop(
        self, vectors: list[WeightedVector], name: str, start: int, stop: int, stored: np.ndarray
    ) -> tuple[np.ndarray, int, bool]:
        steps, keep = self._steps, self._steps.keep
        limits, ties, keys = self._of_tensor(name)
        held, bits = [], []
        for place, vector in enumerate(vectors):
            values, is_bits = self._stored(vector, name, start, stop, stored, place)
            held.append(values)
            bits.append(is_bits)
        where = np.stack([kernels.addresses_of(held), np.logical_not(bits)], axis=1)
        weights = np.array([vector.weight for vector in vectors], np.float64)
        with np.errstate(over="ignore"):  # an infinite weight shows in the result, and is refused there
            weights = weights.astype(np.float32)
        chances, ranks, width = _NOT_GIVEN, _NO_RANKS, 1
        if isinstance(keep, Chance):
            inverse = 1 / keep.lowest if keep.lowest else 0.0
            chances = np.array([keep.lowest, inverse if keep.epsilon is None else keep.epsilon], np.float32)
            if keep.epsilon is not None:
                base = self.plan.sources.base
                shape = len(vectors), stop - start
                ranks = self._scratch.bytes(_RANKS, 4 * shape[0] * shape[1]).view(np.int32).reshape(shape)
                for row, vector in zip(ranks, vectors, strict=True):
                    row[:], width = ranks_of(vector.weights, base, name, start, stop, _SINGLE)
        sizes = {None: [], "sum": [], "mean": np.ones(len(vectors)), "weighted-mean": np.abs(weights)}[steps.fuse]
        out = np.empty(stop - start, np.uint16)
        changed, fits = kernels.merge_kept(
            stored,
            where,
            weights,
            limits,
            ties,
            chances,
            keys,
            ranks,
            width,
            steps.fuse is not None,
            np.asarray(sizes, np.float32),
            np.float32(steps.scale),
            start,
            out,
        )
        if not fits:  # an input's value that is not finite is told here; else it is the result
            for vector in vectors:
                values_of(vector.weights, self.plan.sources.base, name, start, stop, _SINGLE)
        return out, int(changed), bool(fits)

    def _stored(
        self, vector: WeightedVector, name: str, start: int, stop: int, stored: np.ndarray, place: int
    ) -> tuple[np.ndarray, bool]:
        """The bits of a model's weights, or the task vector in float32."""
        plain = vector.as_difference
        if plain is not None and plain.holds_bf16_weights(name):
            return plain.stored(name, start, stop, _SINGLE, self._scratch.at(place))[0], True
        base = widened(stored, self.plan.sources.base.source, name, start, _SINGLE)
        return vector.weights.values(name, start, stop, base), False

    def _by_function(
        self, vectors: list[WeightedVector], name: str, start: int, stop: int, stored: np.ndarray, code: str
    ) -> tuple[np.ndarray, int, bool]:
        """Piece by piece: the many arrays of a method stay in the cache, and in memory that is used again."""
        sources = self.plan.sources
        width = (sources.base.tensors[name].shape or (1,))[-1]
        step = max(1, METHOD_STEP // width) * width if width <= METHOD_STEP else METHOD_STEP
        out, changed, fits = np.empty(stop - start, dtypes.HELD_AS[code]), 0, True
        for first in range(start, stop, step):
            last = min(first + step, stop)
            piece = stored[first - start : last - start]
            base = widened(piece, sources.base.source, name, first, sources.precision(name))
            total = base
            if vectors:
                streamed = [
                    StreamedVector(vector, sources.base, sources.cuts, name, first, last, base) for vector in vectors
                ]
                with np.errstate(
                    over="ignore", invalid="ignore"
                ):  # absurd coefficients show in the result, and are refused
                    total = self.plan.method.function(streamed, **self.plan.settings.parameters)
                    if total.dtype == np.float32:
                        kernels.finish(base, total)
                    else:
                        total = np.where(total == 0, base, base + total)
            out[first - start : last - start], count, good = rounded(total, base, code)
            changed, fits = changed + count, fits and good
        return out, changed, fits
