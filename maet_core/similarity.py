"""Inner products within one tensor of everything that R(A) and R_Lang are sums of: what the similarities of step 4 come from.

One compiled loop goes through large tensors of which all inputs are bf16 weights; others are read into memory part by part.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from types import MappingProxyType

import numpy as np

from maet_core import kernels
from maet_core.checkpoints import Checkpoint
from maet_core.differences import Difference, widened
from maet_core.ranking import Guess
from maet_core.scratch import Scratch
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights

# As much as a thread measures at once: several chunks, for each range has its costs beside the loops.
_RANGE = 4 * kernels.CHUNK_ELEMENTS

# Fewer values than this are added up in float64; of as many, errors of float32 even out.
_SMALL = 1 << 16
# Changes whose mean square is smaller than this may be among those whose squares float32 cannot hold; not those above this limit.
_LEAST_SQUARE = 1e-28
_LEAST_LIMIT = np.float32(1e-14).view(np.uint32)

_scratch = Scratch()
_ALL, _ABOVE_LIMIT = -1, -2  # which values of an ability count, as `kernels.gram_bf16` calls it


def inner_products(
    sources: Sources, name: str, guesses: Mapping[str, Guess] = MappingProxyType({})
) -> dict[str, np.ndarray] | None:
    """Per ability that changes the tensor: the inner products, float64, of its one or two differences on its key neurons, and of the
    languages', in the order of the recipe. Among languages they are over all neurons. Raises CheckpointError for a NaN or an infinity.

    `guesses` stand for the key neurons of their abilities, and are told what is seen. With them the result may have abilities without a
    key neuron in the tensor, or be None, where the tensor can be measured only once they are known.
    """
    touching = {key: weights for key, weights in sources.abilities.items() if _touches(weights, name, guesses.get(key))}
    if not touching:
        return {}
    found = _from_bits(sources, name, touching, guesses)
    if found is None and guesses.keys().isdisjoint(touching):
        found = _from_values(sources, name, touching)
    return found


def _touches(weights: AbilityWeights, name: str, guess: Guess | None) -> bool:
    if guess is None:
        return weights.touches(name)
    return name in guess.values.sizes and weights.ability.touches(name)  # nothing is chosen where it changes nothing


# --- bf16 weights alone --------------------------------------------------------------------------------------------


def _from_bits(
    sources: Sources,
    name: str,
    abilities: dict[str, AbilityWeights],
    guesses: Mapping[str, Guess] = MappingProxyType({}),
) -> dict[str, np.ndarray] | None:
    """None for small tensors, and where something else than finite bf16 weights is among the inputs, or an odd number of them."""
    base, languages = sources.base, list(sources.languages.values())
    parts = [(key, part) for key, weights in abilities.items() for part in weights.parts]
    parts += [("", part) for part in languages]
    there = [(key, part) for key, part in parts if part.touches(name)]
    numel = base.tensors[name].numel
    if numel < _SMALL or numel % 2 or base.tensors[name].code != "BF16":
        return None
    if not all(part.holds_bf16_weights(name) for _, part in there):
        return None
    gram = _gram_of_bits(sources, name, abilities, there, guesses)
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


def _gram_of_bits(
    sources: Sources,
    name: str,
    abilities: dict[str, AbilityWeights],
    parts: list[tuple[str, Difference]],
    guesses: Mapping[str, Guess],
) -> np.ndarray | None:
    """The inner products of `parts`, each beside the ability that it is of ("": a language); None where float32 cannot tell them."""
    *own, languages = (
        [number for number, (owner, _) in enumerate(parts, start=1) if owner == key] for key in (*abilities, "")
    )
    four_each = np.array(languages + [0] * (-len(languages) % 4 if languages else 4), np.int64)
    base, single = sources.base, np.dtype(np.float32)
    numel = base.tensors[name].numel
    gram = np.zeros((len(parts), len(parts)))
    wanted = np.array([guesses[key].bits if key in guesses else 0 for key in abilities], np.uint32)
    held = set(abilities)  # of what float32 holds the squares for sure
    step = next((guess.values.step for guess in guesses.values()), _RANGE)
    for start in range(0, numel, step):
        stop = min(start + step, numel)
        read = {
            part: part.stored(name, start, stop, single, _scratch.at(number))[0]
            for number, part in enumerate(dict.fromkeys(part for _, part in parts), start=1)
        }
        stored = [base.values(name, start, stop, _scratch.at(0)), *(read[part] for _, part in parts)]
        addresses = kernels.addresses_of(stored)
        rules, limits, masks = _rules(abilities, name, start, stop, guesses)
        for key, rule, limit in zip(abilities, rules, limits, strict=True):
            if rule != _ABOVE_LIMIT or limit < _LEAST_LIMIT:
                held.discard(key)
        rows = np.array([(*(*numbers, 0)[:2], rule) for numbers, rule in zip(own, rules, strict=True)], np.int64)
        counts = np.zeros((len(abilities), 2), np.int64)
        kernels.gram_bf16(addresses, stop - start, rows, limits, masks, four_each, gram, wanted, counts)
        for key, count in zip(abilities, counts, strict=True):
            if key in guesses:
                guesses[key].saw(name, *count)
    if not np.isfinite(gram).all():
        for guess in guesses.values():
            guess.failed = True  # a NaN is above nothing
        return None
    for square, (key, part) in zip(np.diag(gram), parts, strict=True):
        if key not in held and square < _LEAST_SQUARE * numel and not _is_base(part, base, name):
            return None
    return gram + np.tril(gram, -1).T


def _is_base(part: Difference, base: Checkpoint, name: str) -> bool:
    numel, single = base.tensors[name].numel, np.dtype(np.float32)
    ranges = ((start, min(start + _RANGE, numel)) for start in range(0, numel, _RANGE))
    return all(np.array_equal(base.values(name, *both), part.stored(name, *both, single)[0]) for both in ranges)


def _rules(
    abilities: dict[str, AbilityWeights], name: str, start: int, stop: int, guesses: Mapping[str, Guess]
) -> tuple[list[int], np.ndarray, np.ndarray]:
    """Which values of each ability count, as `kernels.gram_bf16` takes it: the rules, the limits, and the masks that some rules mean."""
    rules, limits, masks = [], np.zeros(len(abilities), np.uint32), []
    for number, (ability, weights) in enumerate(abilities.items()):
        key, limit = weights.key_neurons, None
        if ability in guesses:
            limit = guesses[ability].limit(name)
        elif key is not None and key.scores.magnitude_of is next(part for part in weights.parts if part.touches(name)):
            limit = key.limit(name, start, stop)
        if key is None:
            rules.append(_ALL)
        elif limit is not None:
            rules.append(_ABOVE_LIMIT)
            limits[number] = limit
        else:
            rules.append(len(masks))
            masks.append(key.chosen(name, start, stop))
    return rules, limits, np.stack(masks) if masks else np.empty((0, 0), np.bool_)


# --- any values ----------------------------------------------------------------------------------------------------


def _from_values(sources: Sources, name: str, abilities: dict[str, AbilityWeights]) -> dict[str, np.ndarray]:
    grams: dict[str, np.ndarray] = {}
    for start in range(0, sources.base.tensors[name].numel, _RANGE):
        part = _Range(sources, name, start)
        among_languages = _gram(part.language_values)
        for key, weights in abilities.items():
            own, languages = part.on_key_neurons(weights)
            gram = _gram([*own, *languages], columns=len(own))
            gram[len(own) :, len(own) :] = among_languages
            grams[key] = grams.get(key, 0) + gram
    return {key: np.tril(gram) + np.tril(gram, -1).T for key, gram in grams.items()}


class _Range:
    """The elements of a tensor from `start` on, `_RANGE` of them at most; what is costly is computed when it is asked for."""

    def __init__(self, sources: Sources, name: str, start: int):
        self.name, self.start = name, start
        self.stop = min(start + _RANGE, sources.base.tensors[name].numel)
        self._base, self._languages = sources.base, list(sources.languages.values())
        self._precision = sources.precision(name)
        self._stored = sources.base.values(name, start, self.stop)

    @cached_property
    def base(self) -> np.ndarray:
        return widened(self._stored, self._base.source, self.name, self.start, self._precision)

    @cached_property
    def language_values(self) -> list[np.ndarray | None]:
        return [self._values(part) for part in self._languages]

    def _values(self, part: Difference) -> np.ndarray | None:
        return part.values(self.name, self.start, self.stop, self.base) if part.touches(self.name) else None

    def on_key_neurons(self, weights: AbilityWeights) -> tuple[list[np.ndarray | None], list[np.ndarray | None]]:
        """The differences of an ability, and those of the languages, on its key neurons; on all if it has none."""
        own, keys = [self._values(part) for part in weights.parts], weights.key_neurons
        if keys is None:
            return own, self.language_values
        # the ranking is on float32 scores, and what is read in another precision is not what was ranked
        known = dict(zip(weights.parts, own, strict=True)).get if self._precision == np.float32 else None
        positions = np.flatnonzero(keys.chosen(self.name, self.start, self.stop, known))
        return tuple(
            [None if values is None else values[positions] for values in parts] for parts in (own, self.language_values)
        )


def _gram(vectors: list[np.ndarray | None], columns: int | None = None) -> np.ndarray:
    """The inner products of each vector with itself and the ones before it, among the first `columns` only; None stands for zero."""
    gram = np.zeros((len(vectors), len(vectors)))
    for i, first in enumerate(vectors):
        for j, second in enumerate(vectors[: i + 1][:columns]):
            if first is not None and second is not None:
                gram[i, j] = kernels.inner_product(first, second)
    return gram
