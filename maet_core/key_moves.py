"""Which tensors a change of the coefficients moves at their key neurons alone, and the slices that do it, as far as memory has room."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from maet_core.importance.key_neurons import KeyNeurons
from maet_core.key_slices import KeySlice, key_slice, moved, parameters_of
from maet_core.merging.plan import MergePlan, Sum
from maet_core.methods import METHODS
from maet_core.progress import Progress, each
from maet_core.sources import Rows, Sources

Move = tuple[KeySlice, np.ndarray]
"""A slice, and the coefficient (float32) of each of its rows."""

# tensor, the key neurons in question, and everything that can be added there
_Key = tuple[str, KeyNeurons, Rows]


class KeyMoves:
    """Keeps the slices of one set of sources in at most `room_bytes`."""

    def __init__(self, room_bytes: int):
        self._room = room_bytes
        self._slices: dict[_Key, KeySlice | None] = {}
        self._key_neurons: dict[str, KeyNeurons | None] = {}
        self._single: dict[str, bool] = {}  # whether a tensor is added up in float32

    def prepare(self, sources: Sources, names: Iterable[str], progress: Progress | None) -> None:
        """Reads all slices that a γ can ask for."""
        self._follow(sources)
        wanted: list[_Key] = []
        for name in names if METHODS[sources.recipe.method.name].linear else ():
            rows = sources.rows(name)
            wanted += [(name, keys, rows) for keys in {keys for _, keys in rows.all} - {None}]
        self._make(sources, wanted, progress)

    def between(
        self, plan: MergePlan, changes: dict[str, tuple[Sum | None, Sum]], progress: Progress | None
    ) -> dict[str, list[Move]]:
        """What takes tensors from their present sums (None: unknown) to others; one that is not there needs a whole pass."""
        sources, wanted = plan.sources, {}
        self._follow(sources)
        known: dict[tuple[Sum | None, Sum], frozenset[KeyNeurons | None]] = {}
        for name, (before, after) in changes.items():
            if (before, after) not in known:
                known[before, after] = moved(before, after)
            if None not in known[before, after]:
                wanted[name] = [(name, keys, after.rows) for keys in known[before, after]], after.in_float32
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
            self._key_neurons = key_neurons
            for key in [key for key in self._slices if key[2] != sources.rows(key[0])]:
                if dropped := self._slices.pop(key):
                    self._room += dropped.nbytes

    def _make(self, sources: Sources, wanted: list[_Key], progress: Progress | None) -> None:
        """Those that are not there yet, as far as there is room."""
        missing, before = [], self._room
        for name, keys, rows in wanted:
            if (name, keys, rows) in self._slices or not self._is_single(sources, name):
                continue
            most = parameters_of(keys, name) * 4 * (2 + len(rows.all))
            if most <= self._room:
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

    def _is_single(self, sources: Sources, name: str) -> bool:
        if name not in self._single:
            self._single[name] = sources.precision(name) == np.float32
        return self._single[name]
