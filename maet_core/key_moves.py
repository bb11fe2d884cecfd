"""Which tensors a change of the coefficients moves at their key neurons alone, and the slices that do it, as far as memory has room."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from maet_core.importance.key_neurons import KeyNeurons
from maet_core.key_slices import KeySlice, Row, coefficients_of, key_slice, parameters_of, rows_of
from maet_core.merging.combine import in_float32
from maet_core.merging.plan import Addend, MergePlan
from maet_core.merging.vectors import WeightedVector
from maet_core.methods import METHODS
from maet_core.progress import Progress, each
from maet_core.sources import Sources

Addends = list[Addend] | list[WeightedVector]
Move = tuple[KeySlice, np.ndarray]
"""A slice, and the coefficient (float32) of each of its rows."""

# tensor, the key neurons in question, and everything that can be added there
_Key = tuple[str, KeyNeurons, tuple[Row, ...]]


class KeyMoves:
    """Keeps the slices of one set of sources in at most `room_bytes`."""

    def __init__(self, room_bytes: int):
        self._room = room_bytes
        self._slices: dict[_Key, KeySlice | None] = {}
        self._rows: dict[str, dict[Row, int]] = {}
        self._key_neurons: dict[str, KeyNeurons | None] = {}

    def prepare(self, sources: Sources, names: Iterable[str], progress: Progress | None) -> None:
        """Reads all slices that a γ can ask for."""
        self._follow(sources)
        wanted: list[_Key] = []
        for name in names if METHODS[sources.recipe.method.name].linear else ():
            rows = self._rows_of(sources, name)
            wanted += [(name, keys, tuple(rows)) for keys in {keys for _, keys in rows} - {None}]
        self._make(sources, wanted, progress)

    def between(
        self, plan: MergePlan, changes: dict[str, tuple[Addends | None, Addends]], progress: Progress | None
    ) -> dict[str, list[Move]]:
        """What takes tensors from their present addends (None: unknown) to others; one that is not there needs a whole pass."""
        sources, wanted = plan.sources, {}
        self._follow(sources)
        for name, (before, after) in changes.items() if plan.method.linear else ():
            if not before:
                continue
            rows = self._rows_of(sources, name)
            old, new = coefficients_of(before, rows), coefficients_of(after, rows)
            if old is None or new is None:
                continue
            moved = {keys for (_, keys), was, becomes in zip(rows, old, new, strict=True) if was != becomes}
            if None not in moved:
                wanted[name] = [(name, keys, tuple(rows)) for keys in moved], in_float32(new)
        self._make(sources, [key for keys, _ in wanted.values() for key in keys], progress)
        return {
            name: [(self._slices[key], coefficients) for key in keys]
            for name, (keys, coefficients) in wanted.items()
            if all(map(self._slices.get, keys))
        }

    def _follow(self, sources: Sources) -> None:
        """Forgets the slices whose key neurons have been replaced."""
        key_neurons = {name: weights.key_neurons for name, weights in sources.abilities.items()}
        if key_neurons != self._key_neurons:
            self._key_neurons, self._rows = key_neurons, {}
            for key in [key for key in self._slices if key[2] != tuple(self._rows_of(sources, key[0]))]:
                if dropped := self._slices.pop(key):
                    self._room += dropped.nbytes

    def _rows_of(self, sources: Sources, name: str) -> dict[Row, int]:
        """Everything that can be added to a tensor and its place in the order, looked up once: every step of a slider asks for it. None
        for a tensor that is added up in float64, and where the same is added twice, so that an addend does not tell which it is."""
        if name not in self._rows:
            rows = rows_of(sources, name) if sources.precision(name) == np.float32 else []
            numbers = {row: number for number, row in enumerate(rows)}
            self._rows[name] = numbers if len(numbers) == len(rows) else {}
        return self._rows[name]

    def _make(self, sources: Sources, wanted: list[_Key], progress: Progress | None) -> None:
        """Those that are not there yet, as far as there is room."""
        missing, before = [], self._room
        for name, keys, rows in wanted:
            most = parameters_of(keys, name) * 4 * (2 + len(rows))
            if (name, keys, rows) not in self._slices and most <= self._room:
                missing.append((name, keys, rows))
                self._room -= most
        if not missing:
            return
        try:
            made = each(missing, lambda key: key_slice(sources, *key), "reading key neurons", progress)
        except BaseException:
            self._room = before
            raise
        self._room = before - sum(part.nbytes for part in made if part)
        self._slices |= dict(zip(missing, made, strict=True))
