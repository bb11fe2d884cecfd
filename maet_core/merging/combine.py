"""The values of any range of a merged tensor. The merge to disk and the live model both take them from here."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import torch

from maet_core import equations, kernels
from maet_core.differences import widened
from maet_core.errors import InputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.merging.plan import Addend, MergePlan
from maet_core.merging.vectors import StreamedVector, WeightedVector


class Combiner:
    """Scratch memory of one thread, and the merge on chunks of at most `CHUNK_ELEMENTS`.

    On the CPU sums in float32 run in compiled kernels; other devices, and float64, go through torch. The order of additions is
    the same, and so is the result.
    """

    def __init__(self, plan: MergePlan, device: torch.device | str = "cpu"):
        self.plan, self.device = plan, torch.device(device)
        self._base, self._weights, self._total = (np.empty(CHUNK_ELEMENTS, np.float32) for _ in range(3))
        self._of_tensor = lru_cache(maxsize=4)(lambda name: (plan.addends(name), plan.sources.precision(name)))
        self._raw = [torch.empty(CHUNK_ELEMENTS * 8, dtype=torch.uint8) for _ in range(2)]

    def chunk(self, name: str, start: int, stop: int, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
        """Elements `start` to `stop` of the merged tensor, flat, rounded once to `dtype`, and how many differ from the base.

        The tensor is the caller's until the next call. Raises CheckpointError for a NaN or an infinity in an input, InputError
        for a result that `dtype` cannot hold.
        """
        base = self.plan.sources.base
        name = base.tied_copies.get(name, name)
        stored = base.read(name, start, stop, self._scratch(0, stop - start)).reshape(-1)
        if not base.tensors[name].mergeable:
            return stored, 0
        addends, precision = self._of_tensor(name)
        if not self.plan.method.linear:
            result, changed, fits = self._by_method(addends, name, start, stop, stored, dtype)
        elif self.device.type == "cpu" and precision == torch.float32:
            result, changed, fits = self._by_kernels(addends, name, start, stop, stored, dtype)
        else:
            result, changed, fits = self._by_torch(addends, name, start, stop, stored, dtype)
        if not fits:
            raise InputError(
                f"output.dtype: the merged tensor {name} has a value beyond {torch.finfo(dtype).max:g}, the largest in {dtype}; "
                "use smaller coefficients, or bfloat16"
            )
        return result, changed

    def _scratch(self, which: int, size: int) -> torch.Tensor | None:
        """Memory to read into: the base's (0) or a model's (1). Only the kernels' chunks are small enough for it."""
        return self._raw[which] if size <= CHUNK_ELEMENTS else None

    def _by_kernels(
        self, addends: list[Addend], name: str, start: int, stop: int, stored: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, int, bool]:
        size = stop - start
        base, total = self._base[:size], self._total[:size]
        widened(stored, self.plan.sources.base.source, name, start, torch.float32, torch.from_numpy(base))
        if not addends and dtype == stored.dtype:
            return stored, 0, True
        total.fill(0)
        masks: dict[KeyNeurons, np.ndarray | None] = {}  # both differences of an ability have the same
        for addend in addends:
            values, is_difference = addend.difference.stored(name, start, stop, torch.float32, self._scratch(1, size))
            weights = self._weights[:size]
            widened(values, addend.difference.source, name, start, torch.float32, torch.from_numpy(weights))
            with np.errstate(over="ignore"):  # an infinite coefficient shows in the result, and is refused there
                coefficient = np.float32(addend.coefficient)
            keys = addend.key_neurons
            if keys is not None and keys not in masks:
                masks[keys] = keys.mask(name, start, stop).numpy()
            match is_difference, keys is not None:
                case False, False:
                    kernels.add_weights(total, weights, base, coefficient)
                case False, True:
                    kernels.add_weights_masked(total, weights, base, coefficient, masks[keys])
                case True, False:
                    kernels.add_difference(total, weights, coefficient)
                case True, True:
                    kernels.add_difference_masked(total, weights, coefficient, masks[keys])
        return _finished(base, total, stored, dtype)

    def _by_torch(
        self, addends: list[Addend], name: str, start: int, stop: int, stored: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, int, bool]:
        precision = self.plan.sources.precision(name)
        base = widened(stored, self.plan.sources.base.source, name, start, precision).to(self.device)
        terms = []
        for addend in addends:
            difference = addend.difference.chunk(name, start, stop, base)
            if addend.key_neurons is not None:
                mask = addend.key_neurons.mask(name, start, stop).to(self.device)
                difference = torch.where(mask, difference, 0)
            terms.append((addend.coefficient, difference))
        return _rounded(equations.merged(base, terms), stored, dtype)

    def _by_method(
        self, vectors: list[WeightedVector], name: str, start: int, stop: int, stored: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, int, bool]:
        sources = self.plan.sources
        base = widened(stored, sources.base.source, name, start, sources.precision(name)).to(self.device)
        streamed = [StreamedVector(vector, sources.base, sources.cuts, name, start, stop, base) for vector in vectors]
        if not streamed:
            return _rounded(base, stored, dtype)
        merged_vector = self.plan.method.function(streamed, **self.plan.settings.parameters)
        if base.device.type == "cpu" and base.dtype == torch.float32:
            return _finished(base.numpy(), merged_vector.numpy(), stored, dtype)
        return _rounded(equations.merged(base, [(1.0, merged_vector)]), stored, dtype)


def _finished(
    base: np.ndarray, total: np.ndarray, stored: torch.Tensor, dtype: torch.dtype
) -> tuple[torch.Tensor, int, bool]:
    """base + total (which is overwritten), rounded; what `_rounded` returns."""
    kernels.finish(base, total)
    if dtype == torch.bfloat16 and stored.dtype == torch.bfloat16:
        out = torch.empty(total.size, dtype=dtype)
        bits = out.view(torch.uint16).numpy()
        changed, fits = kernels.narrow_bf16(total.view(np.uint32), stored.view(torch.uint16).numpy(), bits)
        return out, int(changed), bool(fits)
    return _rounded(torch.from_numpy(total), stored, dtype)


def _rounded(values: torch.Tensor, stored: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, int, bool]:
    """(values in `dtype` on the CPU, how many differ from the base, whether all fit)."""
    result = values.to(dtype)
    changed = int((result != stored.to(dtype).to(result.device)).sum())
    return result.cpu(), changed, bool(torch.isfinite(result).all())
