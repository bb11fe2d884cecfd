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


class TrainingState:
    """Keeps values, optimizer state and losses in `path` every `every_steps` steps, replacing the last ones in one move.

    `work` says what is trained on what (anything that text can hold); a state of other work is an error, not a start.
    Never pickled: safetensors, with the rest as JSON in its metadata.
    """

    def __init__(self, path: Path, work: str, every_steps: int = 100):
        self.path, self.work, self.every_steps = path, work, every_steps

    def resume(
        self, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, report: TrainingReport
    ) -> int:
        """Loads the last state into all three, and returns how many steps are done; 0 if there is none."""
        if not self.path.exists():
            return 0
        try:
            with safe_open(self.path, "pt") as file:
                told = json.loads(file.metadata()["training"])
                stored = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118 (not a dict)
        except Exception as error:
            raise InputError(
                f"{self.path}: the state of a training that cannot be read ({error}); remove it to begin again"
            ) from error
        if told["work"] != self.work:
            raise InputError(
                f"{self.path}: the state of another training (other data, options or base); finish that one, or remove it"
            )
        for name, tensor in tensors.items():
            tensor.data.copy_(stored[f"{name}::value"])
            optimizer.state[tensor] = {
                "step": torch.tensor(float(told["step"])),
                "exp_avg": stored[f"{name}::exp_avg"].to(tensor.device),
                "exp_avg_sq": stored[f"{name}::exp_avg_sq"].to(tensor.device),
            }
        report.losses[:] = told["losses"]
        report.tokens, report.seconds = told["tokens"], told["seconds"]
        return told["step"]

    def keep(
        self, step: int, tensors: Mapping[str, torch.Tensor], optimizer: torch.optim.Optimizer, report: TrainingReport
    ) -> None:
        """Called after every step; writes on every `every_steps`-th."""
        if step % self.every_steps or step == report.steps:
            return
        content = {}
        for name, tensor in tensors.items():
            moments = optimizer.state[tensor]
            content[f"{name}::value"] = tensor.detach()
            content[f"{name}::exp_avg"] = moments["exp_avg"]
            content[f"{name}::exp_avg_sq"] = moments["exp_avg_sq"]
        told = {
            "work": self.work,
            "step": step,
            "losses": report.losses,
            "tokens": report.tokens,
            "seconds": report.seconds,
        }
        part = self.path.with_name(self.path.name + ".part")
        save_file(content, part, metadata={"training": json.dumps(told)})
        with part.open("rb+") as stream:
            os.fsync(stream.fileno())
        os.replace(part, self.path)
