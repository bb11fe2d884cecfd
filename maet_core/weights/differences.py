"""θ − θ_o, tensor by tensor and range by range, whatever it is stored as."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

import numpy as np
import torch

from maet_core import kernels
from maet_core.checkpoints import Checkpoint, SafetensorsFile, is_adapter, locate_model, match_tensors
from maet_core.errors import CheckpointError
from maet_core.weights.adapters import Adapter


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
    def stored(self, name: str, start: int, stop: int, dtype: torch.dtype) -> tuple[torch.Tensor, bool]:
        """Elements `start` to `stop`, flat, as stored, and whether they are a difference already or weights.

        `dtype` is the precision in which values that must be computed (low-rank updates) are.
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


class CheckpointDifference(Difference):
    """A trained checkpoint minus the base."""

    def __init__(self, base: Checkpoint, trained: Checkpoint):
        self.base, self.trained, self.source = base, trained, trained.source
        self.names = match_tensors(base, trained)

    @property
    def identity(self) -> str:
        return self.trained.identity

    @property
    def files(self) -> list[SafetensorsFile]:
        return self.trained.files

    def touches(self, name: str) -> bool:
        return name in self.names and self.base.tensors[name].mergeable

    def precision(self, name: str) -> torch.dtype:
        return torch.promote_types(self.trained.tensors[self.names[name]].dtype, torch.float32)

    def stored(self, name: str, start: int, stop: int, dtype: torch.dtype) -> tuple[torch.Tensor, bool]:
        return self.trained.read(self.names[name], start, stop).reshape(-1), False


class AdapterDifference(Difference):
    """A LoRA adapter, folded: scaling · B · A, and for fully saved modules their values minus the base."""

    def __init__(self, base: Checkpoint, adapter: Adapter):
        self.base, self.adapter, self.source = base, adapter, adapter.source

    @property
    def identity(self) -> str:
        return self.adapter.identity

    @property
    def files(self) -> list[SafetensorsFile]:
        return [self.adapter.file]

    def touches(self, name: str) -> bool:
        return self.adapter.touches(name)

    def precision(self, name: str) -> torch.dtype:
        return torch.promote_types(self.adapter.dtype(name), torch.float32)

    def stored(self, name: str, start: int, stop: int, dtype: torch.dtype) -> tuple[torch.Tensor, bool]:
        replacement = self.adapter.replacement(name)
        if replacement is not None:
            return replacement.reshape(-1)[start:stop], False
        return self.adapter.update(name, dtype).reshape(-1)[start:stop], True


class Models:
    """Opens what a recipe names, each once, and checks it against the base."""

    def __init__(self, base: Checkpoint, folder: Path):
        self.base, self.folder = base, folder
        self._opened: dict[Path, Difference] = {}

    def open(self, source: str) -> Difference:
        path = locate_source(source, self.folder)
        key = path.resolve()
        if key not in self._opened:
            if path.is_dir() and is_adapter(path):
                self._opened[key] = AdapterDifference(self.base, Adapter.open(path, self.base, source))
            else:
                trained = Checkpoint.open(path)
                trained.source = source
                self._opened[key] = CheckpointDifference(self.base, trained)
        return self._opened[key]


def locate_source(source: str, folder: Path) -> Path:
    """A path of a recipe, relative to the recipe's folder, or a hub id. Raises CheckpointError if it is neither."""
    path = Path(source).expanduser()
    local = path if path.is_absolute() else folder / path
    if local.exists():
        return local
    if path.is_absolute() or source.startswith(".") or path.suffix == ".safetensors":
        raise CheckpointError(f"{source}: no such file or folder ({local})")
    return locate_model(source)


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
