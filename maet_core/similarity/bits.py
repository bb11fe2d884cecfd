"""Inner products of bf16 weights by one compiled loop, which also tells where a guess of the key neurons was wrong."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from maet_core import kernels
from maet_core.differences import Difference
from maet_core.ranking import Guess
from maet_core.scratch import Scratch
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights

# Fewer values than this are added up in float64; of as many, errors of float32 even out.
_SMALL = 1 << 16
# Changes whose mean square is smaller than this may be among those whose squares float32 cannot hold; not those above this limit.
_LEAST_SQUARE = 1e-28
_LEAST_LIMIT = np.float32(1e-14).view(np.uint32)
_ALL, _ABOVE_LIMIT = -1, -2  # which values of an ability count, as `kernels.gram_bf16` calls it
_SINGLE = np.dtype(np.float32)

_scratch = Scratch()


def from_bits(
    sources: Sources, name: str, abilities: dict[str, AbilityWeights], guesses: Mapping[str, Guess]
) -> dict[str, np.ndarray] | None:
    """As `inner_products`, of these abilities. None for small tensors, and where something else than finite bf16 weights is among the
    inputs, or an odd number of them."""
    base, languages = sources.base, list(sources.languages.values())
    parts = [(key, part) for key, weights in abilities.items() for part in weights.parts]
    parts += [("", part) for part in languages]
    there = [(key, part) for key, part in parts if part.touches(name)]
    numel = base.tensors[name].numel
    if numel < _SMALL or numel % 2 or base.tensors[name].code != "BF16":
        return None
    if not all(part.holds_bf16_weights(name) for _, part in there):
        return None
    whole = _Tensor(sources, name, abilities, there, guesses)
    for start in range(0, numel, kernels.RANGE_ELEMENTS):
        whole.add(start, min(start + kernels.RANGE_ELEMENTS, numel))
    gram = whole.gram()
    if gram is None:
        return None
    found, order = {}, {(key, part): number for number, (key, part) in enumerate(there)}
    for key, weights in abilities.items():
        mine = [(key, part) for part in weights.parts] + [("", part) for part in languages]
        rows = [row for row, part in enumerate(mine) if part in order]
        numbers = [order[mine[row]] for row in rows]
        found[key] = np.zeros((len(mine), len(mine)))
        found[key][np.ix_(rows, rows)] = gram[np.ix_(numbers, numbers)]
    return found


class _Tensor:
    """The inner products of `parts` in one tensor, each beside the ability that it is of ("": a language), range by range."""

    def __init__(
        self,
        sources: Sources,
        name: str,
        abilities: dict[str, AbilityWeights],
        parts: list[tuple[str, Difference]],
        guesses: Mapping[str, Guess],
    ):
        self._base, self._name, self._abilities, self._parts = sources.base, name, abilities, parts
        self._guesses = {key: guesses[key] for key in abilities if key in guesses}
        *self._own, languages = (
            [number for number, (owner, _) in enumerate(parts, start=1) if owner == key] for key in (*abilities, "")
        )
        self._four_each = np.array(languages + [0] * (-len(languages) % 4 if languages else 4), np.int64)
        self._thresholds = np.array([guesses[key].bits if key in guesses else 0 for key in abilities], np.uint32)
        self._held = set(abilities)  # of what float32 holds the squares for sure
        self._gram = np.zeros((len(parts), len(parts)))

    def add(self, start: int, stop: int) -> None:
        differences = dict.fromkeys(part for _, part in self._parts)  # a model may be in two roles
        read = {part: self._read(part, start, stop, place) for place, part in enumerate(differences, start=1)}
        base = self._base.values(self._name, start, stop, _scratch.at(0))
        addresses = kernels.addresses_of([base, *(read[part] for _, part in self._parts)])
        rules, limits, masks = self._rules(start, stop)
        rows = np.array([(*(*numbers, 0)[:2], rule) for numbers, rule in zip(self._own, rules, strict=True)], np.int64)
        counts = np.zeros((len(rules), 2), np.int64)
        kernels.gram_bf16(
            addresses, stop - start, rows, limits, masks, self._four_each, self._gram, self._thresholds, counts
        )
        for key, rule, limit, count in zip(self._abilities, rules, limits, counts, strict=True):
            if rule != _ABOVE_LIMIT or limit < _LEAST_LIMIT:
                self._held.discard(key)
            if key in self._guesses:
                self._guesses[key].saw(self._name, *count)

    def gram(self) -> np.ndarray | None:
        """None where float32 cannot tell them."""
        if not np.isfinite(self._gram).all():
            for guess in self._guesses.values():
                guess.failed = True  # a NaN is above nothing
            return None
        least = _LEAST_SQUARE * self._base.tensors[self._name].numel
        for square, (key, part) in zip(np.diag(self._gram), self._parts, strict=True):
            if key not in self._held and square < least and not self._is_base(part):
                return None
        return self._gram + np.tril(self._gram, -1).T

    def _read(self, part: Difference, start: int, stop: int, place: int) -> np.ndarray:
        return part.stored(self._name, start, stop, _SINGLE, _scratch.at(place))[0]

    def _rules(self, start: int, stop: int) -> tuple[list[int], np.ndarray, np.ndarray]:
        """Which values of each ability count, as `kernels.gram_bf16` takes it: the rules, the limits, and the masks that some rules mean."""
        rules, limits, masks = [], np.zeros(len(self._abilities), np.uint32), []
        for number, (ability, weights) in enumerate(self._abilities.items()):
            key, limit = weights.key_neurons, None
            if ability in self._guesses:
                limit = self._guesses[ability].limit(self._name)
            elif key is not None and key.scores.magnitude_of is self._first_of(weights):
                limit = key.limit(self._name, start, stop)
            if key is None:
                rules.append(_ALL)
            elif limit is not None:
                rules.append(_ABOVE_LIMIT)
                limits[number] = limit
            else:
                rules.append(len(masks))
                masks.append(key.chosen(self._name, start, stop))
        return rules, limits, np.stack(masks) if masks else np.empty((0, 0), np.bool_)

    def _first_of(self, weights: AbilityWeights) -> Difference:
        """The difference whose magnitudes the loop holds against a limit."""
        return next(part for part in weights.parts if part.touches(self._name))

    def _is_base(self, part: Difference) -> bool:
        numel, step = self._base.tensors[self._name].numel, kernels.RANGE_ELEMENTS
        ranges = ((start, min(start + step, numel)) for start in range(0, numel, step))
        return all(
            np.array_equal(self._base.values(self._name, *both, _scratch.at(0)), self._read(part, *both, 1))
            for both in ranges
        )
