"""Step 4 of the method: which tensors carry the ability and not the languages.

One pass over the weights measures, per tensor, the inner products between everything that R(A) and R_Lang are sums of. The
cosine similarity for any α, β and μ, and with it T_i for any k2, then costs no look at the weights.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, Literal

import numpy as np

from maet_core import equations, kernels
from maet_core.anatomy import Place
from maet_core.counting import percent_count
from maet_core.differences import widened
from maet_core.errors import RecipeError
from maet_core.progress import Halted, Progress
from maet_core.ranked_in_passing import rank_and_measure
from maet_core.recipe import Recipe, TensorRule
from maet_core.remembered import recall, remember
from maet_core.similarity import Products
from maet_core.sources import Sources

# Below this share of its parts' squares a sum has lost too many digits to cancellation; it is then computed from the weights.
_CANCELLATION = 1e-2
# Cosines that agree to this many decimals are a tie: beyond it the order of summation decides.
_DECIMALS = 7
_KIND = "similarity"


@dataclass(frozen=True)
class Row:
    """One candidate tensor of an ability: s_t, and whether it is in T_i by the rule or by hand."""

    name: str
    layer: int | None
    module: str
    parameters: int
    cosine: float
    norm: float
    selected: bool
    by: Literal["rule", "hand"]


@dataclass(frozen=True)
class Selection:
    """T_i and the table it comes from, candidates sorted by tensor name."""

    rows: tuple[Row, ...]
    k2: float

    @cached_property
    def tensors(self) -> frozenset[str]:
        return frozenset(row.name for row in self.rows if row.selected)


class Measured:
    """Inner products of all candidate tensors, by ability. Valid for every recipe that names the same models and key neurons."""

    def __init__(self, sources: Sources, products: dict[str, Products]):
        self.sources = sources
        self._products = products
        self._last: dict[str, tuple[object, Selection]] = {}  # γ is asked for most, and selects nothing else

    def select(self, recipe: Recipe) -> dict[str, Selection]:
        """T_i of every ability under the recipe's α, β, μ, k2, include and exclude.

        Raises RecipeError for a pattern that matches no tensor.
        """
        with np.errstate(
            over="ignore", invalid="ignore"
        ):  # absurd coefficients overflow; the merge refuses what they give
            return {name: self._select(recipe, name) for name in recipe.abilities}

    def _select(self, recipe: Recipe, ability: str) -> Selection:
        settings = recipe.abilities[ability]
        has_source = self.sources.abilities[ability].source_language is not None
        signs = [1.0] if settings.pack else [settings.alpha, -settings.beta][: 1 + has_source]
        mus = [recipe.languages[name].mu for name in self.sources.languages]
        depends_on = (signs, mus, settings.tensors)
        before = self._last.get(ability)
        if before is None or before[0] != depends_on:
            cosines, norms = {}, {}
            for name, inner, ability_square, language_square in self._similarities(recipe, ability, signs, mus):
                if ability_square > 0:
                    cosines[name] = equations.cosine_similarity(inner, ability_square, language_square)
                    norms[name] = ability_square**0.5
            before = depends_on, choose(cosines, norms, self.sources, settings.tensors, f"abilities.{ability}.tensors")
            self._last[ability] = before
        return before[1]

    def _similarities(
        self, recipe: Recipe, ability: str, signs: list[float], mus: list[float]
    ) -> Iterator[tuple[str, float, float, float]]:
        """Of every tensor its name, ⟨R(A), R_Lang⟩, ‖R(A)‖², ‖R_Lang‖²."""
        products = self._products[ability]
        own, languages = np.array(signs + [0.0] * len(mus)), np.array([0.0] * len(signs) + mus)
        squares = [products.between(own, own), products.between(languages, languages)]
        scales = [products.scale(own), products.scale(languages)]
        lost = (squares[0] < _CANCELLATION * scales[0]) | (squares[1] < _CANCELLATION * scales[1])
        columns = (products.between(own, languages), *squares, lost)
        for name, *found, unsure in zip(products.names, *(column.tolist() for column in columns), strict=True):
            yield name, *(self._similarity_from_weights(recipe, ability, name) if unsure else found)

    def _similarity_from_weights(self, recipe: Recipe, ability: str, name: str) -> tuple[float, float, float]:
        sources = self.sources.with_coefficients(recipe)
        inner = ability_square = language_square = 0.0
        for start, stop, base in _chunks(sources, name):
            own = sources.abilities[ability].values(name, start, stop, base)
            parts = [
                (settings.mu, sources.languages[key].values(name, start, stop, base))
                for key, settings in recipe.languages.items()
                if settings.mu != 0 and sources.languages[key].touches(name)
            ]
            own = own.astype(np.float64)
            ability_square += float(own @ own)
            total = equations.language_sum(parts)
            if total is not None:
                total = total.astype(np.float64)
                language_square += float(total @ total)
                inner += float(own @ total)
        return inner, ability_square, language_square


def measure(sources: Sources, progress: Progress | None = None, halted: Halted | None = None) -> Measured:
    """Reads every tensor that an ability changes once, in chunks, and keeps its inner products: those of large bf16 tensors are right to
    seven digits or more, others to those of float64. What was measured of the same
    files with the same key neurons before is in the user's cache, and not read again."""
    about = _about(sources)
    known = None if about is None else recall(_KIND, about)
    if known is not None:
        return Measured(sources, {ability: Products.from_json(found) for ability, found in known.items()})
    copies = sources.base.tied_copies
    names = [name for name, info in sources.base.tensors.items() if info.mergeable and name not in copies]
    found = rank_and_measure(sources, names, progress, halted)
    products = {}
    for ability, weights in sources.abilities.items():
        grams = {name: grams[ability] for name, grams in zip(names, found, strict=True) if ability in grams}
        order = len(weights.parts) + len(sources.languages)
        products[ability] = Products(
            tuple(grams), np.stack(list(grams.values())) if grams else np.empty((0, order, order))
        )
    if about is not None:
        remember(_KIND, about, {ability: found.to_json() for ability, found in products.items()})
    return Measured(sources, products)


def _about(sources: Sources) -> Any | None:
    """What the inner products depend on; None if something of it cannot be told from another time's."""
    stamped = {part: part.stamp for part in sources.differences}
    keys = {name: weights.key_neurons for name, weights in sources.abilities.items()}
    if None in (sources.base.stamp, *stamped.values()) or any(key and key.about is None for key in keys.values()):
        return None
    abilities = {
        name: [[stamped[part] for part in weights.parts], keys[name] and keys[name].about]
        for name, weights in sources.abilities.items()
    }
    return [sources.base.stamp, abilities, [stamped[part] for part in sources.languages.values()]]


def _chunks(sources: Sources, name: str) -> Iterator[tuple[int, int, np.ndarray]]:
    """(start, stop, base values) over one tensor, in the precision of the merge."""
    total, precision = sources.base.tensors[name].numel, sources.precision(name)
    for start in range(0, total, kernels.CHUNK_ELEMENTS):
        stop = min(start + kernels.CHUNK_ELEMENTS, total)
        stored = sources.base.values(name, start, stop)
        yield start, stop, widened(stored, sources.base.source, name, start, precision)


def choose(
    cosines: dict[str, float], norms: dict[str, float], sources: Sources, rule: TensorRule, field: str
) -> Selection:
    """T_i: the k2 % of the candidates with the lowest similarity, ties by name; then `include`, then `exclude`."""
    ranked = sorted(cosines, key=lambda name: (round(cosines[name], _DECIMALS), name))
    by_rule = set(ranked[: percent_count(rule.k2, len(ranked))])
    places, everything = sources.base.anatomy.places, list(sources.base.tensors)
    included = matching(rule.include, everything, places, f"{field}.include")
    excluded = matching(rule.exclude, everything, places, f"{field}.exclude")
    rows = []
    for name in sorted(cosines):
        selected = (name in by_rule or name in included) and name not in excluded
        place, info = places[name], sources.base.tensors[name]
        by = "rule" if selected == (name in by_rule) else "hand"
        rows.append(Row(name, place.layer, place.module, info.numel, cosines[name], norms[name], selected, by))
    return Selection(tuple(rows), rule.k2)


def matching(patterns: list[str], names: list[str], places: dict[str, Place], field: str) -> set[str]:
    """The names that at least one pattern hits. Raises RecipeError naming `field` for a pattern without a hit."""
    found: set[str] = set()
    for pattern in patterns:
        matches = _matcher(pattern, field)
        hits = {name for name in names if matches(places[name])}
        if not hits:
            raise RecipeError(
                f"{field}: {pattern!r} matches no tensor; `maet inspect` lists their names, layers and modules"
            )
        found |= hits
    return found


def _matcher(pattern: str, field: str) -> Callable[[Place], bool]:
    if pattern.startswith("module:"):
        wanted = pattern.removeprefix("module:").strip()
        return lambda place: wanted in (place.module, *(part.module for part in place.parts))
    if pattern.startswith("layer:"):
        match = re.fullmatch(r"layer:\s*(\d+)(?:\s*-\s*(\d+))?\s*", pattern)
        if not match:
            raise RecipeError(f"{field}: found {pattern!r}, expected `layer:3` or `layer:2-5`")
        first, last = int(match[1]), int(match[2] or match[1])
        return lambda place: place.layer is not None and first <= place.layer <= last
    return lambda place: fnmatchcase(place.name, pattern)
