"""Where a checkpoint's tensors lie in a model in memory: whole, or the stretch that this process holds of a sharded one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch.distributed.tensor import DTensor

from maet_core.checkpoints import Checkpoint
from maet_core.resident import parameter_slots


@dataclass(frozen=True)
class Stretch:
    """Elements `start` to `stop` of a flattened tensor of the checkpoint, inside a parameter of the model.

    The tensor begins at element `offset` of the whole flattened parameter; the stretch begins at element `first` of what this
    process holds of it.
    """

    parameter: torch.nn.Parameter
    offset: int
    start: int
    stop: int
    first: int

    def of(self, tensor: torch.Tensor) -> torch.Tensor:
        """The stretch of something of the parameter's form (its values, its gradient), flat."""
        return held(tensor).reshape(-1)[self.first : self.first + self.stop - self.start]

    @property
    def values(self) -> torch.Tensor:
        return self.of(self.parameter.data)


def held(tensor: torch.Tensor) -> torch.Tensor:
    """What this process holds of a tensor, the same memory."""
    return tensor.to_local().detach() if isinstance(tensor, DTensor) else tensor


def places(model: torch.nn.Module, base: Checkpoint, check: bool = True) -> dict[str, tuple[str, int]]:
    """The parameter's name and the first element there, for every tensor of the checkpoint; `check` as in `parameter_slots`.

    To be asked before a model is sharded.
    """
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    return {
        name: (names[id(slot.parameter)], slot.values.storage_offset() - slot.parameter.storage_offset())
        for name, slot in parameter_slots(model, base, check).items()
    }


def stretches(
    model: torch.nn.Module, base: Checkpoint, where: Mapping[str, tuple[str, int]] | None = None
) -> dict[str, Stretch]:
    """What this process holds of every tensor of the checkpoint."""
    parameters = dict(model.named_parameters())
    found = {}
    for name, (key, offset) in (places(model, base) if where is None else where).items():
        parameter = parameters[key]
        low, high = held_range(parameter)
        numel = base.tensors[name].numel
        start, stop = (min(max(edge - offset, 0), numel) for edge in (low, high))
        found[name] = Stretch(parameter, offset, start, stop, max(offset - low, 0) if stop > start else 0)
    return found


def held_range(parameter: torch.nn.Parameter) -> tuple[int, int]:
    """The elements of the flattened parameter that this process holds: FSDP2 cuts the first axis into blocks of one size,
    the last ones shorter or empty."""
    if not isinstance(parameter, DTensor):
        return 0, parameter.numel()
    rows, width = parameter.shape[0], parameter.numel() // max(1, parameter.shape[0])
    block = -(-rows // parameter.device_mesh.size())
    first = min(parameter.device_mesh.get_local_rank() * block, rows)
    last = min(first + block, rows)
    if parameter.to_local().shape[0] != last - first:
        raise RuntimeError(f"a parameter of {rows} rows is sharded in a way that is not known here")
    return first * width, last * width
