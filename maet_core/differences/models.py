"""Differences of what a recipe names: checkpoints and adapters, each opened once and checked against the base."""

from __future__ import annotations

from pathlib import Path

import torch

from maet_core.checkpoints import Checkpoint, is_adapter, locate_model, match_tensors
from maet_core.differences.adapters import Adapter
from maet_core.differences.difference import Difference
from maet_core.errors import CheckpointError
from maet_core.safetensors_file import SafetensorsFile


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

    def stored(
        self, name: str, start: int, stop: int, dtype: torch.dtype, scratch: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, bool]:
        return self.trained.read(self.names[name], start, stop, scratch).reshape(-1), False


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

    def stored(
        self, name: str, start: int, stop: int, dtype: torch.dtype, scratch: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, bool]:
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
