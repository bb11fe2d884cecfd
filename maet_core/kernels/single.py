"""The loops over float32 values, compiled: sums, inner products, thresholds and ranks of scores, chance.

One thread per call, without Python's lock, so that several run at once. Every function that reads what a user brought returns
whether all of it was finite; the caller then finds the culprit.
"""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bits import or_if_near, plus_if_above, plus_if_near

_MAGNITUDE = np.uint32(
    0x7FFFFFFF
)  # all bits of a float32 but the sign: as whole numbers they order like the magnitudes

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


@_jit
def add_weights(total, weights, base, coefficient):
    """total += coefficient · (weights − base), float32."""
    for i in range(total.size):
        total[i] += coefficient * (weights[i] - base[i])


@_jit
def add_weights_masked(total, weights, base, coefficient, mask):
    """The same where `mask` is True; elsewhere nothing is added."""
    for i in range(total.size):
        change = weights[i] - base[i]
        total[i] += coefficient * (change if mask[i] else np.float32(0))


@_jit
def add_difference(total, difference, coefficient):
    """total += coefficient · difference, float32."""
    for i in range(total.size):
        total[i] += coefficient * difference[i]


@_jit
def add_difference_masked(total, difference, coefficient, mask):
    """The same where `mask` is True; elsewhere nothing is added."""
    for i in range(total.size):
        total[i] += coefficient * (difference[i] if mask[i] else np.float32(0))


@_jit
def all_finite(bits):
    """True if no float32 value (given as bits) is NaN or infinite."""
    bad = np.uint32(0)
    for i in range(bits.size):
        bad |= np.uint32((bits[i] & np.uint32(0x7F800000)) == np.uint32(0x7F800000))
    return bad == 0


@_jit
def finish(base, total):
    """base + total in place of `total`; where nothing is added the base's own value, −0.0 included."""
    for i in range(base.size):
        added = base[i] + total[i]
        total[i] = base[i] if total[i] == np.float32(0) else added


@_jit
def count_beginnings(bits, wanted, counts, inside):
    """Adds to `counts` (65536) how many magnitudes, float32 as bits, begin with each pattern of 16 bits. Those that begin as is wanted
    (65536, bool) are put into `inside`, which has room for one more than there are; their number is the result."""
    found = 0
    for i in range(bits.size):
        magnitude = bits[i] & _MAGNITUDE
        begin = magnitude >> np.uint32(16)
        counts[begin] += 1
        inside[found] = magnitude
        found += wanted[begin]
    return found


FEW = 16
_BLOCK = 1024


@_jit
def above_and_inside(bits, low, high, inside):
    """How many magnitudes, given as bits of float32 values, lie above `high`, and how many from `low` to `high`; unless both are the same,
    these are put into `inside`, in any order, which has room for `FEW` more than there are values."""
    magnitudes = np.empty(_BLOCK, np.uint32)
    above = 0
    equal = 0
    found = 0
    for first in range(0, bits.size, _BLOCK):
        part = bits[first : first + _BLOCK]
        more = np.uint32(0)
        for i in range(part.size):
            magnitudes[i] = part[i] & _MAGNITUDE
            more = plus_if_above(more, magnitudes[i], high)
        above += more
        if low == high:
            equal += how_many_equal(magnitudes[: part.size], low)
        else:
            found = put_near(magnitudes[: part.size], low, high, inside, found)
    return above, equal if low == high else only_near(inside[:found], low, high)


@_jit
def how_many_equal(bits, wanted):
    found = np.uint32(0)
    for i in range(bits.size):
        found = plus_if_near(found, bits[i], wanted, np.uint32(0))
    return found


@_jit
def put_near(bits, low, high, inside, found):
    """Puts a few at a time into `inside`, from `found` on, if one of them lies from `low` to `high`: without a branch, which would be
    guessed wrong too often. How many are there then."""
    whole = bits.size // FEW * FEW
    span = np.uint32(high - low)
    for first in range(0, whole, FEW):
        few, there = bits[first : first + FEW], inside[found : found + FEW]
        near = np.uint32(0)
        for i in range(FEW):
            near = or_if_near(near, few[i], low, span)
        for i in range(FEW):
            there[i] = few[i]
        found += FEW if near else 0
    for i in range(whole, bits.size):
        inside[found] = bits[i]
        found += 1
    return found


@_jit
def only_near(bits, low, high):
    """Moves those from `low` to `high` to the front; their number."""
    found = 0
    for i in range(bits.size):
        value = bits[i]
        bits[found] = value
        found += (value >= low) & (value <= high)
    return found


@_jit
def largest(bits, threshold, ties, chosen):
    """Sets `chosen` where a magnitude lies above the threshold, or equals it among the first `ties` values."""
    for i in range(bits.size):
        magnitude = bits[i] & _MAGNITUDE
        chosen[i] = (magnitude > threshold) | ((magnitude == threshold) & (i < ties))


# the order of summation is free here, so that the sums run in vector registers
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def inner_product(first, second):
    """⟨first, second⟩ of two float32 or float64 vectors, accumulated in float64."""
    total = 0.0
    for i in range(first.size):
        total += np.float64(first[i]) * np.float64(second[i])
    return total


STEP = np.uint64(0x9E3779B97F4A7C15)


@_jit
def uniform(key, start, out):
    """Numbers `start`, `start` + 1 … of the SplitMix64 stream that begins at `key`, as float32 in [0, 1) with 24 bits.

    Every number depends on the key and its position alone, so that any range can be drawn by itself.
    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    for i in range(out.size):
        out[i] = np.float32(mixed(key + np.uint64(start) * STEP, i) >> np.uint64(40)) * np.float32(2.0**-24)


@_jit
def mixed(key, position):
    """The number at a position of the stream that begins at `key`, 64 bits of it."""
    state = key + np.uint64(position + 1) * STEP
    state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return state ^ (state >> np.uint64(31))


@_jit
def row_ranks(bits, width, ranks):
    """The rank of every magnitude within its row of `width`, 0 for the smallest, ties by position: float32 as bits in, int32 out.

    A radix sort of each row, digits of eight bits from the last to the first, positions beside the magnitudes.
    """
    order = np.empty(width, np.uint64)
    other = np.empty(width, np.uint64)
    counts = np.empty((4, 256), np.uint32)
    one, byte = np.uint32(1), np.uint32(255)
    for first in range(0, bits.size, width):
        row = bits[first : first + width]
        counts[:] = np.uint32(0)
        for i in range(width):
            magnitude = row[i] & _MAGNITUDE
            counts[0, magnitude & byte] += one
            counts[1, (magnitude >> np.uint32(8)) & byte] += one
            counts[2, (magnitude >> np.uint32(16)) & byte] += one
            counts[3, magnitude >> np.uint32(24)] += one
            order[i] = (np.uint64(magnitude) << np.uint64(32)) | np.uint64(i)
        for digit in range(4):
            places = counts[digit]
            shift = np.uint64(32 + 8 * digit)
            if places[(order[0] >> shift) & np.uint64(255)] == width:
                continue  # all have the same
            position = np.uint32(0)
            for value in range(256):
                position, places[value] = position + places[value], position
            for i in range(width):
                value = (order[i] >> shift) & np.uint64(255)
                other[places[value]] = order[i]
                places[value] += one
            order, other = other, order
        found = ranks[first : first + width]
        for i in range(width):
            found[order[i] & np.uint64(0xFFFFFFFF)] = i


@_jit
def elect(weighted, sizes, total):
    """`total` becomes the sum of those weighted vectors (rows) whose sign is that of the sum of all, + where it is zero, divided
    by the sum of their `sizes`; float32. No size at all: by nothing."""
    upwards = np.empty(total.size, np.bool_)
    divisor = np.zeros(total.size, np.float32)
    # one vector after the other, without branches, so that the loops run in vector registers
    total[:] = weighted[0]
    for k in range(1, weighted.shape[0]):
        for i in range(total.size):
            total[i] += weighted[k, i]
    for i in range(total.size):
        upwards[i] = total[i] >= np.float32(0)
        total[i] = np.float32(0)
    for k in range(weighted.shape[0]):
        size = sizes[k] if sizes.size else np.float32(0)
        for i in range(total.size):
            value = weighted[k, i]
            agrees = ((value > np.float32(0)) & upwards[i]) | ((value < np.float32(0)) & (not upwards[i]))
            total[i] += value if agrees else np.float32(0)
            divisor[i] += size if agrees else np.float32(0)
    for i in range(total.size):
        total[i] = total[i] / (divisor[i] if divisor[i] != np.float32(0) else np.float32(1))
