"""The sum of Eq. 4 on a card in one pass, for many tensors at once: float32 between, every step rounded on its own, one rounding at the
end. Bit for bit what the compiled loops of the processor give."""

from __future__ import annotations

import triton
import triton.language as tl

BLOCK = 2048

# Columns of the table of a group of jobs; the addresses of the addends follow, then those of their masks.
OUT, BASE, INDICES, SIZE, COUNT, WIDTH, FIRST = range(7)

# How the n-th value of the inputs and of the output are found.
DENSE, ROWS, ROWS_APART, COLUMNS, POSITIONS = range(5)

_FIRST = tl.constexpr(FIRST)


@triton.jit
def _at(address, offsets, inside, CODE: tl.constexpr, ALIGNED: tl.constexpr):
    """Values as float32: CODE 0 is bf16, 1 is float16, 2 is float32."""
    if CODE == 0:
        pointer = tl.multiple_of(address.to(tl.pointer_type(tl.uint16)), ALIGNED)
        bits = tl.load(pointer + offsets, mask=inside, other=0).to(tl.uint32)
        return (bits << 16).to(tl.float32, bitcast=True)
    elif CODE == 1:
        pointer = tl.multiple_of(address.to(tl.pointer_type(tl.float16)), ALIGNED)
        return tl.load(pointer + offsets, mask=inside, other=0.0).to(tl.float32)
    else:
        pointer = tl.multiple_of(address.to(tl.pointer_type(tl.float32)), ALIGNED)
        return tl.load(pointer + offsets, mask=inside, other=0.0)


@triton.jit
def merge_table(
    table,
    which,
    coefficients,
    unfit,
    first_unfit,
    width,
    blocks_a_row,
    COLUMNS_OF_TABLE: tl.constexpr,
    ADDENDS: tl.constexpr,
    KINDS: tl.constexpr,
    BASE_CODE: tl.constexpr,
    OUT_CODE: tl.constexpr,
    MODE: tl.constexpr,
    ALIGNED: tl.constexpr,
    GRAIN: tl.constexpr,
    STEP: tl.constexpr,
):
    """One block of one job: of the job which[i], in the order of the launch.

    table [jobs, columns] int64 is as said above; coefficients [launched, ADDENDS] float32; an addend whose coefficient is 0 is not read.
    KINDS has four bits an addend: its dtype (two), whether it is a difference, whether it has a mask (a bit a value of the tensor).
    GRAIN is a number by which all sizes can be divided: with 16 of it, threads read 16 bytes at once.
    unfit[first_unfit + i] becomes 1 where a result is not finite.
    """
    launched = tl.program_id(1)
    job = tl.load(which + launched)
    row = table + job.to(tl.int64) * COLUMNS_OF_TABLE
    size = tl.multiple_of(tl.load(row + 3), GRAIN)
    block = tl.program_id(0).to(tl.int64)
    lanes = tl.arange(0, STEP)
    if MODE == 1 or MODE == 2:  # a part of one row
        number = block // blocks_a_row
        column = (block % blocks_a_row) * STEP + lanes
        exists = number * width < size
        indices = tl.load(row + 2).to(tl.pointer_type(tl.int32))
        place = tl.load(indices + number, mask=exists, other=0).to(tl.int64)
        inside = (column < width) & exists
        target = place * width + column
        source = target if MODE == 1 else number * width + column
        read = inside
    else:
        source = block * STEP + lanes
        inside = source < size
        read = source < (size + 15) // 16 * 16 if MODE != 0 else inside  # inputs of their own are as long as that
        target = source
        if MODE == 3:
            count = tl.load(row + 4)
            indices = tl.load(row + 2).to(tl.pointer_type(tl.int32))
            target = source // count * width + tl.load(indices + source % count, mask=inside, other=0)
        if MODE == 4:
            indices = tl.load(row + 2).to(tl.pointer_type(tl.uint32))
            target = tl.load(indices + source, mask=inside, other=0).to(tl.int64)
    base = _at(tl.load(row + 1), source, read, BASE_CODE, 16)
    total = tl.zeros([STEP], tl.float32)
    for k in tl.static_range(ADDENDS):
        coefficient = tl.load(coefficients + launched * ADDENDS + k)
        wanted = read & (tl.broadcast_to(coefficient, [STEP]) != 0)
        change = _at(tl.load(row + _FIRST + k), source, wanted, (KINDS >> (4 * k)) & 3, 16)
        if ((KINDS >> (4 * k)) & 4) == 0:
            change = change - base
        if ((KINDS >> (4 * k)) & 8) != 0:
            mask = tl.load(row + _FIRST + ADDENDS + k).to(tl.pointer_type(tl.uint8))
            bits = tl.load(mask + (source >> 3), mask=wanted, other=0).to(tl.int32)
            change = tl.where(((bits >> (source & 7).to(tl.int32)) & 1) != 0, change, 0.0)
        total = total + coefficient * change
    merged = tl.where(total == 0, base, base + total)
    out = tl.load(row)
    if OUT_CODE == 0:
        bits = merged.to(tl.uint32, bitcast=True)
        up = 0x7FFF + ((bits >> 16) & 1)
        large = ((bits & 0x7FFFFFFF) + up) >= 0x7F800000
        pointer = tl.multiple_of(out.to(tl.pointer_type(tl.uint16)), ALIGNED)
        tl.store(pointer + target, ((bits + up) >> 16).to(tl.uint16), mask=inside)
    elif OUT_CODE == 1:
        half = merged.to(tl.float16)
        large = (half.to(tl.int16, bitcast=True) & 0x7FFF) >= 0x7C00
        pointer = tl.multiple_of(out.to(tl.pointer_type(tl.float16)), ALIGNED)
        tl.store(pointer + target, half, mask=inside)
    else:
        large = (merged.to(tl.int32, bitcast=True) & 0x7FFFFFFF) >= 0x7F800000
        pointer = tl.multiple_of(out.to(tl.pointer_type(tl.float32)), ALIGNED)
        tl.store(pointer + target, merged, mask=inside)
    tl.store(unfit + first_unfit + launched + lanes * 0, 1, mask=inside & large)
