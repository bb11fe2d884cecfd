"""Linear layers of which some units train: the backward pass computes the gradient of those rows or columns and no others."""

from __future__ import annotations

from functools import partial

import torch
from torch.nn import functional


class _CompactLinear(torch.autograd.Function):
    """x Wᵀ + b, whose gradient for W is `compact`'s: of the rows `units` of W (axis 0) or of its columns (axis 1), flat."""

    @staticmethod
    def forward(ctx, x, weight, bias, compact, units, axis):
        output = functional.linear(x, weight, bias)
        read = x.detach().to(output.dtype)  # under autocast the product is narrower than what goes in
        ctx.save_for_backward(read if axis == 0 else read.index_select(-1, units), weight, units)
        ctx.axis, ctx.input_dtype, ctx.compact_dtype = axis, x.dtype, compact.dtype
        return output

    @staticmethod
    def backward(ctx, grad):
        read, weight, units = ctx.saved_tensors
        grad_x = grad_bias = grad_compact = None
        if ctx.needs_input_grad[0]:
            grad_x = (grad @ weight.to(grad.dtype)).to(ctx.input_dtype)
        rows = grad.flatten(0, -2)
        if ctx.needs_input_grad[2]:
            grad_bias = rows.sum(0)
        if ctx.needs_input_grad[3]:
            chosen = rows.index_select(-1, units) if ctx.axis == 0 else rows
            grad_compact = (chosen.T @ read.flatten(0, -2)).reshape(-1).to(ctx.compact_dtype)
        return grad_x, None, grad_bias, grad_compact, None, None


def linear_owners(model: torch.nn.Module) -> dict[torch.nn.Parameter, torch.nn.Linear]:
    """The linear layer of every weight that belongs to one such layer and to no other module."""
    owners: dict[torch.nn.Parameter, list[torch.nn.Module]] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            owners.setdefault(parameter, []).append(module)
    return {
        parameter: modules[0]
        for parameter, modules in owners.items()
        if len(modules) == 1 and type(modules[0]) is torch.nn.Linear and parameter is modules[0].weight
    }


def make_compact(layer: torch.nn.Linear, compact: torch.Tensor, units: torch.Tensor, axis: int) -> None:
    """From now on `compact` gets the gradient of these units of the layer's weight, until `undo_compact`."""
    layer.forward = partial(_forward, layer, compact, units, axis)


def undo_compact(layer: torch.nn.Linear) -> None:
    del layer.forward


def _forward(layer: torch.nn.Linear, compact: torch.Tensor, units: torch.Tensor, axis: int, x: torch.Tensor):
    return _CompactLinear.apply(x, layer.weight, layer.bias, compact, units, axis)
