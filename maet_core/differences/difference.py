"""θ − θ_o, tensor by tensor and range by range, whatever it is stored as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, NoReturn

import numpy as np

from maet_core import kernels
from maet_core.checkpoints import Checkpoint
from maet_core.errors import CheckpointError
from maet_core.safetensors_file import SafetensorsFile
from maet_core.scratch import Memory, Scratch

# Neighbours in a sample: a cache line where memory is looked at, more where each look is a read.
_RUN, _LONG_RUN = 32, 1 << 12

# for the base (0) and the trained model (1), as long as a method here works
_scratch = Scratch()


class Difference(ABC):
    """What one trained model adds to the base. `source` is how the user named it."""

    source: str
    base: Checkpoint

    @property
    @abstractmethod
    def identity(self) -> str:
        """Identity hash of what is stored."""

    @property
    @abstractmethod
    def files(self) -> list[SafetensorsFile]:
        """The files that are read."""

    @property
    def stamp(self) -> Any | None:
        """What tells, for JSON, that this is the same difference as another time, without reading it; None if nothing does."""
        return None

    @abstractmethod
    def touches(self, name: str) -> bool:
        """False where the difference is known to be zero everywhere."""

    @abstractmethod
    def code(self, name: str) -> str:
        """The dtype of the stored values, as safetensors calls it."""

    @abstractmethod
    def holds_difference(self, name: str) -> bool:
        """Whether what is stored of a tensor is a difference already, and not weights."""

    def holds_bf16_weights(self, name: str) -> bool:
        """Whether what is stored of a tensor are weights in bf16, as the loops over bits need them."""
        return self.code(name) == "BF16" and not self.holds_difference(name)

    @abstractmethod
    def stored(
        self, name: str, start: int, stop: int, precision: np.dtype, memory: Memory | None = None
    ) -> tuple[np.ndarray, bool]:
        """Elements `start` to `stop`, flat, as stored (bf16: as bits), and what `holds_difference` says.

        Values that must be computed (low-rank updates) are, in `precision`; what is read may lie in `memory` (see
        `SafetensorsFile.values`).
        """

    def values(self, name: str, start: int, stop: int, base_values: np.ndarray) -> np.ndarray:
        """Elements `start` to `stop` of the flattened difference, in the dtype (float32 or float64) of `base_values`, which holds
        the base's values of that range. Raises CheckpointError for a NaN or an infinity."""
        stored, is_difference = self.stored(name, start, stop, base_values.dtype, _scratch.at(1))
        if stored.dtype == np.uint16 and base_values.dtype == np.float32 and not is_difference:
            changes = np.empty_like(base_values)
            if kernels.minus_base_bf16(stored, base_values, changes):
                return changes
        values = widened(stored, self.source, name, start, base_values.dtype)
        if not is_difference:
            values -= base_values
        return values

    def difference(self, name: str, start: int, stop: int) -> np.ndarray:
        """Elements `start` to `stop` of the flattened difference, float32 (float64 where an input is)."""
        precision = widest(self.base.tensors[name].code, self.code(name))
        stored = self.base.values(name, start, stop, _scratch.at(0))
        if stored.dtype == np.uint16 and self.holds_bf16_weights(name):
            changes = np.empty(stored.size, np.float32)
            trained = self.stored(name, start, stop, precision, _scratch.at(1))[0]
            if kernels.change_bf16(stored, trained, changes):
                return changes
        base = widened(stored, self.base.source, name, start, precision)
        return self.values(name, start, stop, base)

    def near(
        self, name: str, start: int, stop: int, low: np.uint32, high: np.uint32, inside: np.ndarray
    ) -> tuple[int, int]:
        """How many magnitudes of these elements, as bits of float32 values, lie above `high`, and how many from `low` to `high`; these
        are put into `inside`, in any order, which has room for one more than there are elements."""
        if not self.touches(name):
            return kernels.above_and_inside(np.zeros(stop - start, np.uint32), low, high, inside)
        if (stop - start) % 2 == 0 and self.base.tensors[name].code == "BF16" and self.holds_bf16_weights(name):
            trained = self.stored(name, start, stop, np.dtype(np.float32), _scratch.at(1))[0]
            pair = self.base.values(name, start, stop, _scratch.at(0)), trained
            addresses = kernels.addresses_of(pair)
            above, found, finite = kernels.changes_near(addresses, stop - start, low, high, inside)
            if finite:
                return above, found
        changes = self.difference(name, start, stop).astype(np.float32, copy=False)
        return kernels.above_and_inside(changes.view(np.uint32), low, high, inside)

    def sampled(self, name: str, size: int) -> np.ndarray:
        """At least `size` of the values (float32), from all over a tensor that has more."""
        every = max(_RUN, self.base.tensors[name].numel // size * _RUN)
        pair = self._stored_sample(name, _RUN, every) if self.base.tensors[name].code == "BF16" else None
        if pair is not None:
            changes = np.empty(pair[0].size, np.float32)
            kernels.change_bf16(*pair, changes)  # what is not finite is found where all is looked at
            return changes
        every = every // _RUN * _LONG_RUN
        numel = self.base.tensors[name].numel
        if not self.touches(name):
            return np.zeros(size, np.float32)
        parts = [self.difference(name, start, min(start + _LONG_RUN, numel)) for start in range(0, numel, every)]
        return np.concatenate(parts).astype(np.float32, copy=False)

    def _stored_sample(self, name: str, run: int, every: int) -> tuple[np.ndarray, np.ndarray] | None:
        """The bits of bf16 weights of the base and of the model, `run` of each `every`; None where that takes as long as to read all."""
        return None


def widest(*codes: str) -> np.dtype:
    """What values of these dtypes are added up in: float64 where one is, else float32."""
    return np.dtype(np.float64 if "F64" in codes else np.float32)


def widened(
    values: np.ndarray, source: str, name: str, start: int, precision: np.dtype, out: np.ndarray | None = None
) -> np.ndarray:
    """Flat values of any mergeable dtype (bf16: as bits) as float32 or float64, in `out` if it is given.

    Raises CheckpointError with the position if one of them is NaN or infinite.
    """
    if out is None:
        out = np.empty(values.size, precision)
    if values.dtype != np.uint16:
        with np.errstate(over="ignore"):  # float64 values that float32 cannot hold: the infinities are refused below
            out[:] = values
        good = kernels.all_finite(out.view(np.uint32)) if precision == np.float32 else bool(np.isfinite(out).all())
    elif precision == np.float32:
        good = kernels.widen_bf16(values, out.view(np.uint32))
    else:
        single = np.empty(values.size, np.float32)
        good = kernels.widen_bf16(values, single.view(np.uint32))
        out[:] = single
    if not good:
        refuse_non_finite(out, source, name, start)
    return out


def refuse_non_finite(values: np.ndarray, source: str, name: str, start: int) -> NoReturn:
    """Raises CheckpointError with the position of the first NaN or infinity."""
    position = int(np.flatnonzero(~np.isfinite(values))[0])
    raise CheckpointError(
        f"{source}: tensor {name} holds {float(values[position])} at element {start + position}; the model is damaged, use an intact copy"
    )
