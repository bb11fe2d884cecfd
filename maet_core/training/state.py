"""A training's state on disk, from which a killed run goes on as if nothing had happened."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import save_file

from maet_core.errors import InputError
from maet_core.training.options import TrainingReport
from maet_core.training.processes import Processes
from maet_core.unfinished import UnfinishedWork, replace


class TrainingState:
    """Keeps values, optimizer state and losses in `folder` every `every_steps` steps.

    `work` says what is trained on what (anything that text can hold); a state of other work is an error, not a start. Each
    process of a sharded training writes what it holds; `state.json`, replaced in one move once all are on the disk, says which
    files belong together, and any number of processes can go on from them. Never pickled: safetensors, and JSON.
    """

    def __init__(self, folder: Path, work: str, every_steps: int = 100, processes: Processes | None = None):
        self.every_steps = every_steps
        self._disk = UnfinishedWork(folder, work, "training")
        self.processes = processes or Processes()
        self._part, self._parts = (self.processes.rank, self.processes.count) if self.processes.sharded else (0, 1)

    def resume(
        self, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, report: TrainingReport
    ) -> int:
        """Loads the last state into all three, and returns how many steps are done; 0 if there is none.

        `tensors`: the names in every process, with what this one holds of each, which may be nothing.
        """
        told = self._disk.read("parts", "losses", "tokens", "seconds")
        if told is None:
            return 0
        parts, step = told["parts"], told["step"]
        sizes = [tensor.numel() for tensor in tensors.values()]
        first = self.processes.before(sizes) if self.processes.sharded else [0] * len(sizes)
        with _Parts([self._file(step, part) for part in range(parts)], self._disk.unreadable) as stored:
            for (name, tensor), start in zip(tensors.items(), first, strict=True):
                if not tensor.numel():
                    continue
                tensor.data.copy_(stored.read(f"{name}::value", start, tensor))
                optimizer.state[tensor] = {
                    "step": torch.tensor(float(step), device=tensor.device),
                    "exp_avg": stored.read(f"{name}::exp_avg", start, tensor).to(tensor.device),
                    "exp_avg_sq": stored.read(f"{name}::exp_avg_sq", start, tensor).to(tensor.device),
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
        """Called after every step; writes on every `every_steps`-th, and when it has to be `now`.

        `tensors`: those that this process holds something of.
        """
        if step == report.steps or (step % self.every_steps and not now):
            return
        writes = self.processes.sharded or self.processes.first
        if writes:
            self._write(step, tensors, optimizer)
        self.processes.wait()
        if self.processes.first:
            self._disk.note(step, parts=self._parts, losses=report.losses, tokens=report.tokens, seconds=report.seconds)
        self.processes.wait()

    def _write(self, step: int, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer) -> None:
        content = {}
        for name, tensor in tensors.items():
            moments = optimizer.state[tensor]
            content[f"{name}::value"] = tensor.detach().reshape(-1)
            content[f"{name}::exp_avg"] = moments["exp_avg"].reshape(-1)
            content[f"{name}::exp_avg_sq"] = moments["exp_avg_sq"].reshape(-1)
        self._disk.folder.mkdir(parents=True, exist_ok=True)
        replace(self._file(step, self._part), lambda part: save_file(content, part))

    def _file(self, step: int, part: int) -> Path:
        return self._disk.folder / f"step-{step}.part-{part}.safetensors"


class _Parts:
    """Flat tensors of which each file holds a stretch, in the order of the files, or nothing."""

    def __init__(self, paths: Sequence[Path], unreadable: Callable[[Path, Exception], InputError]):
        self._paths, self._unreadable, self._files = paths, unreadable, ExitStack()

    def __enter__(self) -> _Parts:
        self._opened = []
        for path in self._paths:
            try:
                file = self._files.enter_context(safe_open(path, "pt"))
            except Exception as error:
                self._files.close()
                raise self._unreadable(path, error) from error
            self._opened.append((path, file, set(file.keys())))
        return self

    def __exit__(self, *error: object) -> None:
        self._files.close()

    def read(self, name: str, start: int, like: torch.Tensor) -> torch.Tensor:
        """As many values of the tensor from `start` on as `like` has, in its shape."""
        stop, first, found = start + like.numel(), 0, []
        for path, file, names in self._opened:
            if name not in names:
                continue
            try:
                stretch = file.get_slice(name)
                last = first + stretch.get_shape()[0]
                if start < last and first < stop:
                    found.append(stretch[max(start - first, 0) : min(stop, last) - first])
            except Exception as error:
                raise self._unreadable(path, error) from error
            first = last
        values = torch.cat(found) if found else torch.empty(0)
        if values.numel() != like.numel():
            raise self._unreadable(self._paths[0], ValueError(f"{name} has {first} values, not {stop} or more"))
        return values.reshape(like.shape)
