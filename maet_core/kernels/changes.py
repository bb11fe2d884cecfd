"""The loops over changes θ_k − θ_o of bf16 weights, compiled: the changes themselves, and which of them are large.

What is only counted never lies in memory as float32. Values are taken in pairs, as words of 32 bits.
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
    plus_if_near,
    second_of,
    widened,
)
from maet_core.kernels.single import only_near, put_near

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")

_BLOCK = 512  # pairs of values of which what is kept stays in the first-level cache
_COUNTED = 1 << 20  # pairs whose number 32 bits hold


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
    if low == high:
        return _all_above_and_equal(addresses, size, low)
    magnitudes = np.empty(2 * _BLOCK, np.uint32)
    above = 0
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
        found = put_near(magnitudes[: 2 * length], low, high, inside, found)
    return above, only_near(inside[:found], low, high), largest < 0x7F800000


@_jit
def _all_above_and_equal(addresses, size, wanted):
    above = 0
    equal = 0
    finite = True
    for start in range(0, size // 2, _COUNTED):
        length = min(_COUNTED, size // 2 - start)
        ours, theirs = pairs_at(addresses[0], start, length), pairs_at(addresses[1], start, length)
        more, same, good = above_and_equal(ours, theirs, wanted)
        above += more
        equal += same
        finite &= good
    return above, equal, finite


@_jit
def above_and_equal(base, weights, wanted):
    """How many magnitudes of changes, pairs of bf16 values of which 32 bits hold the number, are above a value, how many equal it, all as
    bits, and whether all are finite."""
    nothing = np.uint32(0)
    more = np.uint32(0)
    same = np.uint32(0)
    largest = np.uint32(0)
    for i in range(base.size):
        first = magnitude_of(first_of(weights[i]) - first_of(base[i]))
        second = magnitude_of(second_of(weights[i]) - second_of(base[i]))
        more = plus_if_above(plus_if_above(more, first, wanted), second, wanted)
        same = plus_if_near(plus_if_near(same, first, wanted, nothing), second, wanted, nothing)
        largest = max(largest, max(first, second))
    return more, same, largest < 0x7F800000
