"""The loops over single weights, compiled, on chunks that stay in the processor's cache: bf16 by bit casts, float32 sums, one
rounding; counting scores; inner products.

One thread per call, without Python's lock, so that several run at once. Every function that reads what a user brought returns
whether all of it was finite; the caller then finds the culprit.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

# The base, one model and a sum of this many float32 fit the second-level cache; smaller chunks would spend more on calls than they save.
CHUNK_ELEMENTS = 1 << 17

_MAGNITUDE = np.uint32(
    0x7FFFFFFF
)  # all bits of a float32 but the sign: as whole numbers they order like the magnitudes

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")


_BLOCK = 2048  # float32 values of a few arrays that stay in the first-level cache


# numba makes whole numbers 64 bits wide wherever it calculates, and loops over them slow; these stay as narrow as they are
@intrinsic
def _widened(typing_context, bits):
    """The float32 value of bf16 bits."""

    def generate(context, builder, signature, arguments):
        wide = builder.shl(builder.zext(arguments[0], ir.IntType(32)), ir.Constant(ir.IntType(32), 16))
        return builder.bitcast(wide, ir.FloatType())

    return types.float32(types.uint16), generate


@intrinsic
def _narrowed(typing_context, value):
    """The bits of the bf16 value nearest to a float32 value, ties to even."""

    def generate(context, builder, signature, arguments):
        wide = ir.IntType(32)
        bits = builder.bitcast(arguments[0], wide)
        odd = builder.and_(builder.lshr(bits, ir.Constant(wide, 16)), ir.Constant(wide, 1))
        moved = builder.add(builder.add(bits, ir.Constant(wide, 0x7FFF)), odd)
        return builder.trunc(builder.lshr(moved, ir.Constant(wide, 16)), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def _differs(typing_context, first, second):
    """1 if two bf16 values, as bits, are different numbers, else 0 (+0 and −0 are the same)."""

    def generate(context, builder, signature, arguments):
        one, two = arguments
        narrow = ir.IntType(16)
        magnitude = builder.and_(builder.or_(one, two), ir.Constant(narrow, 0x7FFF))
        nonzero = builder.icmp_unsigned("!=", magnitude, ir.Constant(narrow, 0))
        return builder.zext(builder.and_(builder.icmp_unsigned("!=", one, two), nonzero), narrow)

    return types.uint16(types.uint16, types.uint16), generate


@intrinsic
def _sum16(typing_context, first, second):
    def generate(context, builder, signature, arguments):
        return builder.add(*arguments)

    return types.uint16(types.uint16, types.uint16), generate


@intrinsic
def _larger_magnitude(typing_context, largest, bits):
    """The larger of a magnitude and of that of bf16 bits."""

    def generate(context, builder, signature, arguments):
        magnitude = builder.and_(arguments[1], ir.Constant(ir.IntType(16), 0x7FFF))
        return builder.select(builder.icmp_unsigned(">", arguments[0], magnitude), arguments[0], magnitude)

    return types.uint16(types.uint16, types.uint16), generate


@intrinsic
def _bf16_at(typing_context, address):
    """The bf16 values, as bits, that begin at an address."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], ir.IntType(16).as_pointer())

    return types.CPointer(types.uint16)(types.uint64), generate


@_jit
def compare_bf16(values, base):
    """How many bf16 values (as bits) differ from those of the base, and the largest magnitude (0x7F80 and more: not finite)."""
    changed = 0
    largest = np.uint16(0)
    for first in range(0, values.size, _BLOCK):
        differing = np.uint16(0)  # as narrow as the bits, so that the loop runs in vector registers
        for i in range(first, min(first + _BLOCK, values.size)):
            differing = _sum16(differing, _differs(values[i], base[i]))
            largest = _larger_magnitude(largest, values[i])
        changed += differing
    return changed, largest


@_jit
def merge_bf16(base_bits, addresses, coefficients, mask_of, masks, out):
    """θ_o + Σ_k c_k · (θ_k − θ_o), bf16 bits in and out, float32 between, rounded once; the order of additions is that of k.

    θ_k begins at addresses[k]. Where mask_of[k] is no negative number, nothing is added outside of the mask of that row. Returns how
    many values differ from the base, and whether all are finite; they are not if any value of an input is not, masked or not.
    """
    total = np.empty(_BLOCK, np.float32)
    size = base_bits.size
    changed = 0
    largest = np.uint16(0)
    for first in range(0, size, _BLOCK):
        length = min(_BLOCK, size - first)
        base = base_bits[first : first + length]
        result = out[first : first + length]
        total[:] = np.float32(0)
        for k in range(addresses.size):
            weights = numba.carray(_bf16_at(addresses[k]), size)[first : first + length]
            coefficient = coefficients[k]
            if mask_of[k] < 0:
                for i in range(length):
                    total[i] += coefficient * (_widened(weights[i]) - _widened(base[i]))
            else:
                mask = masks[mask_of[k], first : first + length]
                for i in range(length):
                    change = _widened(weights[i]) - _widened(base[i])
                    # not a plain zero: a NaN stays one, and adding ±0 changes nothing
                    total[i] += coefficient * (change if mask[i] else change * np.float32(0))
        for i in range(length):
            rounded = _narrowed(_widened(base[i]) + total[i])
            result[i] = base[i] if total[i] == np.float32(0) else rounded
        differing, high = compare_bf16(result, base)
        changed += differing
        largest = max(largest, high)
    return changed, largest < 0x7F80


@_jit
def scatter_bf16(base, changes, coefficients, positions, out):
    """Puts base + Σ_k c_k · change_k, rounded to bf16, at these positions of `out` (bits); where the sum is zero, the base. float32
    in, changes of shape [k, positions]. Returns whether all values are finite."""
    total = np.empty(_BLOCK, np.float32)
    bits = np.empty(_BLOCK, np.uint16)
    largest = np.uint16(0)
    for first in range(0, positions.size, _BLOCK):
        length = min(_BLOCK, positions.size - first)
        total[:] = np.float32(0)
        for k in range(coefficients.size):
            change = changes[k, first : first + length]
            coefficient = coefficients[k]
            for i in range(length):
                total[i] += coefficient * change[i]
        ours = base[first : first + length]
        for i in range(length):
            bits[i] = _narrowed(ours[i] if total[i] == np.float32(0) else ours[i] + total[i])
        for i in range(length):
            largest = _larger_magnitude(largest, bits[i])
            out[positions[first + i]] = bits[i]
    return largest < 0x7F80


@_jit
def change_bf16(base_bits, weight_bits, out):
    """θ_k − θ_o as float32, from bf16 bits."""
    for i in range(out.size):
        out[i] = _widened(weight_bits[i]) - _widened(base_bits[i])


@_jit
def widen_bf16(bits, out_bits):
    """bf16 bits to the bits of the same float32 values; True if all are finite."""
    bad = np.uint32(0)
    for i in range(bits.size):
        out_bits[i] = np.uint32(bits[i]) << np.uint32(16)
        bad |= np.uint32((bits[i] & np.uint16(0x7F80)) == np.uint16(0x7F80))
    return bad == 0


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
def narrow_bf16(values, out):
    """float32 values rounded to the bits of the nearest bf16, ties to even."""
    for i in range(out.size):
        out[i] = _narrowed(values[i])


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


@_jit
def uniform(key, start, out):
    """Numbers `start`, `start` + 1 … of the SplitMix64 stream that begins at `key`, as float32 in [0, 1) with 24 bits.

    Every number depends on the key and its position alone, so that any range can be drawn by itself.
    Source: Steele, Lea and Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """
    for i in range(out.size):
        state = key + np.uint64(start + i + 1) * np.uint64(0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        state = state ^ (state >> np.uint64(31))
        out[i] = np.float32(state >> np.uint64(40)) * np.float32(2.0**-24)


@_jit
def row_ranks(bits, width, ranks):
    """The rank of every magnitude within its row of `width`, 0 for the smallest, ties by position: float32 as bits in, int32 out.

    A radix sort of each row, digits of eight bits from the last to the first.
    """
    order = np.empty(width, np.int32)
    other = np.empty(width, np.int32)
    counts = np.empty(256, np.int64)
    for first in range(0, bits.size, width):
        for i in range(width):
            order[i] = i
        for digit in range(4):
            shift = np.uint32(8 * digit)
            counts[:] = 0
            for i in range(width):
                counts[((bits[first + i] & _MAGNITUDE) >> shift) & np.uint32(255)] += 1
            position = 0
            for value in range(256):
                position, counts[value] = position + counts[value], position
            for i in range(width):
                value = ((bits[first + order[i]] & _MAGNITUDE) >> shift) & np.uint32(255)
                other[counts[value]] = order[i]
                counts[value] += 1
            order, other = other, order
        for i in range(width):
            ranks[first + order[i]] = i


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
