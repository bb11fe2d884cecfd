"""The method's equations on tensors, of torch or (but for Eq. 4) numpy, and nothing else. Streaming, masks, devices and fused
kernels live around them.

Source: Chen et al., arXiv 2410.07825. All tensors of one call have the same shape and a floating dtype; the result has the
dtype of the inputs, so the caller decides the precision of the accumulation (float32, or float64 where an input is).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

import numpy as np

from maet_core.lazy import torch

Tensor = TypeVar("Tensor", "torch.Tensor", np.ndarray)


def importance(change: Tensor) -> Tensor:
    """I(θ_j) = |θ′_j − θ_j| of every parameter, from the value change. A unit's importance is the L2 norm over the unit."""
    return abs(change)


def ability_weights(ability: Tensor, source_language: Tensor | None, alpha: float, beta: float) -> Tensor:
    """Eq. 2: R(A) = α · (θ_{A,L0} − θ_o) − β · (θ_{L0} − θ_o), from the two differences; None stands for zero."""
    return alpha * ability if source_language is None or beta == 0 else alpha * ability - beta * source_language


def language_sum(languages: Iterable[tuple[float, Tensor]]) -> Tensor | None:
    """Eq. 3: R_Lang = Σ_j μ_j · R(L_j), summed in the order given; None if there is no language."""
    total = None
    for mu, weights in languages:
        total = mu * weights if total is None else total + mu * weights
    return total


def cosine_similarity(inner: float, ability_square: float, language_square: float) -> float:
    """s_t from inner products: ⟨R(A), R_Lang⟩ / (‖R(A)‖ · ‖R_Lang‖), and 0 where R_Lang is zero."""
    if language_square <= 0:
        return 0.0
    return inner / (ability_square**0.5 * language_square**0.5)


def merged(base: torch.Tensor, addends: Iterable[tuple[float, torch.Tensor]]) -> torch.Tensor:
    """Eq. 4 with Eq. 2 and 3 multiplied out: θ = θ_o + Σ_k c_k · (θ_k − θ_o), one coefficient per difference.

    In T_i the coefficients are γ_i·α_i (ability), −γ_i·β_i (source language) and η·μ_j (language j); outside every T_i they are
    μ_j alone. Where nothing is added the base comes back bit for bit, −0.0 included.
    """
    total = torch.zeros_like(base)
    for coefficient, difference in addends:
        total = total + coefficient * difference
    return torch.where(total == 0, base, base + total)
