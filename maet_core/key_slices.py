"""The key neurons of one tensor and all that is added there, side by side in memory: a new γ moves these values and no others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maet_core import kernels
from maet_core.differences import Difference, widened
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.merging.combine import rounded
from maet_core.merging.plan import Addend
from maet_core.merging.vectors import WeightedVector
from maet_core.sources import Sources

# With more of a tensor's values than this key, a pass over all of them costs no more.
LARGEST_SHARE = 0.25

Row = tuple[Difference, KeyNeurons | None]


@dataclass(frozen=True)
class KeySlice:
    """`positions` (uint32) of the key neurons' parameters in the flattened tensor; there the `base`, and in `added` [rows, positions] one
    row for everything that a recipe can add to the tensor, in the order of addition. Where all of it is stored as bf16 weights, these
    are kept (bits); else the base in float32, and differences to it."""

    positions: np.ndarray
    base: np.ndarray
    added: np.ndarray

    @property
    def nbytes(self) -> int:
        return self.positions.nbytes + self.base.nbytes + self.added.nbytes

    def write(self, coefficients: np.ndarray, out: np.ndarray, code: str) -> bool:
        """Puts θ_o + Σ_k c_k · change_k into the flat tensor `out` of dtype `code` (bf16: as bits). Returns whether all values fit."""
        if code == "BF16" and self.base.dtype == np.uint16:
            return bool(kernels.scatter_bf16(self.base, self.added, coefficients, self.positions, out))
        base, changes = self.base, self.added
        if base.dtype == np.uint16:
            base = widened(base, "", "", 0, np.dtype(np.float32))
            changes = [widened(row, "", "", 0, np.dtype(np.float32)) - base for row in changes]
        total = np.zeros_like(base)
        for coefficient, change in zip(coefficients, changes, strict=True):
            kernels.add_difference(total, change, coefficient)
        kernels.finish(base, total)
        values, _, fits = rounded(total, base, code)
        out[self.positions] = values
        return fits


def rows_of(sources: Sources, name: str) -> list[Row]:
    """Everything that a recipe of these sources can add to a tensor, in the order of addition."""
    rows: list[Row] = [
        (part, weights.key_neurons)
        for weights in sources.abilities.values()
        if weights.touches(name)
        for part in weights.parts
        if part.touches(name)
    ]
    return rows + [(part, None) for part in sources.languages.values() if part.touches(name)]


def coefficients_of(addends: list[Addend] | list[WeightedVector], rows: list[Row]) -> list[float] | None:
    """The coefficient of every row, 0 where it is not added; None if there are none (the method is not linear), if the addends are not
    among the rows, or if a row is there twice, and it is open which one is meant."""
    if not all(isinstance(addend, Addend) for addend in addends):
        return None
    given = {(addend.difference, addend.key_neurons): addend.coefficient for addend in addends}
    if len(set(rows)) < len(rows) or len(given) < len(addends) or not given.keys() <= set(rows):
        return None
    return [given.get(row, 0.0) for row in rows]


def key_slice(sources: Sources, name: str, keys: KeyNeurons, rows: Sequence[Row]) -> KeySlice | None:
    """Reads a tensor and keeps its key neurons; None where they are so many that they are not worth it."""
    info = sources.base.tensors[name]
    positions, bases, added = [], [], []
    found, limit = 0, LARGEST_SHARE * info.numel
    if info.numel >= 1 << 32:
        return None
    parts = {part for part, _ in rows}
    plain = info.code == "BF16" and all(part.holds_bf16_weights(name) for part in parts)
    for start in range(0, info.numel, kernels.CHUNK_ELEMENTS):
        stop = min(start + kernels.CHUNK_ELEMENTS, info.numel)
        stored = sources.base.values(name, start, stop)
        base = widened(stored, sources.base.source, name, start, np.dtype(np.float32))
        changes: dict[Difference, np.ndarray] = {part: part.values(name, start, stop, base) for part in parts}
        there = np.flatnonzero(keys.chosen(name, start, stop, changes.get))
        found += there.size
        if found > limit:
            return None
        if plain:
            unchanged = stored[there]
            values = {part: part.stored(name, start, stop, base.dtype)[0][there] for part in parts}
        else:
            unchanged = np.zeros(there.size, np.float32)
            values = {part: changes[part][there] for part in parts}
        masks = {
            other: other.chosen(name, start, stop, changes.get)[there] for _, other in rows if other not in (None, keys)
        }
        positions.append((there + start).astype(np.uint32))
        bases.append(stored[there] if plain else base[there])
        added.append(
            [
                np.where(masks[other], values[part], unchanged) if other in masks else values[part]
                for part, other in rows
            ]
        )
    return KeySlice(
        np.concatenate(positions),
        np.concatenate(bases),
        np.stack([np.concatenate([chunk[row] for chunk in added]) for row in range(len(rows))]),
    )
