"""What the methods that look at single values do with bf16 weights, compiled: changes, which of them stay, election of signs, sum and
rounding, block by block in the first-level cache."""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bits import (
    differs,
    larger_float,
    larger_magnitude,
    magnitude_of,
    narrowed,
    pointer,
    sum16,
    widened,
)
from maet_core.kernels.single import STEP, mixed

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")

_BLOCK = 1024
_NOTHING = np.float32(0)


@_jit
def merge_kept(base, vectors, weights, limits, ties, chances, keys, ranks, width, elects, sizes, scale, start, out):
    """θ_o + λ·Σ_k w_k·τ̂_k, bf16 bits in and out, float32 between, rounded once; where nothing is added, the base. τ̂_k keeps some values
    of τ_k = θ_k − θ_o; with `elects` the sum is that of `elect`, with `sizes` as there, and λ is `scale`. The first value is the
    `start`-th of its tensor.

    `vectors` [K, 2]: where values begin in memory, and 1 if these are τ_k in float32, 0 if the bits of θ_k.
    What is kept, by size: values whose magnitude's bits are above limits[k, 0], or equal to it before the position ties[k, 0] in the
    tensor; without those that are above limits[k, 1] in the same way.
    By chance, if `chances` (two numbers) are given: the n-th value stays if the n-th number of the stream keys[k] (see `uniform`) is below
    chances[0], multiplied by chances[1]; or, if `ranks` [K, values] are given (of a value in its row of `width`, from 0), below the
    chance c = chances[0] + chances[1] · rank / (width − 1), divided by c.

    Returns how many values differ from the base, and whether all changes and results are finite.
    """
    kept = np.empty((weights.size, _BLOCK), np.float32)
    ours, total = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    sign, divisor = np.empty(_BLOCK, np.float32), np.empty(_BLOCK, np.float32)
    changed = 0
    largest, largest_change = np.uint16(0), np.uint32(0)
    for first in range(0, out.size, _BLOCK):
        size = min(_BLOCK, out.size - first)
        bits, theirs, sums = base[first : first + size], ours[:size], total[:size]
        for i in range(size):
            theirs[i] = widened(bits[i])
        sums[:] = _NOTHING
        for k in range(weights.size):
            row = kept[k, :size]
            largest_change = max(largest_change, _change(vectors[k, 0], vectors[k, 1], first, theirs, row))
            if chances.size:
                key = keys[k] + np.uint64(start + first) * STEP
                if ranks.size:
                    _by_ranked_chance(row, key, chances[0], chances[1], ranks[k, first : first + size], width)
                else:
                    _by_chance(row, key, chances[0], chances[1])
            else:
                if limits[k, 1] < np.uint32(0x7F800000):
                    _without(row, limits[k, 1], ties[k, 1] - start - first)
                _above(row, limits[k, 0], ties[k, 0] - start - first)
            weight = weights[k]
            for i in range(size):
                row[i] *= weight
                sums[i] += row[i]
        if elects:
            _elect(kept, sizes, sums, sign[:size], divisor[:size])
        result = out[first : first + size]
        differing = np.uint16(0)
        for i in range(size):
            added = scale * sums[i]
            rounded = narrowed(theirs[i] + added)
            result[i] = bits[i] if added == _NOTHING else rounded
            differing = sum16(differing, differs(result[i], bits[i]))
            largest = larger_magnitude(largest, result[i])
        changed += differing
    return changed, (largest < 0x7F80) & (largest_change < 0x7F800000)


@_jit
def _change(address, is_difference, first, ours, row):
    """τ_k in `row`; the largest magnitude, as bits."""
    largest = np.uint32(0)
    if is_difference:
        values = numba.carray(pointer(address + np.uint64(4 * first), _NOTHING), row.size)
        for i in range(row.size):
            row[i] = values[i]
            largest = larger_float(largest, values[i])
        return largest
    bits = numba.carray(pointer(address + np.uint64(2 * first), np.uint16(0)), row.size)
    for i in range(row.size):
        change = widened(bits[i]) - ours[i]
        row[i] = change
        largest = larger_float(largest, change)
    return largest


@_jit
def _above(row, limit, ties):
    """Zero, but for what is above the limit, or equals it among the first `ties`."""
    cut = min(max(ties, 0), row.size)
    before, behind = row[:cut], row[cut:]
    for i in range(before.size):
        before[i] = before[i] if magnitude_of(before[i]) >= limit else _NOTHING
    for i in range(behind.size):
        behind[i] = behind[i] if magnitude_of(behind[i]) > limit else _NOTHING


@_jit
def _without(row, limit, ties):
    cut = min(max(ties, 0), row.size)
    before, behind = row[:cut], row[cut:]
    for i in range(before.size):
        before[i] = _NOTHING if magnitude_of(before[i]) >= limit else before[i]
    for i in range(behind.size):
        behind[i] = _NOTHING if magnitude_of(behind[i]) > limit else behind[i]


@_jit
def _by_chance(row, key, chance, inverse):
    below = np.uint64(np.ceil(np.float64(chance) * 2.0**24))  # the same as to compare the numbers themselves
    for i in range(row.size):
        stays = (mixed(key, i) >> np.uint64(40)) < below
        row[i] = row[i] * inverse if stays else _NOTHING


@_jit
def _by_ranked_chance(row, key, lowest, epsilon, ranks, width):
    last = np.float32(width - 1)
    for i in range(row.size):
        share = np.float32(ranks[i]) / last if width > 1 else np.float32(0.5)
        chance = lowest + epsilon * share
        number = np.float32(mixed(key, i) >> np.uint64(40)) * np.float32(2.0**-24)
        row[i] = row[i] / chance if number < chance else _NOTHING


@_jit
def _elect(weighted, sizes, total, sign, divisor):
    """`single.elect` where the sum of all is in `total` already. Whether a value has the sign is asked by a product, which keeps the loops
    in vector registers."""
    for i in range(total.size):
        sign[i] = np.float32(1) if total[i] >= _NOTHING else np.float32(-1)
        total[i] = _NOTHING
    if sizes.size == 0:
        for k in range(weighted.shape[0]):
            row = weighted[k, : total.size]
            for i in range(total.size):
                total[i] += row[i] if row[i] * sign[i] > _NOTHING else _NOTHING
        return
    divisor[:] = _NOTHING
    for k in range(weighted.shape[0]):
        row, size = weighted[k, : total.size], sizes[k]
        for i in range(total.size):
            agrees = row[i] * sign[i] > _NOTHING
            total[i] += row[i] if agrees else _NOTHING
            divisor[i] += size if agrees else _NOTHING
    for i in range(total.size):
        total[i] = total[i] / (divisor[i] if divisor[i] != _NOTHING else np.float32(1))
