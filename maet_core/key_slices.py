"""The key neurons of one tensor and all that is added there, side by side in memory: a new γ moves these values and no others."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Literal

import numpy as np

from maet_core import kernels
from maet_core.differences import Difference, widened
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.importance.scores import unit_axis
from maet_core.merging.combine import rounded
from maet_core.merging.plan import Sum
from maet_core.scratch import staggered_rows
from maet_core.sources import Rows, Sources

# With more of a tensor's values than this key, a pass over all of them costs no more.
LARGEST_SHARE = 0.25


@dataclass(frozen=True)
class KeyPlaces:
    """Where the key neurons' parameters lie in a flattened tensor: at these `indices` (uint32) of all rows, of all columns, or of all
    values; `width` is that of the rows.

    The model keeps its tensors as transformers does. With units of the output side as rows too, γ would cost less still, but every
    answer would take longer (a product with a transposed matrix), and float32 answers would not be those of a merge to disk.
    """

    kind: Literal["rows", "columns", "positions"]
    indices: np.ndarray
    width: int

    @classmethod
    def of_units(cls, keys: KeyNeurons, name: str) -> KeyPlaces | None:
        """Those of whole hidden units; None where the units of a tensor are neither its rows nor its columns, or the neurons no units."""
        shape = keys.scores.base.tensors[name].shape
        if keys.scores.granularity != "unit" or len(shape) < 2:
            return None
        axis = unit_axis(keys.scores.base.anatomy.place(name), shape) % len(shape)
        indices = np.flatnonzero(keys.neurons(name).numpy()).astype(np.uint32)
        if axis == len(shape) - 2 and shape[-1] % 2 == 0:  # of all experts, one below the other
            return cls("rows", indices, shape[-1])
        return cls("columns", indices, shape[-1]) if axis == 1 and len(shape) == 2 else None

    def put(self, values: np.ndarray, out: np.ndarray) -> None:
        """The values of all these places, in their order, into the flat tensor."""
        if self.kind == "rows":
            out.reshape(-1, self.width)[self.indices] = values.reshape(-1, self.width)
        elif self.kind == "columns":
            out.reshape(-1, self.width)[:, self.indices] = values.reshape(-1, self.indices.size)
        else:
            out[self.indices] = values

    def merge_bf16(self, addresses: np.ndarray, coefficients: np.ndarray, out: np.ndarray) -> bool:
        if self.kind == "rows":
            return bool(kernels.merge_rows_bf16(addresses, coefficients, self.indices, self.width, out))
        if self.kind == "columns":
            return bool(kernels.merge_columns_bf16(addresses, coefficients, self.indices, self.width, out))
        return bool(kernels.merge_positions_bf16(addresses, coefficients, self.indices, out))


@dataclass(frozen=True)
class KeySlice:
    """At the `places` of the key neurons: in `values` [1 + rows, parameters] the base, then one row for everything that a recipe can add
    to the tensor, in the order of addition. Where all of it is stored as bf16 weights, these are kept (bits); else the base in
    float32, and differences to it."""

    places: KeyPlaces
    values: np.ndarray

    @property
    def parameters(self) -> int:
        return self.values.shape[1]

    @property
    def nbytes(self) -> int:
        return self.places.indices.nbytes + self.values.strides[0] * len(self.values)

    @cached_property
    def _addresses(self) -> np.ndarray:
        return self.values.ctypes.data + self.values.strides[0] * np.arange(len(self.values), dtype=np.uint64)

    def write(self, coefficients: np.ndarray, out: np.ndarray, code: str) -> bool:
        """Puts θ_o + Σ_k c_k · change_k into the flat tensor `out` of dtype `code` (bf16: as bits). Returns whether all values fit."""
        if code == "BF16" and self.values.dtype == np.uint16:
            return self.places.merge_bf16(self._addresses, coefficients, out)
        base, changes = self.values[0], self.values[1:]
        if base.dtype == np.uint16:
            base = widened(base, "", "", 0, np.dtype(np.float32))
            changes = [widened(row, "", "", 0, np.dtype(np.float32)) - base for row in changes]
        total = np.zeros_like(base)
        for coefficient, change in zip(coefficients, changes, strict=True):
            kernels.add_difference(total, change, coefficient)
        kernels.finish(base, total)
        values, _, fits = rounded(total, base, code)
        self.places.put(values, out)
        return fits


def moved(before: Sum | None, after: Sum) -> frozenset[KeyNeurons | None]:
    """On which key neurons a tensor's sum differs from the present one (None: unknown); None among them: everywhere."""
    if before is None or before.rows != after.rows:
        return frozenset({None})
    parts = zip(after.rows.all, before.coefficients, after.coefficients, strict=True)
    return frozenset(keys for (_, keys), was, becomes in parts if was != becomes)


def key_slice(sources: Sources, name: str, keys: KeyNeurons, rows: Rows) -> KeySlice | None:
    """Reads a tensor and keeps its key neurons; None where they are so many that they are not worth it."""
    info = sources.base.tensors[name]
    if info.numel >= 1 << 32 or parameters_of(keys, name) > LARGEST_SHARE * info.numel:
        return None
    places = KeyPlaces.of_units(keys, name)
    parts = {part for part, _ in rows.all}
    plain = info.code == "BF16" and all(part.holds_bf16_weights(name) for part in parts)
    values = staggered_rows(1 + len(rows.all), parameters_of(keys, name), np.dtype(np.uint16 if plain else np.float32))
    positions, done = [], 0
    for start in range(0, info.numel, kernels.CHUNK_ELEMENTS):
        stop = min(start + kernels.CHUNK_ELEMENTS, info.numel)
        stored = sources.base.values(name, start, stop)
        base = widened(stored, sources.base.source, name, start, np.dtype(np.float32))
        changes: dict[Difference, np.ndarray] = {part: part.values(name, start, stop, base) for part in parts}
        there = np.flatnonzero(keys.chosen(name, start, stop, changes.get))
        if places is None:
            positions.append((there + start).astype(np.uint32))
        here = values[:, done : done + there.size]
        here[0] = stored[there] if plain else base[there]
        for row, (part, other) in enumerate(rows.all, start=1):
            here[row] = (part.stored(name, start, stop, base.dtype)[0] if plain else changes[part])[there]
            if other not in (None, keys):
                outside = ~other.chosen(name, start, stop, changes.get)[there]
                here[row, outside] = here[0, outside] if plain else 0
        done += there.size
    return KeySlice(places or KeyPlaces("positions", np.concatenate(positions), 1), values)


def parameters_of(keys: KeyNeurons, name: str) -> int:
    """How many parameters of a tensor belong to key neurons."""
    return keys.counts.get(name, 0) * keys.scores.base.tensors[name].numel // max(1, prod(keys.scores.shapes[name]))
