"""The loops over changes θ_k − θ_o of bf16 weights, compiled: the changes themselves, which are large, and inner products of them.

What is only counted or added up never lies in memory as float32. Values are taken in pairs, as words of 32 bits; whatever can be is in
one loop, so that neither the memory nor the processor waits for the other.
"""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bits import (
    both,
    first_of,
    larger_float,
    larger_of_pair,
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
    with the last two; those within the first two, too, if its sixth column is not 0; and, with these, those within the last two if its
    seventh is not. Its fifth column says which values of the first two count: all (−1); where the magnitude of the change of `a`, as
    bits, is above the turn's limit (−2); or those in a row of `masks`. An input that is not finite shows in the result.
    """
    pairs = size // 2
    several = turns.shape[0] > 1
    block = _PAIRS_OF_A_TURN if several else max(pairs, 1)
    above = np.empty(block, np.uint16)
    places = np.empty(block // 2 + 1, np.uint32)
    few, few_above = np.empty((5, block // 2 + 1), np.uint64), np.empty(block // 2 + 1, np.uint32)
    for start in range(0, pairs, block):
        length = min(block, pairs - start)
        base = pairs_at(addresses[0], start, length)
        mask = above[:length]
        found = length
        for turn in range(turns.shape[0]):
            a, b, c, d, rule = turns[turn, 0], turns[turn, 1], turns[turn, 2], turns[turn, 3], turns[turn, 4]
            own, pair = turns[turn, 5], turns[turn, 6]
            four = (
                pairs_at(addresses[a], start, length),
                pairs_at(addresses[b], start, length),
                pairs_at(addresses[c], start, length),
                pairs_at(addresses[d], start, length),
            )
            if rule == -1:
                _add_all(gram, a, b, c, d, _products_of_four(base, four, None, own, pair))
                continue
            if turn == 0 or turns[turn - 1, 0] != a or turns[turn - 1, 4] != rule or limits[turn - 1] != limits[turn]:
                if rule == -2:
                    _above(base, four[0], limits[turn], above[:length])
                    mask = above[:length]
                else:
                    mask = masks[rule, 2 * start : 2 * (start + length)].view(np.uint16)
                found = _places_of_two_pairs(mask, places)
                if not (_all_finite(four[0]) and _all_finite(four[1])):
                    gram[a - 1, a - 1] = np.nan
            if pair or length % 2 or 4 * found > length:
                _add_all(gram, a, b, c, d, _products_of_four(base, four, mask, own, pair))
                continue
            _gather(base, four, mask, places[:found], few, few_above)
            found_four = (
                few[1, :found].view(np.uint32),
                few[2, :found].view(np.uint32),
                few[3, :found].view(np.uint32),
                few[4, :found].view(np.uint32),
            )
            at_places = few[0, :found].view(np.uint32), found_four, few_above[:found].view(np.uint16)
            _add_all(gram, a, b, c, d, _products_of_four(*at_places, own, False))


@_jit
def _add_all(gram, a, b, c, d, products):
    aa, ba, bb, ca, cb, da, db, cc, dc, dd = products
    _add(gram, a, a, aa)
    _add(gram, b, a, ba)
    _add(gram, b, b, bb)
    _add(gram, c, a, ca)
    _add(gram, c, b, cb)
    _add(gram, d, a, da)
    _add(gram, d, b, db)
    _add(gram, c, c, cc)
    _add(gram, d, c, dc)
    _add(gram, d, d, dd)


@_jit
def _add(gram, one, other, product):
    if one > 0 and other > 0:
        gram[max(one, other) - 1, min(one, other) - 1] += product


@_jit
def _places_of_two_pairs(mask, places):
    """How many of each two pairs in a row have a value that counts, and which: key neurons are few, and mostly the rest can be left out."""
    found = np.uint32(0)
    two = mask[: mask.size // 2 * 2].view(np.uint32)
    for i in range(two.size):
        places[found] = i
        found = plus_if_above(found, two[i], np.uint32(0))
    return found


@_jit
def _gather(base, four, mask, places, few, few_above):
    a, b, c, d = four
    base, a, b = base.view(np.uint64), a.view(np.uint64), b.view(np.uint64)
    c, d, mask = c.view(np.uint64), d.view(np.uint64), mask.view(np.uint32)
    for i in range(places.size):
        place = places[i]
        few[0, i], few[1, i], few[2, i], few[3, i], few[4, i] = base[place], a[place], b[place], c[place], d[place]
        few_above[i] = mask[place]


@_jit
def _all_finite(pairs):
    largest = np.uint32(0)
    for i in range(pairs.size):
        largest = larger_of_pair(largest, pairs[i])
    return largest < 0x7F800000


@_jit
def _above(base, weights, limit, mask):
    """Where magnitudes of changes, as bits, are above a limit: a byte a value, of a pair together."""
    for i in range(base.size):
        first = magnitude_of(first_of(weights[i]) - first_of(base[i]))
        second = magnitude_of(second_of(weights[i]) - second_of(base[i]))
        mask[i] = both(first, second, limit)


@_free_order
def _products_of_four(base, four, mask, own, pair):
    """The products within the first two (0 without `own`), of these and the last two, and within the last two (0 without `pair`)."""
    if own and pair:
        return _products(base, four, mask, True, True)
    if own:
        return _products(base, four, mask, True, None)
    return _products(base, four, mask, None, None)


# Each of its kinds is compiled by itself: what a turn has no use for costs a fifth to a half of its time.
@_free_order
def _products(base, four, mask, own, pair):
    a, b, c, d = four
    aa = ba = bb = ca = cb = da = db = cc = dc = dd = 0.0
    for i in range(base.size):
        ours = first_of(base[i])
        x, y = first_of(a[i]) - ours, first_of(b[i]) - ours
        if mask is not None:
            chosen = mask[i] & np.uint16(0xFF)
            x, y = within(chosen, x), within(chosen, y)
        x, y = np.float64(x), np.float64(y)
        z, w = np.float64(first_of(c[i]) - ours), np.float64(first_of(d[i]) - ours)
        ca, cb, da, db = ca + z * x, cb + z * y, da + w * x, db + w * y
        if own is not None:
            aa, ba, bb = aa + x * x, ba + y * x, bb + y * y
        if pair is not None:
            cc, dc, dd = cc + z * z, dc + w * z, dd + w * w
        ours = second_of(base[i])
        x, y = second_of(a[i]) - ours, second_of(b[i]) - ours
        if mask is not None:
            chosen = mask[i] & np.uint16(0xFF00)
            x, y = within(chosen, x), within(chosen, y)
        x, y = np.float64(x), np.float64(y)
        z, w = np.float64(second_of(c[i]) - ours), np.float64(second_of(d[i]) - ours)
        ca, cb, da, db = ca + z * x, cb + z * y, da + w * x, db + w * y
        if own is not None:
            aa, ba, bb = aa + x * x, ba + y * x, bb + y * y
        if pair is not None:
            cc, dc, dd = cc + z * z, dc + w * z, dd + w * w
    return aa, ba, bb, ca, cb, da, db, cc, dc, dd
