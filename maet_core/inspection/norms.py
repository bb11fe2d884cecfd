"""The norms between a hidden unit and the tokens' vectors, folded into the unit's weights.

A norm divides by the size of what comes in and multiplies with its gain, one number a dimension. The size is the same for all
directions at a token, so it moves no ranking and is left out; the gain is not, and is folded in, as the logit lens does with the
final norm. LayerNorm also takes off the mean, which leaves only the part of a direction that has none.
"""

from __future__ import annotations

import torch

from maet_core.anatomy import Place
from maet_core.checkpoints import Checkpoint

_BEFORE_ATTENTION = ("input_layernorm", "ln_1")
_BEFORE_MLP = ("post_attention_layernorm", "ln_2")
# Gemma 2 and 3 have a norm before and one after each half of a layer, under names that mean something else in the others.
_FOUR_NORMS = "pre_feedforward_layernorm"
_AFTER = {"o_proj": "post_attention_layernorm", "down_proj": "post_feedforward_layernorm"}


def as_read(base: Checkpoint, place: Place, weights: torch.Tensor) -> torch.Tensor:
    """The direction of the residual stream that a reading matrix's unit responds to: float32 [width]."""
    own = _norms(base, place.layer)
    before_mlp = (_FOUR_NORMS,) if _FOUR_NORMS in own else _BEFORE_MLP
    for name in _BEFORE_ATTENTION if place.kind == "attention" else before_mlp:
        if name in own:
            return _centred(base, own[name], _gain(base, own[name]) * weights)
    return weights


def as_written(base: Checkpoint, place: Place, weights: torch.Tensor) -> torch.Tensor:
    """What the unit adds to the residual stream, as the unembedding meets it behind the final norm: float32 [width]."""
    own, final = _norms(base, place.layer), list(_norms(base, None).values())
    after = own.get(_AFTER.get(place.module, "")) if _FOUR_NORMS in own else None
    if after:
        weights = _gain(base, after) * weights
    if len(final) == 1:
        weights = _gain(base, final[0]) * _centred(base, final[0], weights)
    return weights


def _norms(base: Checkpoint, layer: int | None) -> dict[str, str]:
    """{last part of the path: name of the tensor of gains} of a layer's norms, or of those outside the layers."""
    names = (name for name, place in base.anatomy.places.items() if place.kind == "norm" and place.layer == layer)
    return {name.removesuffix(".weight").rpartition(".")[2]: name for name in names if name.endswith(".weight")}


def _gain(base: Checkpoint, name: str) -> torch.Tensor:
    stored = base.read(name, 0, base.tensors[name].numel).reshape(-1).float()
    return 1 + stored if base.architecture.startswith("Gemma") else stored  # which stores how far it is from 1


def _centred(base: Checkpoint, name: str, direction: torch.Tensor) -> torch.Tensor:
    """LayerNorm, which has a bias, takes off the mean; RMSNorm does not."""
    is_layer_norm = f"{name.removesuffix('weight')}bias" in base.tensors
    return direction - direction.mean() if is_layer_norm else direction
