"""The comparators once more, from their papers' equations, in float64 numpy on whole tensors. Shares no code with the product.

A task vector is given as (its field in the recipe, its weight w, {tensor: τ}). Every function returns, for one tensor, what is
added to the base and the size of the terms that went into it (for error bounds).
"""

from __future__ import annotations

import hashlib
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

Vectors = list[tuple[str, float, np.ndarray]]


def count_of(share: float, total: int) -> int:
    return int((Decimal(repr(float(share))) * total).quantize(Decimal(1), rounding=ROUND_HALF_UP))


def top(values: np.ndarray, share: float) -> np.ndarray:
    """The `share` largest magnitudes by sorting, ties by position; compared in float32."""
    order = np.argsort(-np.abs(values.astype(np.float32)).ravel(), kind="stable")
    mask = np.zeros(values.size, dtype=bool)
    mask[order[: count_of(share, values.size)]] = True
    return mask.reshape(values.shape)


def splitmix64(key: int, count: int) -> np.ndarray:
    """The first numbers of the stream that begins at `key`, uint64."""
    z = np.uint64(key) + np.arange(1, count + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def chance(seed: int, field: str, tensor: str, shape: tuple[int, ...]) -> np.ndarray:
    text = f"{seed}\0{field}\0{tensor}"
    key = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")
    numbers = splitmix64(key, int(np.prod(shape)))
    return (numbers >> np.uint64(40)).astype(np.float64).reshape(shape) / 2**24


def row_ranks(values: np.ndarray) -> np.ndarray:
    """0 for the smallest magnitude of each row to 1 for its largest."""
    rows = np.abs(values.astype(np.float32)).reshape(-1, values.shape[-1] if values.ndim else 1)
    ranks = np.empty(rows.shape)
    for row, out in zip(rows, ranks, strict=True):
        out[np.argsort(row, kind="stable")] = np.arange(len(row))
    ranks = ranks / (rows.shape[1] - 1) if rows.shape[1] > 1 else ranks + 0.5
    return ranks.reshape(values.shape)


# --- what each method keeps of a task vector -------------------------------------------------------------------------


def trimmed(vectors: Vectors, density: float) -> Vectors:
    return [(field, w, tau * top(tau, density)) for field, w, tau in vectors]


def without_outliers(vectors: Vectors, density: float, outliers: float) -> Vectors:
    kept = []
    for field, w, tau in vectors:
        together = float(Decimal(repr(density)) + Decimal(repr(outliers)))
        kept.append((field, w, tau * (top(tau, together) & ~top(tau, outliers))))
    return kept


def dropped(vectors: Vectors, density: float, seed: int, tensor: str) -> Vectors:
    if density == 0:
        return [(field, w, tau * 0) for field, w, tau in vectors]
    return [(f, w, np.where(chance(seed, f, tensor, tau.shape) < density, tau / density, 0)) for f, w, tau in vectors]


def magnitude_sampled(vectors: Vectors, density: float, epsilon: float, seed: int, tensor: str) -> Vectors:
    kept = []
    for field, w, tau in vectors:
        drop = (1 - density) + epsilon / 2 - epsilon * row_ranks(tau)  # the smallest is dropped most
        stays = chance(seed, field, tensor, tau.shape) < 1 - drop
        kept.append((field, w, np.where(stays, tau / (1 - drop), 0)))
    return kept


# --- how they come together ------------------------------------------------------------------------------------------


def summed(vectors: Vectors) -> tuple[np.ndarray, np.ndarray]:
    return sum(w * tau for _, w, tau in vectors), sum(np.abs(w * tau) for _, w, tau in vectors)


def elected(vectors: Vectors, fuse: str, scale: float, exact: bool) -> tuple[np.ndarray, np.ndarray]:
    """Sign of the sum, then the mean (or sum) over those with that sign. Where float32 cannot tell the sign, the size is NaN:
    unless the weighted values are `exact` in float32, that is also where the sum is zero."""
    weighted = np.stack([w * tau for _, w, tau in vectors])
    total, size = weighted.sum(0), np.abs(weighted).sum(0)
    sign = np.where(total >= 0, 1.0, -1.0)
    agree = np.sign(weighted) == sign
    result = (weighted * agree).sum(0)
    weights = np.array([1.0 if fuse == "mean" else abs(w) for _, w, _ in vectors]).reshape(-1, *[1] * total.ndim)
    divisor = (weights * agree).sum(0)
    if fuse != "sum":
        result = np.divide(result, divisor, out=np.zeros_like(result), where=divisor > 0)
    unclear = (np.abs(total) < 1e-6 * size) & ~(exact & (total == 0))
    return scale * result, np.where(unclear, np.nan, np.abs(scale) * size)


def layer_share(layer: int | None, layers: int, bottom: int, top: int, transition: int) -> float:
    """How much of the ability a layer takes, counted out layer by layer."""
    if layer is None:
        return 0.0
    passage = [i / (transition + 1) for i in range(1, transition + 1)]
    middle = layers - bottom - top - 2 * transition
    return ([0.0] * bottom + passage + [1.0] * middle + passage[::-1] + [0.0] * top)[layer]


def added(method: dict, vectors: Vectors, tensor: str, layer: int | None, layers: int) -> tuple[np.ndarray, np.ndarray]:
    """What a method (its name and parameters, all of them) adds to one tensor of the base."""
    match method["name"]:
        case "task-arithmetic":
            return summed(vectors)
        case "layer-swap":
            a = layer_share(layer, layers, method["bottom"], method["top"], method["transition"])
            share = {"abilities": a, "languages": 1 - a}
            return summed([(f, share[f.partition(".")[0]] * w, tau) for f, w, tau in vectors])
        case "ties":
            return elected(trimmed(vectors, method["density"]), method["fuse"], method["scale"], exact=True)
        case "breadcrumbs":
            return summed(without_outliers(vectors, method["density"], method["outliers"]))
        case "dare":
            return summed(dropped(vectors, method["density"], method["seed"], tensor))
        case "dare-ties":
            kept = dropped(vectors, method["density"], method["seed"], tensor)
            return elected(kept, method["fuse"], method["scale"], exact=False)
        case "della":
            kept = magnitude_sampled(vectors, method["density"], method["epsilon"], method["seed"], tensor)
            return elected(kept, method["fuse"], method["scale"], exact=False)
    raise ValueError(method["name"])
