"""What trains: parameters chosen by name, or the key neurons inside them and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import torch

from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.resident import parameter_slots


class Trainable(Protocol):
    """`tensors` are what the optimizer moves, by name; gradients are in their `.grad` after a backward pass."""

    tensors: dict[str, torch.Tensor]

    def write_back(self) -> None:
        """Puts the moved values into the model, where that is not the same memory."""

    def release(self) -> None:
        """The model is as it would be without training, but for its values."""


class NamedParameters:
    """Parameters whose names match a pattern of `trainable` and none of `frozen`; the others are not touched by a bit."""

    def __init__(self, model: torch.nn.Module, trainable: Sequence[str], frozen: Sequence[str]):
        chosen = set(choose_parameters(model, trainable, frozen))
        self.tensors = {name: parameter for name, parameter in model.named_parameters() if name in chosen}

    def write_back(self) -> None:
        pass

    def release(self) -> None:
        pass


class KeyNeuronParameters:
    """The key neurons of a checkpoint, as one compact float32 vector a tensor (float64 for a float64 model).

    The optimizer's state is for these values alone. A parameter's gradient is gathered as soon as it is complete, and dropped;
    everything outside the key neurons keeps its bits.
    """

    def __init__(self, model: torch.nn.Module, base: Checkpoint, keys: KeyNeurons):
        slots = {name: slot for name, slot in parameter_slots(model, base).items() if keys.counts.get(name)}
        if not slots:
            raise InputError(f"k1: {keys.k1:g} % chooses no neuron; raise it")
        self._slots = slots
        self._positions = {name: keys.mask(name).nonzero().reshape(-1) for name in slots}
        self.tensors: dict[str, torch.Tensor] = {}
        by_parameter: dict[torch.nn.Parameter, list[str]] = {}
        for name, slot in slots.items():
            precision = torch.promote_types(slot.parameter.dtype, torch.float32)
            self._positions[name] = self._positions[name].to(slot.parameter.device)
            self.tensors[name] = slot.values.reshape(-1)[self._positions[name]].to(precision).requires_grad_()
            by_parameter.setdefault(slot.parameter, []).append(name)
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in by_parameter)

        def gather(parameter: torch.nn.Parameter) -> None:
            for name in by_parameter[parameter]:
                compact = self.tensors[name]
                part = slots[name].view(parameter.grad).reshape(-1)[self._positions[name]].to(compact.dtype)
                compact.grad = part if compact.grad is None else compact.grad + part
            parameter.grad = None

        self._hooks = [parameter.register_post_accumulate_grad_hook(gather) for parameter in by_parameter]

    @torch.no_grad()
    def write_back(self) -> None:
        for name, slot in self._slots.items():
            slot.values.view(-1)[self._positions[name]] = self.tensors[name].to(slot.parameter.dtype)

    def release(self) -> None:
        for hook in self._hooks:
            hook.remove()


def choose_parameters(model: torch.nn.Module, trainable: Sequence[str], frozen: Sequence[str]) -> list[str]:
    """Sets `requires_grad` by name and returns the names that train; InputError if a pattern matches nothing."""
    names = [name for name, _ in model.named_parameters()]
    for pattern in (*trainable, *frozen):
        if not any(fnmatchcase(name, pattern) for name in names):
            raise InputError(f"pattern {pattern!r} matches no parameter; names look like {names[0]!r}")
    chosen = []
    for name, parameter in model.named_parameters():
        wanted = any(fnmatchcase(name, p) for p in trainable) and not any(fnmatchcase(name, p) for p in frozen)
        parameter.requires_grad_(wanted)
        if wanted:
            chosen.append(name)
    if not chosen:
        raise InputError("every parameter is frozen; leave at least one to train")
    return chosen
