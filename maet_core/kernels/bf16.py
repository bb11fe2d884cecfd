"""The loops over bf16 weights, compiled: bit casts instead of conversions, float32 sums, one rounding.

One thread per call, without Python's lock, so that several run at once. Every function that reads what a user brought returns
whether all of it was finite; the caller then finds the culprit.
"""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")

_BLOCK = 2048  # values whose float32 sums stay in the first-level cache
_WORD = ir.IntType(32)
_UPPER_HALF = ir.Constant(_WORD, 0xFFFF0000)
_SHIFT = ir.Constant(_WORD, 16)


# numba makes whole numbers 64 bits wide wherever it calculates, and loops over them slow; these stay as narrow as they are
@intrinsic
def _widened(typing_context, bits):
    """The float32 value of bf16 bits."""

    def generate(context, builder, signature, arguments):
        wide = builder.shl(builder.zext(arguments[0], _WORD), _SHIFT)
        return builder.bitcast(wide, ir.FloatType())

    return types.float32(types.uint16), generate


def _rounded(builder, value):
    """The bits of a float32 value, of which the upper half is the bf16 value nearest to it, ties to even."""
    bits = builder.bitcast(value, _WORD)
    odd = builder.and_(builder.lshr(bits, _SHIFT), ir.Constant(_WORD, 1))
    return builder.add(builder.add(bits, ir.Constant(_WORD, 0x7FFF)), odd)


@intrinsic
def _narrowed(typing_context, value):
    """The bits of the bf16 value nearest to a float32 value, ties to even."""

    def generate(context, builder, signature, arguments):
        return builder.trunc(builder.lshr(_rounded(builder, arguments[0]), _SHIFT), ir.IntType(16))

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


# Two neighbours are taken as one word of 32 bits, of which a shift gives the first and a mask the second: half as many instructions as
# to widen each.
@intrinsic
def _first(typing_context, pair):
    """The float32 value of the first of two bf16 values."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.shl(arguments[0], _SHIFT), ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _second(typing_context, pair):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.and_(arguments[0], _UPPER_HALF), ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def _summed(typing_context, pair, first, second):
    """Two bf16 values, each with a float32 value added and rounded; one to which nothing is added stays as it is, −0.0 included."""

    def generate(context, builder, signature, arguments):
        pair, *totals = arguments
        zero = ir.Constant(ir.FloatType(), 0.0)
        values = builder.shl(pair, _SHIFT), builder.and_(pair, _UPPER_HALF)
        rounded = []
        for value, total in zip(values, totals, strict=True):
            added = _rounded(builder, builder.fadd(builder.bitcast(value, ir.FloatType()), total))
            rounded.append(builder.select(builder.fcmp_ordered("==", total, zero), value, added))
        return builder.or_(builder.lshr(rounded[0], _SHIFT), builder.and_(rounded[1], _UPPER_HALF))

    return types.uint32(types.uint32, types.float32, types.float32), generate


@intrinsic
def _pointer(typing_context, address, like):
    """What begins at an address: values of the type of `like`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], arguments[1].type.as_pointer())

    return types.CPointer(like)(types.uint64, like), generate


@intrinsic
def _larger_float(typing_context, largest, value):
    """The larger of a float32 magnitude, as bits, and of that of a value."""

    def generate(context, builder, signature, arguments):
        bits = builder.and_(builder.bitcast(arguments[1], _WORD), ir.Constant(_WORD, 0x7FFFFFFF))
        return builder.select(builder.icmp_unsigned(">", arguments[0], bits), arguments[0], bits)

    return types.uint32(types.uint32, types.float32), generate


@intrinsic
def _larger_of_pair(typing_context, largest, pair):
    """The larger of a float32 magnitude, as bits, and of those of two bf16 values; what lies below bf16 may be off."""

    def generate(context, builder, signature, arguments):
        largest, pair = arguments
        magnitude = ir.Constant(_WORD, 0x7FFFFFFF)
        for value in (builder.shl(pair, _SHIFT), pair):
            bits = builder.and_(value, magnitude)
            largest = builder.select(builder.icmp_unsigned(">", largest, bits), largest, bits)
        return largest

    return types.uint32(types.uint32, types.uint32), generate


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
        base = _pairs(addresses[0], 0, out.size)
        if masked == 0:
            return _merge_four(base, four, weighted, out)
        two = (_pairs(addresses[1], 0, out.size), _pairs(addresses[2], 0, out.size))
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
        base = _pairs(addresses[0], start, size)
        first_total, second_total = first_totals[:size], second_totals[:size]
        first_total[:] = np.float32(0)
        second_total[:] = np.float32(0)
        k = 0
        while k < count:
            if mask_of[k] >= 0:
                mask = masks[mask_of[k], 2 * start : 2 * (start + size)].view(np.uint16)
                weights = _pairs(addresses[k + 1], start, size)
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
        _pairs(addresses[k + 1 if left > 0 else 0], start, size),
        _pairs(addresses[k + 2 if left > 1 else 0], start, size),
        _pairs(addresses[k + 3 if left > 2 else 0], start, size),
        _pairs(addresses[k + 4 if left > 3 else 0], start, size),
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
def _pairs(address, start, size):
    return numba.carray(_pointer(address + np.uint64(4 * start), np.uint32(0)), size)


@_jit
def _plus_four(total, ours, a, b, c, d, weighted):
    p, q, r, s = weighted
    total = total + p * (a - ours)
    total = total + q * (b - ours)
    total = total + r * (c - ours)
    return total + s * (d - ours)


@_jit
def _within(mask, change):
    """The change where the mask is set, else a zero; not a plain one: a NaN stays one, and adding ±0 changes nothing."""
    return change if mask else change * np.float32(0)


# In one loop whatever can be, so that neither the memory nor the processor waits for the other.
@_jit
def _merge_four(base, four, weighted, out):
    a, b, c, d = four
    zero = np.float32(0)
    largest = np.uint32(0)
    for i in range(out.size):
        first = _plus_four(zero, _first(base[i]), _first(a[i]), _first(b[i]), _first(c[i]), _first(d[i]), weighted)
        second = _plus_four(
            zero, _second(base[i]), _second(a[i]), _second(b[i]), _second(c[i]), _second(d[i]), weighted
        )
        pair = _summed(base[i], first, second)
        out[i] = pair
        largest = _larger_of_pair(largest, pair)
    return largest


@_jit
def _merge_two_and_four(base, two, coefficients, mask, four, weighted, out):
    """Two within a mask, then four."""
    a, b, c, d = four
    ability, source = two
    x, y = coefficients[0], coefficients[1]
    largest = np.uint32(0)
    for i in range(out.size):
        ours, chosen = _first(base[i]), mask[i] & np.uint16(0xFF)
        first = x * _within(chosen, _first(ability[i]) - ours)
        first = first + y * _within(chosen, _first(source[i]) - ours)
        first = _plus_four(first, ours, _first(a[i]), _first(b[i]), _first(c[i]), _first(d[i]), weighted)
        ours, chosen = _second(base[i]), mask[i] & np.uint16(0xFF00)
        second = x * _within(chosen, _second(ability[i]) - ours)
        second = second + y * _within(chosen, _second(source[i]) - ours)
        second = _plus_four(second, ours, _second(a[i]), _second(b[i]), _second(c[i]), _second(d[i]), weighted)
        pair = _summed(base[i], first, second)
        out[i] = pair
        largest = _larger_of_pair(largest, pair)
    return largest


@_jit
def _add_masked(first_total, second_total, base, weights, coefficient, mask):
    for i in range(base.size):
        first, second = _first(weights[i]) - _first(base[i]), _second(weights[i]) - _second(base[i])
        first_total[i] += coefficient * _within(mask[i] & np.uint16(0xFF), first)
        second_total[i] += coefficient * _within(mask[i] & np.uint16(0xFF00), second)


@_jit
def _add_four(first_total, second_total, base, four, weighted):
    a, b, c, d = four
    for i in range(base.size):
        first_total[i] = _plus_four(
            first_total[i], _first(base[i]), _first(a[i]), _first(b[i]), _first(c[i]), _first(d[i]), weighted
        )
        second_total[i] = _plus_four(
            second_total[i], _second(base[i]), _second(a[i]), _second(b[i]), _second(c[i]), _second(d[i]), weighted
        )


@_jit
def _finish(first_total, second_total, base, out):
    largest = np.uint32(0)
    for i in range(out.size):
        pair = _summed(base[i], first_total[i], second_total[i])
        out[i] = pair
        largest = _larger_of_pair(largest, pair)
    return largest


@_jit
def _merge_last(addresses, coefficients, mask_of, masks, out):
    """The last value of an odd number of them."""
    i = out.size - 1
    base = numba.carray(_pointer(addresses[0], np.uint16(0)), out.size)[i]
    total = np.float32(0)
    for k in range(coefficients.size):
        weights = numba.carray(_pointer(addresses[k + 1], np.uint16(0)), out.size)[i]
        change = _widened(weights) - _widened(base)
        if mask_of[k] >= 0 and not masks[mask_of[k], i]:
            change *= np.float32(0)
        total += coefficients[k] * change
    out[i] = base if total == np.float32(0) else _narrowed(_widened(base) + total)
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
            differing = _sum16(differing, _differs(ours[i], theirs[i]))
            largest = _larger_magnitude(largest, ours[i])
        changed += differing
    return changed, largest


@_jit
def scatter_bf16(base_bits, weight_bits, coefficients, positions, out):
    """θ_o + Σ_k c_k · (θ_k − θ_o) at these positions of `out`: bf16 bits in and out, θ_k in the rows of `weight_bits`, the order of
    additions that of k; where the sum is zero, the base. Returns whether all values are finite."""
    total = np.empty(_BLOCK, np.float32)
    bits = np.empty(_BLOCK, np.uint16)
    largest = np.uint16(0)
    for first in range(0, positions.size, _BLOCK):
        length = min(_BLOCK, positions.size - first)
        base = base_bits[first : first + length]
        total[:] = np.float32(0)
        for k in range(coefficients.size):
            weights = weight_bits[k, first : first + length]
            coefficient = coefficients[k]
            for i in range(length):
                total[i] += coefficient * (_widened(weights[i]) - _widened(base[i]))
        for i in range(length):
            rounded = _narrowed(_widened(base[i]) + total[i])
            bits[i] = base[i] if total[i] == np.float32(0) else rounded
            largest = _larger_magnitude(largest, bits[i])
        there = positions[first : first + length]
        for i in range(length):
            out[there[i]] = bits[i]
    return largest < 0x7F80


@_jit
def change_bf16(base_bits, weight_bits, out):
    """θ_k − θ_o as float32, from bf16 bits. Returns whether all of it is finite."""
    largest = np.uint32(0)
    for i in range(out.size):
        change = _widened(weight_bits[i]) - _widened(base_bits[i])
        out[i] = change
        largest = _larger_float(largest, change)
    return largest < 0x7F800000


@_jit
def minus_base_bf16(weight_bits, base, out):
    """The same with a base of float32 values."""
    largest = np.uint32(0)
    for i in range(out.size):
        change = _widened(weight_bits[i]) - base[i]
        out[i] = change
        largest = _larger_float(largest, change)
    return largest < 0x7F800000


# the order of summation is free here, so that the sums run in vector registers
@numba.njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def gram_bf16(addresses, size, gram):
    """Adds to gram[j, k], for k ≤ j, the inner product of θ_j − θ_o and θ_k − θ_o: bf16 values, sums in float64.

    The bits of θ_o begin at addresses[0], those of θ_1 … at the next ones. What is not finite shows in the result.
    """
    count = addresses.size - 1
    changes = np.empty((count, _BLOCK), np.float32)
    for first in range(0, size, _BLOCK):
        length = min(_BLOCK, size - first)
        base = numba.carray(_pointer(addresses[0], np.uint16(0)), size)[first : first + length]
        for k in range(count):
            weights = numba.carray(_pointer(addresses[k + 1], np.uint16(0)), size)[first : first + length]
            change = changes[k]
            for i in range(length):
                change[i] = _widened(weights[i]) - _widened(base[i])
            for j in range(k + 1):
                other = changes[j]
                total = 0.0
                for i in range(length):
                    total += np.float64(change[i]) * np.float64(other[i])
                gram[k, j] += total


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
        out[i] = _narrowed(values[i])
