"""Scores on the way, kept on the disk now and then, so that locating goes on where it was killed."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch

from maet_core.dtypes import code_of
from maet_core.errors import CheckpointError
from maet_core.safetensors_file import SafetensorsFile
from maet_core.safetensors_writer import SafetensorsWriter, storage_order
from maet_core.unfinished import UnfinishedWork


class PartialScores:
    """`work` says what is located in what; see `UnfinishedWork`. Every tensor is written and read by itself: keeping them takes no
    memory of their size, and of the time about `share` at most, on a slow disk too."""

    def __init__(self, folder: Path, work: str, every_seconds: float = 60.0, share: float = 0.05):
        self._disk, self._every, self._share = UnfinishedWork(folder, work, "locating"), every_seconds, share
        self._kept, self._took = time.monotonic(), 0.0

    def step(self) -> int:
        """To which step the scores on the disk have come; 0 if there are none."""
        told = self._disk.read()
        return told["step"] if told else 0

    def read(self, step: int) -> Iterator[tuple[str, torch.Tensor]]:
        """The tensors that were kept at this step, one by one."""
        try:
            file = SafetensorsFile(self._file(step))
            for name in file.tensors:
                yield name, file.read(name)
        except (OSError, CheckpointError) as error:
            raise self._disk.unreadable(self._file(step), error) from error

    def keep(self, step: int, tensors: Mapping[str, torch.Tensor], now: bool = False) -> None:
        """Called after every step; writes when it is time, and when it has to be `now`."""
        started = time.monotonic()
        if not now and started - self._kept < max(self._every, self._took / self._share):
            return
        self._disk.folder.mkdir(parents=True, exist_ok=True)
        layout = {name: (code_of(tensor.dtype), tuple(tensor.shape)) for name, tensor in tensors.items()}
        with SafetensorsWriter(self._file(step), layout, {}) as writer:
            for name in storage_order(layout):
                writer.add(name, tensors[name].cpu())
        self._disk.note(step)
        self._kept = time.monotonic()
        self._took = self._kept - started

    def _file(self, step: int) -> Path:
        return self._disk.folder / f"step-{step}.safetensors"
