"""The inner products of changes θ_k − θ_o of bf16 weights, compiled.

Values are taken in pairs, as words of 32 bits. Sums are in float32 over a thousand values, of which a lane of a vector register has
some dozens, and in float64 from there on: as many digits as float64 has would cost more than twice the time.
"""

from __future__ import annotations

import numba
import numpy as np

from maet_core.kernels.bits import first_of, magnitude_of, pairs_at, second_of, within
from maet_core.kernels.changes import above_and_equal

_jit = numba.njit(nogil=True, cache=True, error_model="numpy")
# the order of summation is free here, so that the sums run in vector registers
_free_order = numba.njit(nogil=True, cache=True, error_model="numpy", fastmath={"reassoc", "contract"})

_BLOCK = 1 << 12  # pairs, of which those of a dozen models stay in the second-level cache
_SUMMED = 1 << 9  # pairs that are added up in float32


@_jit
def gram_bf16(addresses, size, abilities, limits, masks, languages, gram, wanted, counts):
    """Adds inner products of changes θ_k − θ_o, bf16 values, an even number of them, to `gram` (float64; below the diagonal and on it):
    those within each ability, those of each with the languages, and those among the languages.

    The bits of θ_o begin at addresses[0], those of θ_1, θ_2 … at the next ones, of which the gram has a row and a column each. `abilities`
    has a row for each: the numbers of its one or two models (0 where there is none), and which of its values count: all (−1); where the
    magnitude of its first model's change, as bits, is above its limit (−2); or those in a row of `masks`. `languages` are numbers of
    models, a multiple of four of them, of which any may be 0. An input that is not finite shows in the result; so does one that float32
    cannot hold the square of. Where `wanted` of an ability is not 0, its row of `counts` (int64) grows by how many magnitudes of its first
    model's changes, as bits, are above that, and how many equal it.
    """
    pairs = size // 2
    sums = np.empty(16, np.float64)
    for start in range(0, pairs, _BLOCK):
        stop = min(start + _BLOCK, pairs)
        for k in range(0, languages.size, 4):
            group = languages[k : k + 4]
            sums[:] = 0
            for first in range(start, stop, _SUMMED):
                length = min(_SUMMED, stop - first)
                _among(pairs_at(addresses[0], first, length), _four(addresses, group, first, length), sums)
            _add_among(gram, group, sums)
            for j in range(0, k, 4):
                others = languages[j : j + 4]
                sums[:] = 0
                for first in range(start, stop, _SUMMED):
                    length = min(_SUMMED, stop - first)
                    base, four = pairs_at(addresses[0], first, length), _four(addresses, group, first, length)
                    _between(base, four, _four(addresses, others, first, length), sums)
                _add_between(gram, group, others, sums)
            for i in range(abilities.shape[0]):
                a, b, rule = abilities[i]
                sums[:] = 0
                for first in range(start, stop, _SUMMED):
                    length = min(_SUMMED, stop - first)
                    base, four = pairs_at(addresses[0], first, length), _four(addresses, group, first, length)
                    two = (pairs_at(addresses[a], first, length), pairs_at(addresses[b], first, length))
                    if rule == -1:
                        _beside(base, two, four, None, None, sums)
                    elif rule == -2:
                        _beside(base, two, four, limits[i], None, sums)
                    else:
                        mask = masks[rule, 2 * first : 2 * (first + length)].view(np.uint16)
                        _beside(base, two, four, None, mask, sums)
                _add_beside(gram, a, b, group, sums, k == 0)
        for i in range(abilities.shape[0]):
            if wanted[i] > 0:
                base = pairs_at(addresses[0], start, stop - start)
                weights = pairs_at(addresses[abilities[i, 0]], start, stop - start)
                above, equal, _ = above_and_equal(base, weights, wanted[i])
                counts[i, 0] += above
                counts[i, 1] += equal


@_jit
def _four(addresses, group, start, length):
    return (
        pairs_at(addresses[group[0]], start, length),
        pairs_at(addresses[group[1]], start, length),
        pairs_at(addresses[group[2]], start, length),
        pairs_at(addresses[group[3]], start, length),
    )


@_jit
def _add(gram, one, other, product):
    if one > 0 and other > 0:
        gram[max(one, other) - 1, min(one, other) - 1] += product


# --- an ability beside four languages ------------------------------------------------------------------------------


@_free_order
def _beside(base, two, four, limit, mask, totals):
    """Adds the products within one or two models of an ability, and of these with four languages: see `_add_beside`."""
    a, b = two
    p, q, r, s = four
    zero = np.float32(0)
    sums = (zero, zero, zero, zero, zero, zero, zero, zero, zero, zero, zero)
    for i in range(base.size):
        own = first_of(base[i]), first_of(a[i]), first_of(b[i])
        languages = first_of(p[i]), first_of(q[i]), first_of(r[i]), first_of(s[i])
        sums = _plus_beside(sums, own, languages, limit, mask, i, np.uint16(0xFF))
        own = second_of(base[i]), second_of(a[i]), second_of(b[i])
        languages = second_of(p[i]), second_of(q[i]), second_of(r[i]), second_of(s[i])
        sums = _plus_beside(sums, own, languages, limit, mask, i, np.uint16(0xFF00))
    for i in range(11):
        totals[i] += np.float64(sums[i])


@_free_order
def _plus_beside(sums, own, languages, limit, mask, i, half):
    aa, ba, bb, pa, pb, qa, qb, ra, rb, sa, sb = sums
    ours, a, b = own
    x, y = a - ours, b - ours
    if limit is not None:
        chosen = magnitude_of(x) > limit
        x, y = within(chosen, x), within(chosen, y)
    if mask is not None:
        chosen = mask[i] & half
        x, y = within(chosen, x), within(chosen, y)
    p, q, r, s = languages
    p, q, r, s = p - ours, q - ours, r - ours, s - ours
    aa, ba, bb, pa, pb, qa, qb = aa + x * x, ba + y * x, bb + y * y, pa + p * x, pb + p * y, qa + q * x, qb + q * y
    return aa, ba, bb, pa, pb, qa, qb, ra + r * x, rb + r * y, sa + s * x, sb + s * y


@_jit
def _add_beside(gram, a, b, group, sums, own):
    if own:
        _add(gram, a, a, sums[0])
        _add(gram, b, a, sums[1])
        _add(gram, b, b, sums[2])
    for k in range(4):
        _add(gram, group[k], a, sums[3 + 2 * k])
        _add(gram, group[k], b, sums[4 + 2 * k])


# --- languages -----------------------------------------------------------------------------------------------------


@_free_order
def _among(base, four, totals):
    """Adds the products among four languages: the row of each up to itself, one after the other."""
    p, q, r, s = four
    zero = np.float32(0)
    rows = (zero,), (zero, zero), (zero, zero, zero), (zero, zero, zero, zero)
    for i in range(base.size):
        values = first_of(p[i]), first_of(q[i]), first_of(r[i]), first_of(s[i])
        rows = _plus_among(rows, first_of(base[i]), values)
        values = second_of(p[i]), second_of(q[i]), second_of(r[i]), second_of(s[i])
        rows = _plus_among(rows, second_of(base[i]), values)
    one, two, three, four = rows
    totals[0] += np.float64(one[0])
    for j in range(2):
        totals[1 + j] += np.float64(two[j])
    for j in range(3):
        totals[3 + j] += np.float64(three[j])
    for j in range(4):
        totals[6 + j] += np.float64(four[j])


@_free_order
def _plus_among(rows, ours, values):
    (pp,), (qp, qq), (rp, rq, rr), (sp, sq, sr, ss) = rows
    p, q, r, s = values
    p, q, r, s = p - ours, q - ours, r - ours, s - ours
    return (
        (pp + p * p,),
        (qp + q * p, qq + q * q),
        (rp + r * p, rq + r * q, rr + r * r),
        (sp + s * p, sq + s * q, sr + s * r, ss + s * s),
    )


@_jit
def _add_among(gram, group, sums):
    k = 0
    for i in range(4):
        for j in range(i + 1):
            _add(gram, group[i], group[j], sums[k])
            k += 1


@_free_order
def _between(base, four, others, totals):
    """Adds the products of four languages with four others, a row for each of the former."""
    p, q, r, s = four
    e, f, g, h = others
    zero = np.float32(0)
    nothing = zero, zero, zero, zero
    rows = nothing, nothing, nothing, nothing
    for i in range(base.size):
        values = first_of(p[i]), first_of(q[i]), first_of(r[i]), first_of(s[i])
        rows = _plus_between(
            rows, first_of(base[i]), values, (first_of(e[i]), first_of(f[i]), first_of(g[i]), first_of(h[i]))
        )
        values = second_of(p[i]), second_of(q[i]), second_of(r[i]), second_of(s[i])
        rows = _plus_between(
            rows, second_of(base[i]), values, (second_of(e[i]), second_of(f[i]), second_of(g[i]), second_of(h[i]))
        )
    for i in range(4):
        row = rows[i]
        for j in range(4):
            totals[4 * i + j] += np.float64(row[j])


@_free_order
def _plus_between(rows, ours, values, others):
    e, f, g, h = others
    changes = e - ours, f - ours, g - ours, h - ours
    return (
        _plus_row(rows[0], values[0] - ours, changes),
        _plus_row(rows[1], values[1] - ours, changes),
        _plus_row(rows[2], values[2] - ours, changes),
        _plus_row(rows[3], values[3] - ours, changes),
    )


@_free_order
def _plus_row(row, value, changes):
    return (
        row[0] + value * changes[0],
        row[1] + value * changes[1],
        row[2] + value * changes[2],
        row[3] + value * changes[3],
    )


@_jit
def _add_between(gram, group, others, sums):
    for i in range(4):
        for j in range(4):
            _add(gram, group[i], others[j], sums[4 * i + j])
