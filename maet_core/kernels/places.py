"""The merge of some values of a bf16 tensor, compiled: whole rows, whole columns, or single ones.

What is merged lies side by side in memory (`addresses`, as in `merge_bf16`, in the order in which the values lie in the tensor); `out` is
the flattened tensor. Every function returns whether all results are finite. Columns and single values cost about what it costs to
fetch and write back each line of the processor's cache that they touch, and 5 % of them touch four of five.
"""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bf16 import merge_bf16

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")

_BLOCK = 8192  # values on their way from the sum to their places: half of the first-level cache


@_jit
def merge_rows_bf16(addresses, coefficients, rows, width, out):
    """The rows of these numbers, each of `width` values, an even number."""
    here, unmasked, fits = addresses.copy(), _unmasked(coefficients), True
    for i in range(rows.size):
        start = rows[i] * width
        fits &= _merged(addresses, here, coefficients, unmasked, i * width, out[start : start + width])
    return fits


@_jit
def merge_columns_bf16(addresses, coefficients, columns, width, out):
    """The columns of these numbers in a matrix whose rows have `width` values."""
    rows = max(1, _BLOCK // (2 * max(1, columns.size))) * 2  # an even number: see `_merged`
    block = np.empty(rows * columns.size, np.uint16)
    here, unmasked, fits = addresses.copy(), _unmasked(coefficients), True
    height = out.size // width
    for first in range(0, height, rows):
        values = block[: min(rows, height - first) * columns.size]
        fits &= _merged(addresses, here, coefficients, unmasked, first * columns.size, values)
        for row in range(min(rows, height - first)):
            start = (first + row) * width
            line, mine = out[start : start + width], values[row * columns.size : (row + 1) * columns.size]
            for i in range(columns.size):
                line[columns[i]] = mine[i]
    return fits


@_jit
def merge_positions_bf16(addresses, coefficients, positions, out):
    block = np.empty(_BLOCK, np.uint16)
    here, unmasked, fits = addresses.copy(), _unmasked(coefficients), True
    for first in range(0, positions.size, _BLOCK):
        there = positions[first : first + _BLOCK]
        values = block[: there.size]
        fits &= _merged(addresses, here, coefficients, unmasked, first, values)
        for i in range(there.size):
            out[there[i]] = values[i]
    return fits


@_jit
def _unmasked(coefficients):
    return np.full(coefficients.size, -1), np.empty((0, 0), np.bool_)


@_jit
def _merged(addresses, here, coefficients, unmasked, start, out):
    """From the value `start` on, an even number: pairs are read as one word. `here` is scratch memory."""
    for k in range(addresses.size):
        here[k] = addresses[k] + np.uint64(2 * start)
    return merge_bf16(here, coefficients, unmasked[0], unmasked[1], out)
