"""θ − θ_o, tensor by tensor and range by range, whatever it is stored as."""

from __future__ import annotations

from abc import ABC, abstractmethod

import numpy as np
import torch

from maet_core import kernels
from maet_core.checkpoints import Checkpoint
from maet_core.errors import CheckpointError
from maet_core.safetensors_file import SafetensorsFile


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

    @abstractmethod
    def touches(self, name: str) -> bool:
        """False where the difference is known to be zero everywhere."""

    @abstractmethod
    def precision(self, name: str) -> torch.dtype:
        """float64 where the stored values are, else float32."""

    @abstractmethod
    def stored(
        self, name: str, start: int, stop: int, dtype: torch.dtype, scratch: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, bool]:
        """Elements `start` to `stop`, flat, as stored, and whether they are a difference already or weights.

        `dtype` is the precision in which values that must be computed (low-rank updates) are; what is read may lie in `scratch`
        (see `SafetensorsFile.read`).
        """

    def chunk(self, name: str, start: int, stop: int, base_chunk: torch.Tensor) -> torch.Tensor:
        """Elements `start` to `stop` of the flattened difference, in the dtype (float32 or float64) and on the device of
        `base_chunk`, which holds the base's values of that range. Raises CheckpointError for a NaN or an infinity."""
        values, is_difference = self.stored(name, start, stop, base_chunk.dtype)
        values = widened(values, self.source, name, start, base_chunk.dtype).to(base_chunk.device)
        return values if is_difference else values.sub_(base_chunk)

    def difference(self, name: str, start: int, stop: int) -> torch.Tensor:
        """Elements `start` to `stop` of the flattened difference, float32 (float64 where an input is)."""
        dtype = torch.promote_types(self.base.tensors[name].dtype, self.precision(name))
        base = widened(self.base.read(name, start, stop).reshape(-1), self.base.source, name, start, dtype)
        return self.chunk(name, start, stop, base)


def widened(
    values: torch.Tensor, source: str, name: str, start: int, dtype: torch.dtype, out: torch.Tensor | None = None
) -> torch.Tensor:
    """Flat values of any stored dtype as float32 or float64 on the CPU, in `out` if it is given.

    Raises CheckpointError with the position if one of them is NaN or infinite.
    """
    if out is None:
        out = torch.empty(values.numel(), dtype=dtype)
    if dtype == torch.float64:
        out.copy_(values)
        good = bool(torch.isfinite(out).all())
    elif values.dtype == torch.bfloat16:
        good = kernels.widen_bf16(values.view(torch.uint16).numpy(), out.numpy().view(np.uint32))
    else:
        out.copy_(values)
        good = kernels.all_finite(out.numpy().view(np.uint32))
    if not good:
        position = int((~torch.isfinite(out)).nonzero()[0])
        raise CheckpointError(
            f"{source}: tensor {name} holds {float(out[position])} at element {start + position}; the model is damaged, use an intact copy"
        )
    return out
