"""What trains: parameters chosen by name, a low-rank adapter, or the key neurons inside the parameters and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Protocol

import torch
from torch.distributed.tensor import DTensor

from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.importance.scores import unit_axis
from maet_core.training.compact import linear_owners, make_compact, undo_compact
from maet_core.training.placement import Stretch, held, stretches


class Trainable(Protocol):
    """`tensors` are what the optimizer moves, by name; gradients are in their `.grad` after a backward pass.

    `whole`: they are the model's own parameters, so that DistributedDataParallel averages their gradients.
    """

    tensors: dict[str, torch.Tensor]
    whole: bool

    def write_back(self) -> None:
        """Puts the moved values into the model, where that is not the same memory."""

    def release(self) -> None:
        """The model is as it would be without training, but for its values."""


class NamedParameters:
    """Parameters whose names match a pattern of `trainable` and none of `frozen`; the others are not touched by a bit."""

    whole = True

    def __init__(self, model: torch.nn.Module, trainable: Sequence[str], frozen: Sequence[str]):
        chosen = set(choose_parameters(model, trainable, frozen))
        self.tensors = {name: parameter for name, parameter in model.named_parameters() if name in chosen}

    def write_back(self) -> None:
        pass

    def release(self) -> None:
        pass


class ShardedParameters:
    """The same in a model that FSDP2 has sharded: the optimizer moves what this process holds of each parameter, in place."""

    whole = False

    def __init__(self, model: torch.nn.Module, trainable: Sequence[str], frozen: Sequence[str]):
        chosen = set(choose_parameters(model, trainable, frozen))
        parameters = {name: parameter for name, parameter in model.named_parameters() if name in chosen}
        self.tensors = {name: held(parameter.data).requires_grad_() for name, parameter in parameters.items()}

        def taker(name: str):
            def take(parameter: torch.nn.Parameter) -> None:
                _add_gradient(self.tensors[name], held(parameter.grad))
                parameter.grad = None

            return take

        self._hooks = [p.register_post_accumulate_grad_hook(taker(name)) for name, p in parameters.items()]

    def write_back(self) -> None:
        pass

    def release(self) -> None:
        for hook in self._hooks:
            hook.remove()


def parameters_by_name(
    model: torch.nn.Module, sharded: bool, trainable: Sequence[str], frozen: Sequence[str] = ()
) -> NamedParameters | ShardedParameters:
    """What matches a pattern of `trainable` and none of `frozen`; InputError if a pattern matches nothing."""
    return (ShardedParameters if sharded else NamedParameters)(model, trainable, frozen)


class KeyNeuronParameters:
    """The key neurons of a checkpoint, as one compact float32 vector a tensor (float64 for a float64 model).

    The optimizer's state is for these values alone, and everything outside the key neurons keeps its bits. Of whole units in a
    linear layer only the gradient of those units is computed; elsewhere a parameter's gradient is gathered as soon as it is
    complete, and dropped. In a sharded model each process has the key neurons among what it holds.
    """

    whole = False

    def __init__(
        self,
        model: torch.nn.Module,
        base: Checkpoint,
        keys: KeyNeurons,
        parts: Mapping[str, Stretch] | None = None,
    ):
        parts = stretches(model, base) if parts is None else parts
        self._parts = {name: part for name, part in parts.items() if keys.counts.get(name)}
        if not self._parts:
            raise InputError(f"k1: {keys.k1:g} % chooses no neuron; raise it")
        self._positions: dict[str, torch.Tensor] = {}
        self.tensors: dict[str, torch.Tensor] = {}
        by_parameter: dict[torch.nn.Parameter, list[str]] = {}
        for name, part in self._parts.items():
            values = part.values
            positions = keys.mask(name, part.start, part.stop).nonzero().reshape(-1)
            self._positions[name] = positions.to(values.device)
            precision = torch.promote_types(values.dtype, torch.float32)
            self.tensors[name] = values[self._positions[name]].to(precision).requires_grad_()
            by_parameter.setdefault(part.parameter, []).append(name)
        self._layers = self._compact_layers(model, keys) if keys.scores.granularity == "unit" else {}
        for layer in self._layers:
            del by_parameter[layer.weight]
        for parameter in model.parameters():
            parameter.requires_grad_(parameter in by_parameter)

        def gather(parameter: torch.nn.Parameter) -> None:
            for name in by_parameter[parameter]:
                part = self._parts[name].of(parameter.grad)[self._positions[name]]
                _add_gradient(self.tensors[name], part.to(self.tensors[name].dtype))
            parameter.grad = None

        self._hooks = [parameter.register_post_accumulate_grad_hook(gather) for parameter in by_parameter]

    def _compact_layers(self, model: torch.nn.Module, keys: KeyNeurons) -> dict[torch.nn.Linear, str]:
        """The linear layers that are one tensor of the checkpoint, now with the gradient of their key units alone."""
        owners = linear_owners(model)
        layers = {}
        for name, part in self._parts.items():
            layer = owners.get(part.parameter)
            if layer is None or isinstance(part.parameter, DTensor) or part.stop != part.parameter.numel():
                continue
            axis = unit_axis(keys.scores.base.anatomy.place(name), tuple(part.parameter.shape)) % 2
            units = keys.neurons(name).nonzero().reshape(-1).to(part.parameter.device)
            make_compact(layer, self.tensors[name], units, axis)
            layers[layer] = name
        return layers

    @torch.no_grad()
    def write_back(self) -> None:
        for name, part in self._parts.items():
            values = part.values
            values[self._positions[name]] = self.tensors[name].to(values.dtype)

    def release(self) -> None:
        for hook in self._hooks:
            hook.remove()
        for layer in self._layers:
            undo_compact(layer)


def _add_gradient(tensor: torch.Tensor, part: torch.Tensor) -> None:
    tensor.grad = part if tensor.grad is None else tensor.grad.add_(part)


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
