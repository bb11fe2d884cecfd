"""The method once more, from its equations, in float64 numpy: what the product is compared with.

It shares no code with the product and knows nothing of files. A model is a dict from tensor names to float64 arrays;
`axes` maps names to the axis of hidden units (None where a tensor has none of its own).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from decimal import ROUND_HALF_UP, Decimal
from fnmatch import fnmatchcase
from fractions import Fraction

import numpy as np
import torch

Model = dict[str, np.ndarray]


def to_float64(tensors: dict[str, torch.Tensor]) -> Model:
    return {name: tensor.to(torch.float64).numpy().copy() for name, tensor in tensors.items()}


def count_of(percent: float, total: int) -> int:
    """Round half up of `percent` % of `total`; the percentage is the decimal number that the user wrote."""
    share = Decimal(repr(float(percent))) * Decimal(total) / Decimal(100)
    return int(share.quantize(Decimal(1), rounding=ROUND_HALF_UP))


# --- step 1 ------------------------------------------------------------------------------------------------------


def importance(trained: Model, base: Model, names: list[str], granularity: str, axes: dict[str, int | None]) -> Model:
    """|θ′ − θ|, or its L2 norm over each hidden unit. Scores are float32 by definition of their file format."""
    scores = {}
    for name in names:
        change = np.abs(trained[name] - base[name])
        if granularity == "unit":
            axis = axes[name] if axes[name] is not None else 0
            keep = {axis} if change.ndim < 3 else {0, axis}
            change = np.sqrt((change**2).sum(axis=tuple(i for i in range(change.ndim) if i not in keep)))
        scores[name] = change.astype(np.float32).astype(np.float64)
    return scores


def key_neurons(scores: Model, k1: float, scope: str) -> dict[str, np.ndarray]:
    """Boolean masks of the shape of the scores: the top k1 %, ties by tensor name, then by position."""
    masks = {name: np.zeros(values.size, dtype=bool) for name, values in scores.items()}
    pools = [sorted(scores)] if scope == "global" else [[name] for name in sorted(scores)]
    for pool in pools:
        neurons = [(-value, name, i) for name in pool for i, value in enumerate(scores[name].ravel())]
        for _, name, i in sorted(neurons)[: count_of(k1, len(neurons))]:
            masks[name][i] = True
    return {name: mask.reshape(scores[name].shape) for name, mask in masks.items()}


def unit_mask(units: np.ndarray, shape: tuple[int, ...], axis: int | None) -> np.ndarray:
    """The mask of units as a mask of parameters."""
    axis = axis if axis is not None else 0
    mask = np.zeros(shape, dtype=bool)
    for position in np.argwhere(units):
        if len(shape) == 3:
            index = [position[0], slice(None), slice(None)]
            index[axis] = position[1]
        else:
            index = [slice(None)] * len(shape)
            index[axis] = position[0]
        mask[tuple(index)] = True
    return mask


# --- steps 2 and 3 -----------------------------------------------------------------------------------------------


def ability_weights(
    base: Model,
    ability: Model,
    source_language: Model | None,
    alpha: float,
    beta: float,
    masks: dict[str, np.ndarray] | None = None,
) -> Model:
    """Eq. 2; with masks only the key neurons keep their entries, and tensors without a mask keep none."""
    weights = {}
    for name, values in base.items():
        result = alpha * (ability[name] - values)
        if source_language is not None:
            result = result - beta * (source_language[name] - values)
        if masks is not None:
            result = np.where(masks[name], result, 0.0) if name in masks else np.zeros_like(result)
        weights[name] = result
    return weights


def language_sum(languages: list[tuple[float, Model]], base: Model) -> Model:
    """Eq. 3 over (μ_j, R(L_j))."""
    total = {name: np.zeros_like(values) for name, values in base.items()}
    for mu, weights in languages:
        total = {name: total[name] + mu * weights[name] for name in total}
    return total


# --- step 4 ------------------------------------------------------------------------------------------------------


def cosine(ability: np.ndarray, language: np.ndarray) -> float:
    a, b = ability.ravel(), language.ravel()
    if not b.any():
        return 0.0
    return float(a @ b) / float(np.sqrt(a @ a) * np.sqrt(b @ b))


@dataclass
class Chosen:
    cosines: dict[str, float]
    tensors: set[str]
    by_hand: set[str] = field(default_factory=set)


def select(
    ability: Model,
    languages: Model,
    k2: float,
    include: list[str] = (),
    exclude: list[str] = (),
    places: dict[str, tuple[int | None, set[str]]] | None = None,
) -> Chosen:
    """T_i. `places` gives each tensor's layer and module names for the patterns `layer:` and `module:`."""
    cosines = {name: cosine(values, languages[name]) for name, values in ability.items() if values.any()}
    ranked = sorted(cosines, key=lambda name: (round(cosines[name], 12), name))
    by_rule = set(ranked[: count_of(k2, len(ranked))])

    chosen = by_rule | {name for name in cosines if any(hit(name, pattern, places) for pattern in include)}
    chosen -= {name for name in cosines if any(hit(name, pattern, places) for pattern in exclude)}
    return Chosen(cosines, chosen, chosen ^ by_rule)


def hit(name: str, pattern: str, places: dict[str, tuple[int | None, set[str]]] | None) -> bool:
    """Whether a pattern of a recipe is about this tensor."""
    if pattern.startswith("layer:"):
        numbers = [int(number) for number in re.findall(r"\d+", pattern)]
        layer = places[name][0]
        return layer is not None and numbers[0] <= layer <= numbers[-1]
    if pattern.startswith("module:"):
        return pattern.split(":")[1] in places[name][1]
    return fnmatchcase(name, pattern)


def scaled(weights: Model, scales: list[tuple[str, float]], places: dict[str, tuple[int | None, set[str]]]) -> Model:
    """Every tensor times the factors of all patterns that are about it."""
    return {
        name: values * np.prod([factor for pattern, factor in scales if hit(name, pattern, places)])
        for name, values in weights.items()
    }


# --- step 5 ------------------------------------------------------------------------------------------------------


def merge(base: Model, abilities: list[tuple[float, Model, set[str]]], eta: float, languages: Model) -> Model:
    """Eq. 4 over (γ_i, R(A_i), T_i), before rounding."""
    merged = {}
    for name, values in base.items():
        inside = [(gamma, weights) for gamma, weights, tensors in abilities if name in tensors]
        if inside:
            total = sum(gamma * weights[name] for gamma, weights in inside)
            merged[name] = values + total + eta * languages[name]
        else:
            merged[name] = values + languages[name]
    return merged


# --- rounding ----------------------------------------------------------------------------------------------------

_FORMATS = {  # significant bits, smallest normal exponent
    torch.float16: (11, -14),
    torch.bfloat16: (8, -126),
    torch.float32: (24, -126),
    torch.float64: (53, -1022),
}


def ulp(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """The distance between neighbouring numbers of `dtype` around each value (below the smallest normal: constant)."""
    bits, smallest = _FORMATS[dtype]
    _, exponent = np.frexp(np.abs(values))
    exponent = np.maximum(exponent - 1, smallest)
    return np.ldexp(1.0, exponent - bits + 1)


def round_to(values: np.ndarray, dtype: torch.dtype) -> np.ndarray:
    """Round to nearest, ties to even; the result as float64. Overflow is not looked at: tests stay far from it."""
    step = ulp(values, dtype)
    return np.rint(values / step) * step


def round_exactly(value: float, dtype: torch.dtype) -> float:
    """`round_to` of one number in rational arithmetic, to check the oracle itself."""
    step = Fraction(float(ulp(np.array(value), dtype)))
    quotient = Fraction(value) / step
    floor = quotient.numerator // quotient.denominator
    rest = quotient - floor
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and floor % 2 == 1)
    return float((floor + up) * step)
