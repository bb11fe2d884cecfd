"""The sum of Eq. 4 on a card in one pass, for many tensors at once: float32 between, every step rounded on its own, one rounding at the
end. Bit for bit what the compiled loops of the processor give."""

from __future__ import annotations

import triton
import triton.language as tl

STEP = 2048  # values of a block at once
TILES = 8  # how often a block of a whole tensor does that: the addresses that it looks up before serve all of them

# Columns of the table of a group of jobs; the addresses of the addends follow, then those of their masks.
OUT, BASE, INDICES, SIZE, COUNT, WIDTH, FIRST = range(7)

# How the n-th value of the inputs and of the output are found.
DENSE, ROWS, ROWS_APART, COLUMNS, POSITIONS = range(5)

_FIRST = tl.constexpr(FIRST)


@triton.jit
def _read(address, offsets, inside, CODE: tl.constexpr, ALIGNED: tl.constexpr):
    """Values as they are stored. CODE 0 is bf16 (its bits), 1 is float16, 2 is float32."""
    if CODE == 0:
        pointer = tl.multiple_of(address.to(tl.pointer_type(tl.uint16)), ALIGNED)
        return tl.load(pointer + offsets, mask=inside, other=0)
    elif CODE == 1:
        pointer = tl.multiple_of(address.to(tl.pointer_type(tl.float16)), ALIGNED)
        return tl.load(pointer + offsets, mask=inside, other=0.0)
    else:
        pointer = tl.multiple_of(address.to(tl.pointer_type(tl.float32)), ALIGNED)
        return tl.load(pointer + offsets, mask=inside, other=0.0)


@triton.jit
def _widened(stored, CODE: tl.constexpr):
    if CODE == 0:
        return (stored.to(tl.uint32) << 16).to(tl.float32, bitcast=True)
    else:
        return stored.to(tl.float32)


@triton.jit
def merge_table(
    table,
    first_job,
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
    TILES: tl.constexpr,
):
    """One block of one job: of the job first_job + i, the i-th of the launch. It does TILES tiles of STEP values.

    table [jobs, columns] int64 is as said above; coefficients [launched, ADDENDS] float32; an addend whose coefficient is 0 is not read.
    KINDS has four bits an addend: its dtype (two), whether it is a difference, whether it has a mask (a bit a value of the tensor).
    GRAIN is a number by which all sizes can be divided: with 16 of it, threads read 16 bytes at once.
    unfit[first_unfit + i] becomes 1 where a result is not finite.
    """
    launched = tl.program_id(1)
    row = table + (first_job + launched).to(tl.int64) * COLUMNS_OF_TABLE
    size = tl.multiple_of(tl.load(row + 3), GRAIN)
    out, base_address, indices = tl.load(row), tl.load(row + 1), tl.load(row + 2)
    addresses, masks, weights = (), (), ()
    for k in tl.static_range(ADDENDS):
        addresses += (tl.load(row + _FIRST + k),)
        masks += (tl.load(row + _FIRST + ADDENDS + k),)
        weights += (tl.load(coefficients + launched * ADDENDS + k),)
    lanes = tl.arange(0, STEP)
    worst = tl.zeros([STEP], tl.int32)  # the largest magnitude, as the bits of a float32 value
    for tile in range(TILES):
        block = tl.program_id(0).to(tl.int64) * TILES + tile
        if MODE == 1 or MODE == 2:  # a part of one row
            number = block // blocks_a_row
            column = (block % blocks_a_row) * STEP + lanes
            exists = number * width < size
            place = tl.load(indices.to(tl.pointer_type(tl.int32)) + number, mask=exists, other=0).to(tl.int64)
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
                column = tl.load(indices.to(tl.pointer_type(tl.int32)) + source % count, mask=inside, other=0)
                target = source // count * width + column
            if MODE == 4:
                target = tl.load(indices.to(tl.pointer_type(tl.uint32)) + source, mask=inside, other=0).to(tl.int64)
        # everything is on its way before the first value is needed
        stored = _read(base_address, source, read, BASE_CODE, 16)
        changes, shifted = (), ()
        for k in tl.static_range(ADDENDS):
            wanted = read & (tl.broadcast_to(weights[k], [STEP]) != 0)
            changes += (_read(addresses[k], source, wanted, (KINDS >> (4 * k)) & 3, 16),)
            if ((KINDS >> (4 * k)) & 8) != 0:
                mask = masks[k].to(tl.pointer_type(tl.uint8))
                if MODE == 0:  # eight values in a row have one byte
                    rows = block * (STEP // 8) + tl.arange(0, STEP // 8)
                    there = (rows * 8 < size) & (tl.broadcast_to(weights[k], [STEP // 8]) != 0)
                    byte = tl.load(mask + rows, mask=there, other=0).to(tl.int32)
                    shifted += (tl.reshape(byte[:, None] >> tl.arange(0, 8)[None, :], [STEP]),)
                else:
                    eight = tl.load(mask + (source >> 3), mask=wanted, other=0)
                    shifted += (eight.to(tl.int32) >> (source & 7).to(tl.int32),)
            else:
                shifted += (0,)
        base = _widened(stored, BASE_CODE)
        total = tl.zeros([STEP], tl.float32)
        for k in tl.static_range(ADDENDS):
            change = _widened(changes[k], (KINDS >> (4 * k)) & 3)
            if ((KINDS >> (4 * k)) & 4) == 0:
                change = change - base
            if ((KINDS >> (4 * k)) & 8) != 0:
                change = tl.where((shifted[k] & 1) != 0, change, 0.0)
            total = total + weights[k] * change
        merged = tl.where(total == 0, base, base + total)
        magnitude = merged.to(tl.int32, bitcast=True) & 0x7FFFFFFF
        worst = tl.maximum(worst, tl.where(inside, magnitude, 0))
        if OUT_CODE == 0:
            bits = merged.to(tl.uint32, bitcast=True)
            found = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).to(tl.uint16)
            pointer = tl.multiple_of(out.to(tl.pointer_type(tl.uint16)), ALIGNED)
        elif OUT_CODE == 1:
            found = merged.to(tl.float16)
            pointer = tl.multiple_of(out.to(tl.pointer_type(tl.float16)), ALIGNED)
        else:
            found = merged
            pointer = tl.multiple_of(out.to(tl.pointer_type(tl.float32)), ALIGNED)
        tl.store(pointer + target, found, mask=inside)
    # the smallest magnitude that is rounded to infinity
    limit = 0x7F7F8000 if OUT_CODE == 0 else 0x477FF000 if OUT_CODE == 1 else 0x7F800000
    tl.store(unfit + first_unfit + launched, 1, mask=tl.max(worst, 0) >= limit)
