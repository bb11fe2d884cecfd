"""The values of any range of a merged tensor. The merge to disk and the live model both take them from here."""

from __future__ import annotations

from functools import lru_cache
from typing import NoReturn

import numpy as np

from maet_core import dtypes, equations, kernels
from maet_core.differences import Difference, widened
from maet_core.errors import InputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.kernels import CHUNK_ELEMENTS, RANGE_ELEMENTS
from maet_core.lazy import torch
from maet_core.merging.plan import Addend, MergePlan, in_float32
from maet_core.merging.rounding import rounded
from maet_core.merging.single_values import SingleValues
from maet_core.merging.vectors import WeightedVector
from maet_core.scratch import Scratch

# What a thread takes at once of what lies in memory: a large tensor is not left to one of them at the end.
LARGE_STEP = 32 * CHUNK_ELEMENTS
_SINGLE = np.dtype(np.float32)
# places in scratch memory beside those of what is read: the base's (0), an addend's (from 1)
_BASE, _WEIGHTS, _TOTAL = -1, -2, -3


class Combiner:
    """The merge on chunks, for several threads, each with scratch memory of its own.

    Sums in float32 run in compiled kernels, all-bf16 ones in a single one; float64 goes through torch. The order of additions is
    the same, and so is the result. `on_device.OnDevice` does this on an accelerator.
    """

    def __init__(self, plan: MergePlan):
        self.plan = plan
        self._scratch = Scratch()
        self._single_values = SingleValues(plan)
        self._of_tensor = lru_cache(maxsize=4)(self._look_up)
        self._in_memory = all(file.in_memory for file in plan.sources.files)

    def chunk(
        self, name: str, start: int, stop: int, code: str, out: np.ndarray | None = None, count: bool = True
    ) -> tuple[np.ndarray, int]:
        """Elements `start` to `stop` of the merged tensor, flat, rounded once to the dtype `code` (bf16: as bits), and how many
        differ from the base; without `count` that number may be 0.

        The values are the caller's until the next call; they lie in `out` if it is given. Raises CheckpointError for a NaN or an infinity in an input, InputError
        for a result that the dtype cannot hold.
        """
        base = self.plan.sources.base
        name = base.tied_copies.get(name, name)
        stored = base.values(name, start, stop, self._scratch.at(0))
        if not base.tensors[name].mergeable:
            return _put(stored, out), 0
        addends, all_bf16, single = self._of_tensor(name)
        if not self.plan.method.linear:
            result, changed, fits = self._single_values.chunk(addends, name, start, stop, stored, code)
        elif all_bf16 and code == "BF16":
            result, changed, fits = self._by_one_kernel(addends, name, start, stop, stored, out, count)
        elif single:
            result, changed, fits = self._by_kernels(addends, name, start, stop, stored, code)
        else:
            result, changed, fits = self._by_torch(addends, name, start, stop, stored, code)
        if not fits:
            refuse_too_large(name, code)
        return _put(result, out), changed

    def step(self, name: str) -> int:
        """How many elements a call should be about: the more, the less what surrounds the loops costs, as long as what a call reads stays
        in the cache."""
        addends, all_bf16, _ = self._of_tensor(self.plan.sources.base.tied_copies.get(name, name))
        if not all_bf16:
            return CHUNK_ELEMENTS
        plain = not any(addend.key_neurons for addend in addends)
        return LARGE_STEP if plain and self._in_memory else RANGE_ELEMENTS

    def _look_up(self, name: str) -> tuple[list[Addend] | list[WeightedVector], bool, bool]:
        """What a tensor is made of; whether all of it is bf16 weights; whether it is added up in float32."""
        sources, addends = self.plan.sources, self.plan.addends(name)
        single = sources.precision(name) == _SINGLE
        if not self.plan.method.linear:
            return addends, False, single
        plain = sources.base.tensors[name].code == "BF16"
        return addends, plain and all(addend.difference.holds_bf16_weights(name) for addend in addends), single

    def _floats(self, place: int, size: int) -> np.ndarray:
        return self._scratch.bytes(place, 4 * size).view(_SINGLE)

    def _by_one_kernel(
        self,
        addends: list[Addend],
        name: str,
        start: int,
        stop: int,
        stored: np.ndarray,
        out: np.ndarray | None,
        count: bool,
    ) -> tuple[np.ndarray, int, bool]:
        size = stop - start
        read: dict[Difference, np.ndarray] = {}  # a model may be in two roles
        for addend in addends:
            if addend.difference not in read:
                memory = self._scratch.at(len(read) + 1)
                read[addend.difference] = addend.difference.stored(name, start, stop, _SINGLE, memory)[0]
        weights = [read[addend.difference] for addend in addends]
        if out is None:
            out = self._scratch.bytes(_TOTAL, 2 * size).view(np.uint16)
        limited = _limited(addends, name, start, stop)
        if limited is not None:
            terms, limits = limited
            held = [stored, *(stored if term is None else read[term.difference] for term in terms)]
            addresses = kernels.addresses_of(held)
            coefficients = in_float32([0.0 if term is None else term.coefficient for term in terms])
            fits = kernels.merge_limited_bf16(addresses, coefficients, limits, out)
        else:
            masks = self._masks(addends, read, name, start, stop, stored)
            rows = list(masks)
            addresses = kernels.addresses_of([stored, *weights])
            mask_of = np.array(
                [rows.index(addend.key_neurons) if addend.key_neurons else -1 for addend in addends], np.int64
            )
            stacked = np.stack(list(masks.values())) if masks else np.empty((0, 0), np.bool_)
            fits = kernels.merge_bf16(addresses, _coefficients(addends), mask_of, stacked, out)
        if not fits:
            self._refuse_non_finite(name, start, stored, read)
        return out, int(kernels.compare_bf16(out, stored)[0]) if count else 0, bool(fits)

    def _masks(
        self,
        addends: list[Addend],
        read: dict[Difference, np.ndarray],
        name: str,
        start: int,
        stop: int,
        stored: np.ndarray,
    ) -> dict[KeyNeurons, np.ndarray]:
        """The masks of all key neurons among the addends, without a second look at what has been read."""
        masks: dict[KeyNeurons, np.ndarray] = {}

        def change(difference: Difference) -> np.ndarray | None:
            if difference not in read:
                return None
            out = self._floats(_WEIGHTS, stop - start)
            kernels.change_bf16(stored, read[difference], out)
            return out

        for addend in addends:
            keys = addend.key_neurons
            if keys is not None and keys not in masks:
                masks[keys] = keys.chosen(name, start, stop, change)
        return masks

    def _refuse_non_finite(self, name: str, start: int, stored: np.ndarray, read: dict[Difference, np.ndarray]) -> None:
        """Raises CheckpointError if it is an input that has the NaN or the infinity."""
        widened(stored, self.plan.sources.base.source, name, start, _SINGLE)
        for difference, values in read.items():
            widened(values, difference.source, name, start, _SINGLE)

    def _by_kernels(
        self, addends: list[Addend], name: str, start: int, stop: int, stored: np.ndarray, code: str
    ) -> tuple[np.ndarray, int, bool]:
        size = stop - start
        base, weights, total = (self._floats(place, size) for place in (_BASE, _WEIGHTS, _TOTAL))
        widened(stored, self.plan.sources.base.source, name, start, _SINGLE, base)
        if not addends and code == self.plan.sources.base.tensors[name].code:
            return stored, 0, True
        total.fill(0)
        masks: dict[KeyNeurons, np.ndarray] = {}  # both differences of an ability have the same
        for addend, coefficient in zip(addends, _coefficients(addends), strict=True):
            values, is_difference = addend.difference.stored(name, start, stop, _SINGLE, self._scratch.at(1))
            widened(values, addend.difference.source, name, start, _SINGLE, weights)
            keys = addend.key_neurons
            if keys is not None and keys not in masks:
                masks[keys] = keys.chosen(name, start, stop)
            match is_difference, keys is not None:
                case False, False:
                    kernels.add_weights(total, weights, base, coefficient)
                case False, True:
                    kernels.add_weights_masked(total, weights, base, coefficient, masks[keys])
                case True, False:
                    kernels.add_difference(total, weights, coefficient)
                case True, True:
                    kernels.add_difference_masked(total, weights, coefficient, masks[keys])
        kernels.finish(base, total)
        return rounded(total, base, code)

    def _by_torch(
        self, addends: list[Addend], name: str, start: int, stop: int, stored: np.ndarray, code: str
    ) -> tuple[np.ndarray, int, bool]:
        sources = self.plan.sources
        base = widened(stored, sources.base.source, name, start, sources.precision(name))
        in_torch = torch.from_numpy(base)
        terms = []
        for addend in addends:
            difference = torch.from_numpy(addend.difference.values(name, start, stop, base))
            if addend.key_neurons is not None:
                mask = addend.key_neurons.mask(name, start, stop)
                difference = torch.where(mask, difference, 0)
            terms.append((addend.coefficient, difference))
        return _rounded_by_torch(equations.merged(in_torch, terms), base, code)


def refuse_too_large(name: str, code: str) -> NoReturn:
    """Raises InputError: the dtype cannot hold a value of the merged tensor."""
    raise InputError(
        f"output.dtype: the merged tensor {name} has a value beyond {dtypes.LARGEST[code]:g}, the largest in "
        f"torch.{dtypes.NAMES[code]}; use smaller coefficients, or bfloat16"
    )


def _limited(addends: list[Addend], name: str, start: int, stop: int) -> tuple[list[Addend | None], np.ndarray] | None:
    """The addends as `kernels.merge_limited_bf16` takes them (None: nothing, in the place of a source language), and the limits of one or
    two abilities; None where key neurons are something else than the magnitudes of an ability's change above a limit."""
    terms: list[Addend | None] = []
    limits = []
    for position, addend in enumerate(addends):
        keys, before = addend.key_neurons, addends[position - 1] if position else None
        if keys is None:
            terms.append(addend)
        elif before is not None and before.key_neurons is keys and terms[-1] is None:
            terms[-1] = addend
        else:
            limit = keys.limit(name, start, stop) if keys.scores.magnitude_of is addend.difference else None
            if limit is None or len(terms) > 2 * len(limits):
                return None
            limits.append(limit)
            terms += [addend, None]
    fits = 0 < len(limits) <= 2 and len(terms) - 2 * len(limits) <= 4 and (stop - start) % 2 == 0
    return (terms, np.array(limits, np.uint32)) if fits else None


def _coefficients(addends: list[Addend]) -> np.ndarray:
    return in_float32([addend.coefficient for addend in addends])


def _put(values: np.ndarray, out: np.ndarray | None) -> np.ndarray:
    if out is None or values is out:
        return values
    out[:] = values
    return out


def _rounded_by_torch(values: torch.Tensor, base: np.ndarray, code: str) -> tuple[np.ndarray, int, bool]:
    dtype = dtypes.torch_dtype(code)
    result, unchanged = values.to(dtype), torch.from_numpy(base).to(dtype)
    changed = int((result != unchanged).sum())
    return dtypes.as_numpy(result), changed, bool(torch.isfinite(result).all())
