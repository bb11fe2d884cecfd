"""What numba lacks for bf16: values as the bits that they are, and sums of whole numbers no wider than these."""

from __future__ import annotations

import numba
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

_WORD = ir.IntType(32)
_UPPER_HALF = ir.Constant(_WORD, 0xFFFF0000)
_MAGNITUDE = ir.Constant(_WORD, 0x7FFFFFFF)
_SHIFT = ir.Constant(_WORD, 16)


# numba makes whole numbers 64 bits wide wherever it calculates, and loops over them slow; these stay as narrow as they are
@intrinsic
def widened(typing_context, bits):
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
def narrowed(typing_context, value):
    """The bits of the bf16 value nearest to a float32 value, ties to even."""

    def generate(context, builder, signature, arguments):
        return builder.trunc(builder.lshr(_rounded(builder, arguments[0]), _SHIFT), ir.IntType(16))

    return types.uint16(types.float32), generate


@intrinsic
def differs(typing_context, first, second):
    """1 if two bf16 values, as bits, are different numbers, else 0 (+0 and −0 are the same)."""

    def generate(context, builder, signature, arguments):
        one, two = arguments
        narrow = ir.IntType(16)
        magnitude = builder.and_(builder.or_(one, two), ir.Constant(narrow, 0x7FFF))
        nonzero = builder.icmp_unsigned("!=", magnitude, ir.Constant(narrow, 0))
        return builder.zext(builder.and_(builder.icmp_unsigned("!=", one, two), nonzero), narrow)

    return types.uint16(types.uint16, types.uint16), generate


@intrinsic
def sum16(typing_context, first, second):
    def generate(context, builder, signature, arguments):
        return builder.add(*arguments)

    return types.uint16(types.uint16, types.uint16), generate


@intrinsic
def larger_magnitude(typing_context, largest, bits):
    """The larger of a magnitude and of that of bf16 bits."""

    def generate(context, builder, signature, arguments):
        magnitude = builder.and_(arguments[1], ir.Constant(ir.IntType(16), 0x7FFF))
        return builder.select(builder.icmp_unsigned(">", arguments[0], magnitude), arguments[0], magnitude)

    return types.uint16(types.uint16, types.uint16), generate


# Two neighbours are taken as one word of 32 bits, of which a shift gives the first and a mask the second: half as many instructions as
# to widen each.
@intrinsic
def first_of(typing_context, pair):
    """The float32 value of the first of two bf16 values."""

    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.shl(arguments[0], _SHIFT), ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def second_of(typing_context, pair):
    def generate(context, builder, signature, arguments):
        return builder.bitcast(builder.and_(arguments[0], _UPPER_HALF), ir.FloatType())

    return types.float32(types.uint32), generate


@intrinsic
def summed(typing_context, pair, first, second):
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


def addresses_of(arrays):
    """Where numpy arrays begin, as the loops take it: uint64 of shape [number of arrays]. The arrays must outlive its use."""
    return np.array([values.__array_interface__["data"][0] for values in arrays], np.uint64)


@intrinsic
def pointer(typing_context, address, like):
    """What begins at an address: values of the type of `like`."""

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], arguments[1].type.as_pointer())

    return types.CPointer(like)(types.uint64, like), generate


@intrinsic
def larger_float(typing_context, largest, value):
    """The larger of a float32 magnitude, as bits, and of that of a value."""

    def generate(context, builder, signature, arguments):
        bits = builder.and_(builder.bitcast(arguments[1], _WORD), ir.Constant(_WORD, 0x7FFFFFFF))
        return builder.select(builder.icmp_unsigned(">", arguments[0], bits), arguments[0], bits)

    return types.uint32(types.uint32, types.float32), generate


@intrinsic
def larger_of_pair(typing_context, largest, pair):
    """The larger of a float32 magnitude, as bits, and of those of two bf16 values; what lies below bf16 may be off."""

    def generate(context, builder, signature, arguments):
        largest, pair = arguments
        magnitude = ir.Constant(_WORD, 0x7FFFFFFF)
        for value in (builder.shl(pair, _SHIFT), pair):
            bits = builder.and_(value, magnitude)
            largest = builder.select(builder.icmp_unsigned(">", largest, bits), largest, bits)
        return largest

    return types.uint32(types.uint32, types.uint32), generate


@intrinsic
def magnitude_of(typing_context, value):
    """The bits of a float32 value without its sign: as whole numbers they order like the magnitudes."""

    def generate(context, builder, signature, arguments):
        return builder.and_(builder.bitcast(arguments[0], _WORD), _MAGNITUDE)

    return types.uint32(types.float32), generate


@intrinsic
def plus_if_above(typing_context, total, bits, limit):
    """total + 1 if `bits` lie above the limit, else the total."""

    def generate(context, builder, signature, arguments):
        total, bits, limit = arguments
        return builder.add(total, builder.zext(builder.icmp_unsigned(">", bits, limit), _WORD))

    return types.uint32(types.uint32, types.uint32, types.uint32), generate


@intrinsic
def plus_if_near(typing_context, total, bits, low, span):
    """total + 1 if `bits` lie from `low` to `low` + `span`, else the total."""

    def generate(context, builder, signature, arguments):
        total, bits, low, span = arguments
        near = builder.icmp_unsigned("<=", builder.sub(bits, low), span)
        return builder.add(total, builder.zext(near, _WORD))

    return types.uint32(types.uint32, types.uint32, types.uint32, types.uint32), generate


@intrinsic
def or_if_near(typing_context, found, bits, low, span):
    """Not 0 if `found` is not, or if `bits` lie from `low` to `low` + `span`."""

    def generate(context, builder, signature, arguments):
        found, bits, low, span = arguments
        return builder.or_(found, builder.zext(builder.icmp_unsigned("<=", builder.sub(bits, low), span), _WORD))

    return types.uint32(types.uint32, types.uint32, types.uint32, types.uint32), generate


@numba.njit(nogil=True, cache=True)
def pairs_at(address, start, size):
    """Pairs `start` to `start` + `size` of the bf16 values that begin at an address, as words of 32 bits."""
    return numba.carray(pointer(address + np.uint64(4 * start), np.uint32(0)), size)


@numba.njit(nogil=True, cache=True)
def within(mask, change):
    """The change where the mask is set, else a zero; not a plain one: a NaN stays one, and adding ±0 changes nothing."""
    return change if mask else change * np.float32(0)
