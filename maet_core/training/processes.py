"""The processes that train one model together: this one alone, or those that torchrun or `accelerate launch` have started."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import distributed
from torch.nn.parallel import DistributedDataParallel

from maet_core.errors import InputError

# one process reads the corpus while the others wait, and a large one takes long
_PATIENCE = timedelta(hours=12)


@dataclass(frozen=True)
class Processes:
    """`rank` of `count`; `device` is this process's own. With `sharded` each holds a part of every parameter, else all of it."""

    rank: int = 0
    count: int = 1
    device: str = "cpu"
    sharded: bool = False

    @classmethod
    @contextmanager
    def join(cls, device: str = "cpu", sharded: bool = False) -> Iterator[Processes]:
        """Joins the group that the launcher's environment describes, for as long as the block runs.

        One process needs none, unless it is `sharded`: then it takes what a part of a model takes, on its own.
        """
        launched = "RANK" in os.environ
        count = int(os.environ.get("WORLD_SIZE", "1")) if launched else 1
        if sharded and not launched:
            raise InputError("--shard: there is one process; start several with torchrun, see docs/training.md")
        if count == 1 and not sharded:
            yield cls(device=device)
            return
        cuda = torch.device(device).type == "cuda"
        if cuda:
            device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
            torch.cuda.set_device(device)
        distributed.init_process_group("nccl" if cuda else "gloo", timeout=_PATIENCE)
        try:
            yield cls(distributed.get_rank(), count, device, sharded)
        finally:
            distributed.destroy_process_group()

    @property
    def first(self) -> bool:
        """This is the process that reads the corpus, writes the output and talks."""
        return self.rank == 0

    def wait(self) -> None:
        """Returns when every process has come here."""
        self.sum([0.0])

    def sum(self, numbers: Iterable[float]) -> list[float]:
        total = torch.tensor(list(numbers), dtype=torch.float64)
        if self.count > 1:
            total = total.to(self.device)
            distributed.all_reduce(total)
        return total.tolist()

    def before(self, sizes: Sequence[int]) -> list[int]:
        """For each of the sizes, which every process gives its own of, their sum over the processes before this one."""
        table = [0.0] * (self.count * len(sizes))
        table[self.rank * len(sizes) : (self.rank + 1) * len(sizes)] = map(float, sizes)
        whole = self.sum(table)
        return [int(sum(whole[i : self.rank * len(sizes) : len(sizes)])) for i in range(len(sizes))]

    def share(self, step: int) -> int:
        """How many of a step's batches are this process's own. InputError if they cannot be shared evenly."""
        if step % self.count:
            raise InputError(
                f"--accumulate: a step of {step} batches cannot be shared by {self.count} processes; choose a multiple of {self.count}"
            )
        return step // self.count

    def replicate(self, model: torch.nn.Module) -> torch.nn.Module:
        """The model as a module whose backward pass averages the gradients of all processes."""
        vision = any("vision" in name for name, p in model.named_parameters() if p.requires_grad)
        replica = DistributedDataParallel(model, find_unused_parameters=vision)
        replica.broadcast_buffers = (
            False  # they are constants; what the argument is called changes with torch's versions
        )
        return replica

    @staticmethod
    def synchronized(model: torch.nn.Module, last: bool) -> AbstractContextManager:
        """Around a batch: its gradients wait for those of the step's last batch before they are averaged."""
        return model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext()

    def average_gradients(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            if tensor.grad is None:
                tensor.grad = torch.zeros_like(tensor)
            distributed.all_reduce(tensor.grad)
            tensor.grad /= self.count

    def clip(self, tensors: list[torch.Tensor], most: float) -> None:
        """Scales all gradients down together, so that their norm over all processes' parts is at most `most`."""
        norm = torch.nn.utils.get_total_norm([tensor.grad for tensor in tensors if tensor.grad is not None])
        if self.sharded:
            squares = norm.double().square().to(self.device)
            distributed.all_reduce(squares)
            norm = squares.sqrt()
        torch.nn.utils.clip_grads_with_norm_(tensors, most, norm)
