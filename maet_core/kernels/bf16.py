"""The loops over bf16 weights, compiled: bit casts instead of conversions, float32 sums, one rounding.

One thread per call, without Python's lock, so that several run at once. Every function that reads what a user brought returns
whether all of it was finite; the caller then finds the culprit.
"""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bits import (
    differs,
    first_of,
    larger_magnitude,
    larger_of_pair,
    magnitude_of,
    narrowed,
    pairs_at,
    pointer,
    second_of,
    sum16,
    summed,
    widened,
    within,
)

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")

_BLOCK = 2048  # values whose float32 sums stay in the first-level cache


@_jit
def merge_bf16(addresses, coefficients, mask_of, masks, out):
    """θ_o + Σ_k c_k · (θ_k − θ_o), bf16 bits in and out, float32 between, rounded once; the order of additions is that of k.

    The bits of θ_o begin at addresses[0], those of θ_1, θ_2 … at the next ones, and are as many as there is room in `out`; c_1 is
    coefficients[0]. Where mask_of[k] is no negative number, nothing is added outside of the mask of that row. Returns whether all
    results are finite; they are not if any value of an input is not, masked or not.
    """
    largest = _merge_pairs(addresses, coefficients, mask_of, masks, out[: out.size // 2 * 2].view(np.uint32))
    if out.size % 2:
        largest = max(largest, _merge_last(addresses, coefficients, mask_of, masks, out))
    return largest < 0x7F800000


@_jit
def _merge_pairs(addresses, coefficients, mask_of, masks, out):
    """The largest magnitude of the results, as the bits of a float32 value."""
    count = coefficients.size
    masked = 0  # how many in front share a mask
    while masked < min(2, count) and mask_of[masked] >= 0 and mask_of[masked] == mask_of[0]:
        masked += 1
    if masked != 1 and count - masked <= 4 and (masked == count or mask_of[masked:].max() < 0):
        four, weighted = _four(addresses, coefficients, masked, 0, out.size)
        base = pairs_at(addresses[0], 0, out.size)
        if masked == 0:
            return _merge_four(base, four, weighted, out)
        two = (pairs_at(addresses[1], 0, out.size), pairs_at(addresses[2], 0, out.size))
        mask = masks[mask_of[0], : 2 * out.size].view(np.uint16)
        return _merge_two_and_four(base, two, coefficients, mask, four, weighted, out)
    return _merge_any(addresses, coefficients, mask_of, masks, out)


@_jit
def _merge_any(addresses, coefficients, mask_of, masks, out):
    """One addend, or four without a mask, after the other, block by block."""
    first_totals = np.empty(_BLOCK // 2, np.float32)
    second_totals = np.empty(_BLOCK // 2, np.float32)
    count = coefficients.size
    largest = np.uint32(0)
    for start in range(0, out.size, _BLOCK // 2):
        size = min(_BLOCK // 2, out.size - start)
        base = pairs_at(addresses[0], start, size)
        first_total, second_total = first_totals[:size], second_totals[:size]
        first_total[:] = np.float32(0)
        second_total[:] = np.float32(0)
        k = 0
        while k < count:
            if mask_of[k] >= 0:
                mask = masks[mask_of[k], 2 * start : 2 * (start + size)].view(np.uint16)
                weights = pairs_at(addresses[k + 1], start, size)
                _add_masked(first_total, second_total, base, weights, coefficients[k], mask)
                k += 1
                continue
            group = 1
            while group < 4 and k + group < count and mask_of[k + group] < 0:
                group += 1
            four, weighted = _four(addresses[: k + group + 1], coefficients[: k + group], k, start, size)
            _add_four(first_total, second_total, base, four, weighted)
            k += group
        largest = max(largest, _finish(first_total, second_total, base, out[start : start + size]))
    return largest


@_jit
def _four(addresses, coefficients, k, start, size):
    """Four models from the k-th on, and their coefficients. Those that are missing are the base itself, of whose zero difference
    nothing comes."""
    left = coefficients.size - k
    four = (
        pairs_at(addresses[k + 1 if left > 0 else 0], start, size),
        pairs_at(addresses[k + 2 if left > 1 else 0], start, size),
        pairs_at(addresses[k + 3 if left > 2 else 0], start, size),
        pairs_at(addresses[k + 4 if left > 3 else 0], start, size),
    )
    nothing = np.float32(0)
    weighted = (
        coefficients[k] if left > 0 else nothing,
        coefficients[k + 1] if left > 1 else nothing,
        coefficients[k + 2] if left > 2 else nothing,
        coefficients[k + 3] if left > 3 else nothing,
    )
    return four, weighted


@_jit
def _plus_four(total, ours, a, b, c, d, weighted):
    p, q, r, s = weighted
    total = total + p * (a - ours)
    total = total + q * (b - ours)
    total = total + r * (c - ours)
    return total + s * (d - ours)


# In one loop whatever can be, so that neither the memory nor the processor waits for the other.
@_jit
def _merge_four(base, four, weighted, out):
    a, b, c, d = four
    zero = np.float32(0)
    largest = np.uint32(0)
    for i in range(out.size):
        first = _plus_four(
            zero, first_of(base[i]), first_of(a[i]), first_of(b[i]), first_of(c[i]), first_of(d[i]), weighted
        )
        second = _plus_four(
            zero, second_of(base[i]), second_of(a[i]), second_of(b[i]), second_of(c[i]), second_of(d[i]), weighted
        )
        pair = summed(base[i], first, second)
        out[i] = pair
        largest = larger_of_pair(largest, pair)
    return largest


@_jit
def _merge_two_and_four(base, two, coefficients, mask, four, weighted, out):
    """Two within a mask, then four."""
    a, b, c, d = four
    ability, source = two
    x, y = coefficients[0], coefficients[1]
    largest = np.uint32(0)
    for i in range(out.size):
        ours, chosen = first_of(base[i]), mask[i] & np.uint16(0xFF)
        first = x * within(chosen, first_of(ability[i]) - ours)
        first = first + y * within(chosen, first_of(source[i]) - ours)
        first = _plus_four(first, ours, first_of(a[i]), first_of(b[i]), first_of(c[i]), first_of(d[i]), weighted)
        ours, chosen = second_of(base[i]), mask[i] & np.uint16(0xFF00)
        second = x * within(chosen, second_of(ability[i]) - ours)
        second = second + y * within(chosen, second_of(source[i]) - ours)
        second = _plus_four(second, ours, second_of(a[i]), second_of(b[i]), second_of(c[i]), second_of(d[i]), weighted)
        pair = summed(base[i], first, second)
        out[i] = pair
        largest = larger_of_pair(largest, pair)
    return largest


@_jit
def merge_limited_bf16(addresses, coefficients, limits, out):
    """What `merge_bf16` returns, where one or two pairs in front have a limit each: nothing is added of a pair where the magnitude of its
    first change, as bits of a float32 value, is not above the limit. Up to four without a limit follow; `out` has an even size."""
    out = out.view(np.uint32)
    pairs = limits.size
    base = pairs_at(addresses[0], 0, out.size)
    one = (pairs_at(addresses[1], 0, out.size), pairs_at(addresses[2], 0, out.size))
    four, weighted = _four(addresses, coefficients, 2 * pairs, 0, out.size)
    if pairs == 1:
        return _merge_limited(base, one, None, coefficients, limits, four, weighted, out) < 0x7F800000
    two = (pairs_at(addresses[3], 0, out.size), pairs_at(addresses[4], 0, out.size))
    return _merge_limited(base, one, two, coefficients, limits, four, weighted, out) < 0x7F800000


@_jit
def _merge_limited(base, one, two, coefficients, limits, four, weighted, out):
    a, b, c, d = four
    ability, source = one
    x, y, limit = coefficients[0], coefficients[1], limits[0]
    if two is not None:
        other, its_source = two
        z, w, its_limit = coefficients[2], coefficients[3], limits[1]
    largest = np.uint32(0)
    for i in range(out.size):
        ours = first_of(base[i])
        first = _above_limit(np.float32(0), first_of(ability[i]) - ours, first_of(source[i]) - ours, x, y, limit)
        if two is not None:
            first = _above_limit(first, first_of(other[i]) - ours, first_of(its_source[i]) - ours, z, w, its_limit)
        first = _plus_four(first, ours, first_of(a[i]), first_of(b[i]), first_of(c[i]), first_of(d[i]), weighted)
        ours = second_of(base[i])
        second = _above_limit(np.float32(0), second_of(ability[i]) - ours, second_of(source[i]) - ours, x, y, limit)
        if two is not None:
            second = _above_limit(second, second_of(other[i]) - ours, second_of(its_source[i]) - ours, z, w, its_limit)
        second = _plus_four(second, ours, second_of(a[i]), second_of(b[i]), second_of(c[i]), second_of(d[i]), weighted)
        pair = summed(base[i], first, second)
        out[i] = pair
        largest = larger_of_pair(largest, pair)
    return largest


@_jit
def _above_limit(total, change, of_source, coefficient, of_its, limit):
    chosen = magnitude_of(change) > limit
    total = total + coefficient * within(chosen, change)
    return total + of_its * within(chosen, of_source)


@_jit
def _add_masked(first_total, second_total, base, weights, coefficient, mask):
    for i in range(base.size):
        first, second = first_of(weights[i]) - first_of(base[i]), second_of(weights[i]) - second_of(base[i])
        first_total[i] += coefficient * within(mask[i] & np.uint16(0xFF), first)
        second_total[i] += coefficient * within(mask[i] & np.uint16(0xFF00), second)


@_jit
def _add_four(first_total, second_total, base, four, weighted):
    a, b, c, d = four
    for i in range(base.size):
        first_total[i] = _plus_four(
            first_total[i], first_of(base[i]), first_of(a[i]), first_of(b[i]), first_of(c[i]), first_of(d[i]), weighted
        )
        second_total[i] = _plus_four(
            second_total[i],
            second_of(base[i]),
            second_of(a[i]),
            second_of(b[i]),
            second_of(c[i]),
            second_of(d[i]),
            weighted,
        )


@_jit
def _finish(first_total, second_total, base, out):
    largest = np.uint32(0)
    for i in range(out.size):
        pair = summed(base[i], first_total[i], second_total[i])
        out[i] = pair
        largest = larger_of_pair(largest, pair)
    return largest


@_jit
def _merge_last(addresses, coefficients, mask_of, masks, out):
    """The last value of an odd number of them."""
    i = out.size - 1
    base = numba.carray(pointer(addresses[0], np.uint16(0)), out.size)[i]
    total = np.float32(0)
    for k in range(coefficients.size):
        weights = numba.carray(pointer(addresses[k + 1], np.uint16(0)), out.size)[i]
        change = widened(weights) - widened(base)
        if mask_of[k] >= 0 and not masks[mask_of[k], i]:
            change *= np.float32(0)
        total += coefficients[k] * change
    out[i] = base if total == np.float32(0) else narrowed(widened(base) + total)
    return np.uint32(out[i] & np.uint16(0x7FFF)) << np.uint32(16)


@_jit
def compare_bf16(values, base):
    """How many bf16 values (as bits) differ from those of the base, and the largest magnitude (0x7F80 and more: not finite)."""
    changed = 0
    largest = np.uint16(0)
    for first in range(0, values.size, _BLOCK):
        length = min(_BLOCK, values.size - first)
        # slices, so that no index can be negative, and a count as narrow as the bits: so the loop runs in vector registers
        ours, theirs = values[first : first + length], base[first : first + length]
        differing = np.uint16(0)
        for i in range(length):
            differing = sum16(differing, differs(ours[i], theirs[i]))
            largest = larger_magnitude(largest, ours[i])
        changed += differing
    return changed, largest


@_jit
def widen_bf16(bits, out_bits):
    """bf16 bits to the bits of the same float32 values; True if all are finite."""
    bad = np.uint32(0)
    for i in range(bits.size):
        out_bits[i] = np.uint32(bits[i]) << np.uint32(16)
        bad |= np.uint32((bits[i] & np.uint16(0x7F80)) == np.uint16(0x7F80))
    return bad == 0


@_jit
def narrow_bf16(values, out):
    """float32 values rounded to the bits of the nearest bf16, ties to even."""
    for i in range(out.size):
        out[i] = narrowed(values[i])
