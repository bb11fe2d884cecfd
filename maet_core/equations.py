"""The method's equations on tensors, and nothing else. Streaming, masks from disk and devices live around them.

Source: Chen et al., arXiv 2410.07825. All tensors of one call have the same shape and a floating dtype; the result has the
dtype of the inputs, so the caller decides the precision of the accumulation (float32, or float64 where an input is).
"""

from collections.abc import Iterable

import torch
from torch import Tensor


def importance(trained: Tensor, base: Tensor) -> Tensor:
    """I(θ_j) = |θ′_j − θ_j|, the value change of every parameter."""
    return (trained - base).abs()


def unit_importance(trained: Tensor, base: Tensor, neuron_axis: int) -> Tensor:
    """The L2 norm of the value change over each hidden unit; one value per index of `neuron_axis` (negative axes allowed).

    A stack of experts (three dimensions) gives one value per expert and unit, shape (experts, units).
    """
    change, axes = trained - base, other_axes(trained.ndim, neuron_axis)
    # an empty list of axes would mean all of them: each element of a bias is a unit of its own
    return torch.linalg.vector_norm(change, dim=axes) if axes else change.abs()


def other_axes(dimensions: int, neuron_axis: int) -> list[int]:
    """The axes that one unit spans: all but the neuron axis, and all but the expert axis of a stack."""
    kept = {neuron_axis % dimensions} | ({0} if dimensions == 3 else set())
    return [axis for axis in range(dimensions) if axis not in kept]


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


def merged(base: Tensor, abilities: Iterable[tuple[float, Tensor]], eta: float, languages: Tensor | None) -> Tensor:
    """Eq. 4: θ = θ_o + Σ_i γ_i · R(A_i) + η · R_Lang. Outside every T_i the caller gives no ability and η = 1.

    Where nothing is added the base comes back bit for bit, −0.0 included.
    """
    total = None
    for gamma, weights in abilities:
        total = gamma * weights if total is None else total + gamma * weights
    if languages is not None:
        scaled = languages if eta == 1 else eta * languages
        total = scaled if total is None else total + scaled
    return base if total is None else torch.where(total == 0, base, base + total)
