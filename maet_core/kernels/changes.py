"""The loops over changes θ_k − θ_o of bf16 weights, compiled: the changes themselves, which are large, and inner products of them.

What is only counted or added up never lies in memory as float32. Values are taken in pairs, as words of 32 bits; whatever can be is in
one loop, so that neither the memory nor the processor waits for the other.
"""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bits import (
    first_of,
    larger_float,
    magnitude_of,
    pairs_at,
    plus_if_above,
    second_of,
    widened,
    within,
)
from maet_core.kernels.single import how_many_equal, only_near, put_near

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")
# the order of summation is free here, so that the sums run in vector registers
_free_order = numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})

_BLOCK = 512  # pairs of values of which what is kept stays in the first-level cache
_PAIRS_OF_A_TURN = 1 << 13  # so many of each of a dozen models stay in the second-level cache


@_jit
def change_bf16(base_bits, weight_bits, out):
    """θ_k − θ_o as float32, from bf16 bits. Returns whether all of it is finite."""
    largest = np.uint32(0)
    for i in range(out.size):
        change = widened(weight_bits[i]) - widened(base_bits[i])
        out[i] = change
        largest = larger_float(largest, change)
    return largest < 0x7F800000


@_jit
def minus_base_bf16(weight_bits, base, out):
    """The same with a base of float32 values."""
    largest = np.uint32(0)
    for i in range(out.size):
        change = widened(weight_bits[i]) - base[i]
        out[i] = change
        largest = larger_float(largest, change)
    return largest < 0x7F800000


@_jit
def changes_near(addresses, size, low, high, inside):
    """How many magnitudes of θ_k − θ_o, as bits of float32 values, lie above `high`, and how many from `low` to `high`; unless both are
    the same, these are put into `inside`, in any order, which has room for `FEW` more than there are values. The third result is whether
    all are finite.

    The bits of θ_o begin at addresses[0], those of θ_k at addresses[1]; `size` is even.
    """
    magnitudes = np.empty(2 * _BLOCK, np.uint32)
    above = 0
    equal = 0
    found = 0
    largest = np.uint32(0)
    for start in range(0, size // 2, _BLOCK):
        length = min(_BLOCK, size // 2 - start)
        ours, theirs = pairs_at(addresses[0], start, length), pairs_at(addresses[1], start, length)
        one, two = magnitudes[:length], magnitudes[length : 2 * length]
        more = np.uint32(0)
        for i in range(length):
            first = magnitude_of(first_of(theirs[i]) - first_of(ours[i]))
            second = magnitude_of(second_of(theirs[i]) - second_of(ours[i]))
            one[i], two[i] = first, second
            more = plus_if_above(plus_if_above(more, first, high), second, high)
            largest = max(largest, max(first, second))
        above += more
        if low == high:
            equal += how_many_equal(magnitudes[: 2 * length], low)
        else:
            found = put_near(magnitudes[: 2 * length], low, high, inside, found)
    return above, equal if low == high else only_near(inside[:found], low, high), largest < 0x7F800000


@_free_order
def gram_bf16(addresses, size, turns, limits, masks, gram):
    """Adds inner products of changes θ_k − θ_o to `gram` (below the diagonal and on it): bf16 values, an even number of them; sums in
    float64.

    The bits of θ_o begin at addresses[0], those of θ_1 … at the next ones, of which the gram has a row and a column each. Every turn
    takes four of them, `a`, `b`, `c` and `d` in its first four columns (0 where there is none), and adds the products of the first two
    with the last two, those within the first two if its sixth column is not 0, and those within the last two if its seventh is not.
    Its fifth column says which values of the first two count: all (−1); where the magnitude of the change of `a`, as bits, is above
    the turn's limit (−2); or those in a row of `masks`. What is not finite shows in the result.
    """
    pairs = size // 2
    several = turns.shape[0] > 1
    for start in range(0, pairs, _PAIRS_OF_A_TURN if several else max(pairs, 1)):
        length = min(_PAIRS_OF_A_TURN, pairs - start) if several else pairs
        base = pairs_at(addresses[0], start, length)
        for turn in range(turns.shape[0]):
            a, b, c, d, rule = turns[turn, 0], turns[turn, 1], turns[turn, 2], turns[turn, 3], turns[turn, 4]
            four = (
                pairs_at(addresses[a], start, length),
                pairs_at(addresses[b], start, length),
                pairs_at(addresses[c], start, length),
                pairs_at(addresses[d], start, length),
            )
            if rule == -1:
                found = _products_of_four(base, four, None, None)
            elif rule == -2:
                found = _products_of_four(base, four, limits[turn], None)
            else:
                mask = masks[rule, 2 * start : 2 * (start + length)].view(np.uint16)
                found = _products_of_four(base, four, None, mask)
            aa, ba, bb, ca, cb, da, db, cc, dc, dd = found
            if turns[turn, 5]:
                _add(gram, a, a, aa)
                _add(gram, b, a, ba)
                _add(gram, b, b, bb)
            _add(gram, c, a, ca)
            _add(gram, c, b, cb)
            _add(gram, d, a, da)
            _add(gram, d, b, db)
            if turns[turn, 6]:
                _add(gram, c, c, cc)
                _add(gram, d, c, dc)
                _add(gram, d, d, dd)


@_jit
def _add(gram, one, other, product):
    if one > 0 and other > 0:
        gram[max(one, other) - 1, min(one, other) - 1] += product


@_free_order
def _products_of_four(base, four, limit, mask):
    a, b, c, d = four
    aa = ba = bb = ca = cb = da = db = cc = dc = dd = 0.0
    for i in range(base.size):
        x, y, z, w = _changes(
            first_of(base[i]), first_of(a[i]), first_of(b[i]), first_of(c[i]), first_of(d[i]), limit, mask, i, 0xFF
        )
        aa, ba, bb = aa + x * x, ba + y * x, bb + y * y
        ca, cb, da, db = ca + z * x, cb + z * y, da + w * x, db + w * y
        cc, dc, dd = cc + z * z, dc + w * z, dd + w * w
        x, y, z, w = _changes(
            second_of(base[i]),
            second_of(a[i]),
            second_of(b[i]),
            second_of(c[i]),
            second_of(d[i]),
            limit,
            mask,
            i,
            0xFF00,
        )
        aa, ba, bb = aa + x * x, ba + y * x, bb + y * y
        ca, cb, da, db = ca + z * x, cb + z * y, da + w * x, db + w * y
        cc, dc, dd = cc + z * z, dc + w * z, dd + w * w
    return aa, ba, bb, ca, cb, da, db, cc, dc, dd


@_free_order
def _changes(ours, a, b, c, d, limit, mask, i, half):
    """Four changes in float64, the first two of them 0 (or NaN, if they are not finite) where the limit or the half of the i-th pair of the
    mask says so."""
    x, y = a - ours, b - ours
    if limit is not None:
        above = magnitude_of(x) > limit
        x, y = within(above, x), within(above, y)
    if mask is not None:
        chosen = mask[i] & np.uint16(half)
        x, y = within(chosen, x), within(chosen, y)
    return np.float64(x), np.float64(y), np.float64(c - ours), np.float64(d - ours)
