"""The values of any range of a merged tensor. The merge to disk and the live model both take them from here."""

from __future__ import annotations

import numpy as np
import torch

from maet_core import equations
from maet_core.errors import InputError
from maet_core.merging import kernels
from maet_core.merging.plan import Addend, MergePlan
from maet_core.weights.differences import finite

# The base, one model and the sum of a chunk fit the second-level cache; smaller ones would spend more on calls than they save.
CHUNK_ELEMENTS = 1 << 17


class Combiner:
    """Scratch memory of one thread, and Eq. 4 on chunks of at most `CHUNK_ELEMENTS`.

    On the CPU sums in float32 run in compiled kernels; other devices, and float64, go through torch. The order of additions is
    the same, and so is the result.
    """

    def __init__(self, plan: MergePlan, device: torch.device | str = "cpu"):
        self.plan, self.device = plan, torch.device(device)
        self._base, self._weights, self._total = (np.empty(CHUNK_ELEMENTS, np.float32) for _ in range(3))
        self._wide = torch.from_numpy(self._weights)

    def chunk(self, name: str, start: int, stop: int, dtype: torch.dtype) -> tuple[torch.Tensor, int]:
        """Elements `start` to `stop` of the merged tensor, flat, rounded once to `dtype`, and how many differ from the base.

        The tensor is the caller's until the next call. Raises CheckpointError for a NaN or an infinity in an input, InputError
        for a result that `dtype` cannot hold.
        """
        base = self.plan.sources.base
        stored = base.read(name, start, stop).reshape(-1)
        if not base.tensors[name].mergeable:
            return stored, 0
        addends = self.plan.addends(name)
        if self.device.type == "cpu" and self.plan.sources.precision(name) == torch.float32:
            result, changed, fits = self._by_kernels(addends, name, start, stop, stored, dtype)
        else:
            result, changed, fits = self._by_torch(addends, name, start, stop, stored, dtype)
        if not fits:
            raise InputError(
                f"output.dtype: the merged tensor {name} has a value beyond {torch.finfo(dtype).max:g}, the largest in {dtype}; "
                "use smaller coefficients, or bfloat16"
            )
        return result, changed

    def _by_kernels(
        self, addends: list[Addend], name: str, start: int, stop: int, stored: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, int, bool]:
        size = stop - start
        base, total = self._base[:size], self._total[:size]
        self._widen(stored, base, self.plan.sources.base.source, name, start)
        if not addends and dtype == stored.dtype:
            return stored, 0, True
        total.fill(0)
        for addend in addends:
            values, is_difference = addend.difference.stored(name, start, stop, torch.float32)
            weights = self._weights[:size]
            self._widen(values, weights, addend.difference.source, name, start)
            coefficient = np.float32(addend.coefficient)
            mask = None
            if addend.key_neurons is not None:
                mask = addend.key_neurons.mask(name, start, stop)
                if mask is None:
                    continue
                mask = mask.numpy()
            match is_difference, mask is not None:
                case False, False:
                    kernels.add_weights(total, weights, base, coefficient)
                case False, True:
                    kernels.add_weights_masked(total, weights, base, coefficient, mask)
                case True, False:
                    kernels.add_difference(total, weights, coefficient)
                case True, True:
                    kernels.add_difference_masked(total, weights, coefficient, mask)
        kernels.finish(base, total)
        if dtype == torch.bfloat16 and stored.dtype == torch.bfloat16:
            out = torch.empty(size, dtype=dtype)
            bits = out.view(torch.uint16).numpy()
            changed, fits = kernels.narrow_bf16(total.view(np.uint32), stored.view(torch.uint16).numpy(), bits)
            return out, int(changed), bool(fits)
        return _rounded(torch.from_numpy(total), stored, dtype)

    def _by_torch(
        self, addends: list[Addend], name: str, start: int, stop: int, stored: torch.Tensor, dtype: torch.dtype
    ) -> tuple[torch.Tensor, int, bool]:
        base = finite(stored, self.plan.sources.base.source, name, start)
        base = base.to(self.device, self.plan.sources.precision(name))
        terms = []
        for addend in addends:
            difference = addend.difference.chunk(name, start, stop, base)
            if addend.key_neurons is not None:
                mask = addend.key_neurons.mask(name, start, stop)
                if mask is None:
                    continue
                difference = torch.where(mask.to(self.device), difference, 0)
            terms.append((addend.coefficient, difference))
        return _rounded(equations.merged(base, terms), stored, dtype)

    def _widen(self, values: torch.Tensor, out: np.ndarray, source: str, name: str, start: int) -> None:
        """Any stored dtype to float32; a NaN or an infinity is an error that names where it was found."""
        if values.dtype == torch.bfloat16:
            good = kernels.widen_bf16(values.view(torch.uint16).numpy(), out.view(np.uint32))
        else:
            torch.from_numpy(out).copy_(values)
            good = kernels.all_finite(out.view(np.uint32))
        if not good:
            finite(values, source, name, start)


def _rounded(values: torch.Tensor, stored: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, int, bool]:
    """(values in `dtype` on the CPU, how many differ from the base, whether all fit)."""
    result = values.to(dtype)
    changed = int((result != stored.to(dtype).to(result.device)).sum())
    return result.cpu(), changed, bool(torch.isfinite(result).all())
