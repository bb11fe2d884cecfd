"""A training's state on disk, from which a killed run goes on as if nothing had happened."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from maet_core.errors import InputError
from maet_core.training.options import TrainingReport
from maet_core.training.processes import Processes

_ABOUT = "state.json"


class TrainingState:
    """Keeps values, optimizer state and losses in `folder` every `every_steps` steps.

    `work` says what is trained on what (anything that text can hold); a state of other work is an error, not a start. Each
    process of a sharded training writes what it holds; `state.json`, replaced in one move once all are on the disk, says which
    files belong together. Never pickled: safetensors, and JSON.
    """

    def __init__(self, folder: Path, work: str, every_steps: int = 100, processes: Processes | None = None):
        self.folder, self.work, self.every_steps = Path(folder), work, every_steps
        self.processes = processes or Processes()
        self._part, self._parts = (self.processes.rank, self.processes.count) if self.processes.sharded else (0, 1)

    def resume(
        self, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, report: TrainingReport
    ) -> int:
        """Loads the last state into all three, and returns how many steps are done; 0 if there is none."""
        if not self._about.exists():
            return 0
        try:
            told = json.loads(self._about.read_text("utf-8"))
            work, parts, step = told["work"], told["parts"], told["step"]
        except (OSError, ValueError, KeyError) as error:
            raise self._unreadable(self._about, error) from error
        if work != self.work:
            raise InputError(
                f"{self.folder}: the state of another training (other data, options or base); finish that one, or remove it"
            )
        if parts != self._parts:
            raise InputError(
                f"{self.folder}: the state of a training whose parameters {_shared(parts)}, here {_shared(self._parts)}; "
                "start it as it was started first, or remove it"
            )
        try:
            with safe_open(self._file(step), "pt") as file:
                stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:
            raise self._unreadable(self._file(step), error) from error
        for name, tensor in tensors.items():
            tensor.data.copy_(stored[f"{name}::value"])
            optimizer.state[tensor] = {
                "step": torch.tensor(float(step), device=tensor.device),
                "exp_avg": stored[f"{name}::exp_avg"].to(tensor.device),
                "exp_avg_sq": stored[f"{name}::exp_avg_sq"].to(tensor.device),
            }
        report.losses[:] = told["losses"]
        report.tokens, report.seconds = told["tokens"], told["seconds"]
        return step

    def keep(
        self,
        step: int,
        tensors: Mapping[str, torch.Tensor],
        optimizer: torch.optim.Optimizer,
        report: TrainingReport,
        now: bool = False,
    ) -> None:
        """Called after every step; writes on every `every_steps`-th, and when it has to be `now`."""
        if step == report.steps or (step % self.every_steps and not now):
            return
        writes = self.processes.sharded or self.processes.first
        if writes:
            self._write(step, tensors, optimizer)
        self.processes.wait()
        if self.processes.first:
            told = {
                "work": self.work,
                "step": step,
                "parts": self._parts,
                "losses": report.losses,
                "tokens": report.tokens,
                "seconds": report.seconds,
            }
            _replace(self._about, lambda part: part.write_text(json.dumps(told), "utf-8"))
        self.processes.wait()
        if writes:
            for old in self.folder.glob(f"step-*.part-{self._part}.safetensors"):
                if old != self._file(step):
                    old.unlink()

    def forget(self) -> None:
        """There is nothing left to go on with."""
        if self.processes.first:
            self._about.unlink(missing_ok=True)

    @staticmethod
    def kept(folder: Path) -> bool:
        """There is a state to go on from."""
        return (folder / _ABOUT).exists()

    def _write(self, step: int, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        content = {}
        for name, tensor in tensors.items():
            moments = optimizer.state[tensor]
            content[f"{name}::value"] = tensor.detach()
            content[f"{name}::exp_avg"] = moments["exp_avg"]
            content[f"{name}::exp_avg_sq"] = moments["exp_avg_sq"]
        self.folder.mkdir(parents=True, exist_ok=True)
        _replace(self._file(step), lambda part: save_file(content, part))

    @property
    def _about(self) -> Path:
        return self.folder / _ABOUT

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step}.part-{self._part}.safetensors"

    def _unreadable(self, path: Path, error: Exception) -> InputError:
        return InputError(f"{path}: the state of a training that cannot be read ({error}); remove it to begin again")


def _shared(parts: int) -> str:
    return "are whole" if parts == 1 else f"are in {parts} parts"


def _replace(path: Path, write) -> None:
    """The file is on the disk, whole, under its name."""
    part = path.with_name(path.name + ".part")
    write(part)
    with part.open("rb+") as stream:
        os.fsync(stream.fileno())
    os.replace(part, path)
