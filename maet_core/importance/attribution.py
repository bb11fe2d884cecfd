"""Importance from gradients on a corpus: one pass, nothing kept but the running score.

Every gradient is added to the score as soon as it is complete and then dropped, so that memory holds one float32 score per
neuron and at most one parameter's gradient. A batch's gradient is that of its mean loss per token.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from math import prod
from typing import Any

import numpy as np
import torch

from maet_core.checkpoints import Checkpoint
from maet_core.errors import ScoresError, Stopped
from maet_core.importance.key_neurons import select_key_neurons
from maet_core.importance.partial_scores import PartialScores
from maet_core.importance.scores import score_shape, unit_axis
from maet_core.progress import Halted, Progress, tell
from maet_core.resident import Slot, free_bytes_on, parameter_slots

STABILITY_K1 = (1.0, 5.0, 10.0)

Batch = tuple[torch.Tensor, torch.Tensor]
"""Token ids and labels, int64 [rows, tokens]; labels of −100 do not count."""


def gradient(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """|∂L/∂θ_j|, accumulated over the batches. In place of `grad`."""
    return grad.abs_()


def taylor(grad: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """|θ_j · ∂L/∂θ_j|: to first order, how much the loss changes when the weight is set to zero (Molchanov et al. 2019,
    arXiv 1906.10771). In place of `grad`."""
    return grad.mul_(weights).abs_()


ATTRIBUTIONS: dict[str, Callable[[torch.Tensor, torch.Tensor], torch.Tensor]] = {"gradient": gradient, "taylor": taylor}

# Gradients are widened and measured in pieces that stay in the processor's cache; a card wants them large.
_PIECE_ELEMENTS = {"cpu": 1 << 18, "cuda": 1 << 26}


class HeldScores:
    """Scores in memory, float32; see `Scores`."""

    magnitude_of = None

    def __init__(
        self, method: str, granularity: str, base: Checkpoint, details: dict[str, Any], values: dict[str, torch.Tensor]
    ):
        self.method, self.granularity, self.base, self.details = method, granularity, base, details
        self.values = {name: values[name] for name in sorted(values)}
        self.shapes = {name: tuple(value.shape) for name, value in self.values.items()}

    def read(self, name: str, start: int = 0, stop: int | None = None) -> torch.Tensor:
        return (
            self.values[name].clone()
            if stop is None and start == 0
            else self.values[name].reshape(-1)[start:stop].clone()
        )

    def array(self, name: str, start: int, stop: int) -> np.ndarray:
        return self.read(name, start, stop).numpy()


def attribute(
    method: str,
    base: Checkpoint,
    model: torch.nn.Module,
    batches: Sequence[Batch],
    names: Sequence[str],
    granularity: str = "parameter",
    halves: bool = False,
    progress: Progress | None = None,
    halted: Halted | None = None,
    partial: PartialScores | None = None,
) -> HeldScores:
    """Accumulates |gradient| or |gradient · weight| of the tensors `names` over all batches, in float32.

    At `unit` granularity a batch adds the L2 norm over each unit. With `halves` the two halves of the batches are also told apart
    (at the price of a second score), and the share of key neurons that they have in common is stored as `split_half`. The model's
    parameters are not changed, and their gradients are gone afterwards.

    What `partial` has of the same work is gone on with, to the same scores bit for bit. Raises Cancelled when `halted` turns true, or
    Stopped, with the scores so far kept.
    """
    measure = ATTRIBUTIONS[method]
    slots = {name: slot for name, slot in parameter_slots(model, base).items() if name in set(names)}
    missing = sorted(set(names) - set(slots))
    if missing:
        raise ScoresError(f"{base.source}: tensor {missing[0]} is not trained, so it has no gradient; leave it out")
    values = _zeros(slots, {name: score_shape(base, name, granularity) for name in slots})
    begun, first_half = _resume(partial, values)
    hooks = _hooks(slots, base, granularity, measure, values)
    trained = {slot.parameter for slot in slots.values()}
    before = {parameter: parameter.requires_grad for parameter in model.parameters()}
    try:
        for parameter in before:
            parameter.requires_grad_(parameter in trained)
        for done, (ids, labels) in enumerate(batches[begun:], start=begun):
            if partial and halted and halted():
                partial.keep(done, _kept(values, first_half), now=True)
                raise Stopped(f"stopped after batch {done} of {len(batches)}; the same command goes on from there")
            tell(progress, halted, f"accumulating |{method}|", done, len(batches))
            if halves and done == len(batches) // 2:
                first_half = {name: value.cpu().clone() for name, value in values.items()}
            model(input_ids=ids.to(model.device), labels=labels.to(model.device), use_cache=False).loss.backward()
            if partial and done + 1 < len(batches):
                partial.keep(done + 1, _kept(values, first_half))
    finally:
        for hook in hooks:
            hook.remove()
        for parameter, wanted in before.items():
            parameter.requires_grad_(wanted)
            parameter.grad = None
    details: dict[str, Any] = {"batches": len(batches), "tokens": sum(ids.numel() for ids, _ in batches)}
    values = {name: value.cpu() for name, value in values.items()}
    if first_half:
        second_half = {name: value - first_half[name] for name, value in values.items()}
        details["split_half"] = split_half(base, granularity, first_half, second_half)
    return HeldScores(method, granularity, base, details, values)


def _kept(values: dict[str, torch.Tensor], first_half: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return {f"all::{name}": value for name, value in values.items()} | {
        f"first half::{name}": value for name, value in first_half.items()
    }


def _resume(partial: PartialScores | None, values: dict[str, torch.Tensor]) -> tuple[int, dict[str, torch.Tensor]]:
    """How many batches are in the scores that were kept, which `values` take over, and those of the first half."""
    first_half: dict[str, torch.Tensor] = {}
    step = partial.step() if partial else 0
    for key, value in partial.read(step) if step else ():
        part, _, name = key.partition("::")
        if part == "all":
            values[name].copy_(value)
        else:
            first_half[name] = value
    return step, first_half


def split_half(
    base: Checkpoint, granularity: str, first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]
) -> dict[str, float]:
    """For some k1 (percent), the share of key neurons that both halves of a sample choose; k1 / 100 is what chance would give."""
    shares = {}
    for k1 in STABILITY_K1:
        keys = [
            select_key_neurons(HeldScores("", granularity, base, {}, {n: v.clamp(min=0) for n, v in half.items()}), k1)
            for half in (first, second)
        ]
        common = sum(int((keys[0].neurons(name) & keys[1].neurons(name)).sum()) for name in first)
        shares[f"{k1:g}"] = common / max(1, keys[0].count)
    return shares


def _hooks(
    slots: dict[str, Slot], base: Checkpoint, granularity: str, measure: Callable, values: dict[str, torch.Tensor]
) -> list[torch.utils.hooks.RemovableHandle]:
    """One hook a parameter, which may hold several tensors of the checkpoint: takes the gradient in, then drops it."""
    tensors: dict[torch.nn.Parameter, list[str]] = {}
    for name, slot in slots.items():
        tensors.setdefault(slot.parameter, []).append(name)

    def take_in(parameter: torch.nn.Parameter) -> None:
        for name in tensors[parameter]:
            weights, grad = (slots[name].view(tensor) for tensor in (parameter.detach(), parameter.grad))
            if granularity == "unit":
                axis = unit_axis(base.anatomy.place(name), tuple(grad.shape))
                values[name] += _unit_scores(measure, grad, weights, axis).to(values[name].device)
            else:
                _add_scores(values[name], measure, grad, weights)
        parameter.grad = None

    return [parameter.register_post_accumulate_grad_hook(take_in) for parameter in tensors]


def _zeros(slots: dict[str, Slot], shapes: dict[str, tuple[int, ...]]) -> dict[str, torch.Tensor]:
    """Where the running scores are kept: beside the weights, if a card has room for both them and the activations."""
    nbytes = 4 * sum(prod(shape) for shape in shapes.values())
    device = next(iter(slots.values())).parameter.device if slots else torch.device("cpu")
    if device.type == "cuda" and free_bytes_on(device) < 2 * nbytes:
        device = torch.device("cpu")
    return {name: torch.zeros(shape, device=device) for name, shape in shapes.items()}


def _add_scores(score: torch.Tensor, measure: Callable, grad: torch.Tensor, weights: torch.Tensor) -> None:
    """score += measure, in float32, or in float64 where the gradient is."""
    flat = score.view(-1)
    for start, stop, part in _pieces(measure, grad.reshape(-1), weights.reshape(-1)):
        flat[start:stop] += part.to(flat.device)


def _unit_scores(measure: Callable, grad: torch.Tensor, weights: torch.Tensor, axis: int) -> torch.Tensor:
    """The measure's L2 norm over each unit, an expert at a time; a bias's elements are units of their own."""
    if grad.ndim == 1:
        return torch.cat([part for _, _, part in _pieces(measure, grad, weights)]).float()
    if grad.ndim == 3:
        parts = zip(grad, weights, strict=True)
        return torch.stack([_unit_scores(measure, g, w, axis % 3 - 1) for g, w in parts])
    across = axis % 2 == 1
    squares = torch.zeros(grad.shape[axis], device=grad.device)
    for first, last, part in _pieces(measure, grad, weights):
        sums = part.square_().sum(dim=0 if across else 1)
        if across:
            squares += sums
        else:
            squares[first:last] = sums
    return squares.sqrt_()


def _pieces(measure: Callable, grad: torch.Tensor, weights: torch.Tensor) -> Iterator[tuple[int, int, torch.Tensor]]:
    """Stretches of the first axis: from, to, and the measure of what lies there, in memory that the next one takes over."""
    width = max(1, grad[:1].numel())
    step = max(1, _PIECE_ELEMENTS.get(grad.device.type, 1 << 26) // width)
    wide = torch.promote_types(grad.dtype, torch.float32)
    scratch = torch.empty(grad[:step].shape, dtype=wide, device=grad.device)
    for start in range(0, grad.shape[0], step):
        stop = min(start + step, grad.shape[0])
        part = scratch[: stop - start].copy_(grad[start:stop])
        yield start, stop, measure(part, weights[start:stop])


def unit_norm(score: torch.Tensor, axis: int) -> torch.Tensor:
    """The L2 norm over each unit, an expert at a time; a bias's elements are units of their own."""
    kept = {axis % score.ndim} | ({0} if score.ndim == 3 else set())
    rest = [dimension for dimension in range(score.ndim) if dimension not in kept]
    return torch.linalg.vector_norm(score, dim=rest) if rest and prod(score.shape) else score
