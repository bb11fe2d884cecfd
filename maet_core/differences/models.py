"""Differences of what a recipe names: checkpoints and adapters, each opened once and checked against the base."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maet_core.checkpoints import Checkpoint, is_adapter, locate_model, match_tensors
from maet_core.differences.adapters import Adapter
from maet_core.differences.difference import Difference
from maet_core.dtypes import as_numpy
from maet_core.errors import CheckpointError
from maet_core.safetensors_file import SafetensorsFile
from maet_core.scratch import Memory


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

    @property
    def stamp(self) -> Any | None:
        return self.trained.stamp

    def touches(self, name: str) -> bool:
        return name in self.names and self.base.tensors[name].mergeable

    def code(self, name: str) -> str:
        return self.trained.tensors[self.names[name]].code

    def holds_difference(self, name: str) -> bool:
        return False

    def stored(
        self, name: str, start: int, stop: int, precision: np.dtype, memory: Memory | None = None
    ) -> tuple[np.ndarray, bool]:
        return self.trained.values(self.names[name], start, stop, memory), False

    def _stored_sample(self, name: str, run: int, every: int) -> tuple[np.ndarray, np.ndarray] | None:
        if not self.holds_bf16_weights(name):
            return None
        base, trained = self.base.sample(name, run, every), self.trained.sample(self.names[name], run, every)
        return None if base is None or trained is None else (base, trained)


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

    def code(self, name: str) -> str:
        return self.adapter.code(name)

    def holds_difference(self, name: str) -> bool:
        return not self.adapter.replaces(name)

    def stored(
        self, name: str, start: int, stop: int, precision: np.dtype, memory: Memory | None = None
    ) -> tuple[np.ndarray, bool]:
        replacement = self.adapter.replacement(name)
        if replacement is not None:
            return as_numpy(replacement.reshape(-1)[start:stop]), False
        return self.adapter.update(name, precision.name).reshape(-1)[start:stop].numpy(), True


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
