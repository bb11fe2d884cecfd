"""Everything that a recipe names, opened once and checked against the base."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np

from maet_core.checkpoints import Checkpoint
from maet_core.differences import Difference, Models, locate_source, widest
from maet_core.errors import MaetError, PackError, RecipeError, ScoresError
from maet_core.identity import file_stamp
from maet_core.importance import KeyNeurons, SavedScores, locate
from maet_core.importance.key_neurons import remembered_key_neurons
from maet_core.progress import Halted, Progress
from maet_core.ranking import Cuts
from maet_core.recipe import Ability, KeyNeuronRule, Recipe
from maet_core.remembered import stamps
from maet_core.safetensors_file import SafetensorsFile
from maet_core.weights.ability import AbilityWeights
from maet_core.weights.packs import PackDifference

Row = tuple[Difference, KeyNeurons | None]
"""What can be added to a tensor: a difference, on the key neurons only if there are some."""


@dataclass(frozen=True)
class Rows:
    """Everything that a recipe can add to a tensor, in the order of addition. Most tensors of a model have the same, and every step of a
    slider looks them up."""

    all: tuple[Row, ...]

    def __hash__(self) -> int:
        return self._hash

    @cached_property
    def _hash(self) -> int:
        return hash(self.all)


@dataclass
class Sources:
    """The base and what is added to it, under the names that the recipe gives them.

    Opening reads headers and, where a recipe has key neurons, the scores; no weights stay in memory. `with_coefficients` makes
    the same sources follow another recipe that differs only in numbers.
    """

    recipe: Recipe
    folder: Path
    base: Checkpoint
    abilities: dict[str, AbilityWeights]
    languages: dict[str, Difference]
    cuts: Cuts = field(default_factory=Cuts)
    _rows: dict[str, Rows] = field(default_factory=dict, repr=False)

    @classmethod
    def open(
        cls,
        recipe: Recipe,
        folder: str | Path = ".",
        progress: Progress | None = None,
        halted: Halted | None = None,
        ranked: bool = True,
    ) -> Sources:
        """`folder` is what relative paths of the recipe start from. Key neurons are ranked now or, unless they are `ranked`, when they are
        first asked for: similarities can be measured along with it. Raises InputError naming the field that does not fit."""
        folder = Path(folder)
        base = _named("base", lambda: Checkpoint.open(locate_source(recipe.base, folder)))
        base.source = recipe.base
        opener = _Opener(base, folder)
        abilities = {name: opener.ability(f"abilities.{name}", ability) for name, ability in recipe.abilities.items()}
        languages = {
            name: opener.difference(f"languages.{name}", language.checkpoint, language.pack, "language")
            for name, language in recipe.languages.items()
        }
        sources = cls(recipe, folder, base, abilities, languages)
        if ranked:
            sources.rank(progress, halted)
        return sources

    def with_coefficients(self, recipe: Recipe) -> Sources:
        """The same sources under other α, β, γ, η, μ, k1, k2 and patterns. Only key neurons whose rule changed are found again.

        Raises RecipeError if the recipe names other models: those must be opened.
        """
        if _models(recipe) != _models(self.recipe):
            raise RecipeError("recipe: it names other models than the ones that are open")
        opener = _Opener(self.base, self.folder)
        abilities = {}
        for name, ability in recipe.abilities.items():
            weights = self.abilities[name]
            keys = weights.key_neurons
            if ability.key_neurons != self.recipe.abilities[name].key_neurons:
                keys = opener.key_neurons(f"abilities.{name}", ability.key_neurons, weights.ability)
            alpha, beta = (1.0, 0.0) if ability.pack else (ability.alpha, ability.beta)
            abilities[name] = AbilityWeights(weights.ability, weights.source_language, alpha, beta, keys)
        languages = {name: self.languages[name] for name in recipe.languages}  # in the order of this recipe
        follows = Sources(recipe, self.folder, self.base, abilities, languages, self.cuts)
        follows.rank()
        if follows._added() == self._added():
            follows._rows = self._rows
        return follows

    def rank(
        self, progress: Progress | None = None, halted: Halted | None = None, but: Container[str] = frozenset()
    ) -> None:
        """Ranks the key neurons that are not ranked yet, but those of some abilities."""
        for name, weights in self.abilities.items():
            if weights.key_neurons is not None and name not in but:
                _named(f"abilities.{name}.key_neurons", partial(weights.key_neurons.rank, progress, halted))

    def rows(self, name: str) -> Rows:
        """What this recipe, or one with other coefficients, adds to a tensor."""
        if name not in self._rows:
            rows = tuple(
                (part, weights.key_neurons)
                for weights in self.abilities.values()
                if weights.touches(name)
                for part in weights.parts
                if part.touches(name)
            )
            languages = tuple((part, None) for part in self.languages.values() if part.touches(name))
            self._rows[name] = Rows(rows + languages)
        return self._rows[name]

    def _added(self) -> list[Row]:
        parts = [(part, weights.key_neurons) for weights in self.abilities.values() for part in weights.parts]
        return parts + [(part, None) for part in self.languages.values()]

    @property
    def differences(self) -> list[Difference]:
        return [part for weights in self.abilities.values() for part in weights.parts] + list(self.languages.values())

    @property
    def files(self) -> list[SafetensorsFile]:
        found = {id(file): file for part in (self.base, *self.differences) for file in part.files}
        return list(found.values())

    @property
    def bytes_read(self) -> int:
        """Bytes of weights read from disk so far, hashing included."""
        return sum(file.bytes_read for file in self.files)

    def stamps(self) -> dict[str, list[int]]:
        """Size, time and inode of every input file: while these stay, the inputs are the same."""
        return {str(file.path.resolve()): file_stamp(file.path) for file in self.files}

    def hash_in_passing(self) -> None:
        """From now on what is read is hashed as well, so that `identities` need not read it again."""
        for file in self.files:
            file.hash_in_passing()

    def precision(self, name: str) -> np.dtype:
        """The dtype in which a tensor is accumulated: float64 where an input is, else float32."""
        codes = [part.code(name) for part in self.differences if part.touches(name)]
        return widest(self.base.tensors[name].code, *codes)

    def identities(self) -> dict[str, str]:
        """Identity hash of every input, by the source that the recipe names."""
        found = {self.recipe.base: self.base.identity}
        for part in [part for weights in self.abilities.values() for part in weights.parts] + list(
            self.languages.values()
        ):
            found[part.source] = part.identity
        return found


class _Opener:
    def __init__(self, base: Checkpoint, folder: Path):
        self.base, self.folder = base, folder
        self._models = Models(base, folder)

    def ability(self, field: str, ability: Ability) -> AbilityWeights:
        weights = self.difference(field, ability.ability, ability.pack, "ability")
        if ability.pack is not None:
            return AbilityWeights(weights, None, 1.0, 0.0)
        source = None
        if ability.source_language is not None:
            source = _named(f"{field}.source_language", lambda: self._models.open(ability.source_language))
        keys = self.key_neurons(field, ability.key_neurons, weights)
        return AbilityWeights(weights, source, ability.alpha, ability.beta, keys)

    def difference(self, field: str, checkpoint: str | None, pack: str | None, kind: str) -> Difference:
        if pack is None:
            name = "ability" if kind == "ability" else "checkpoint"
            opened = _named(f"{field}.{name}", lambda: self._models.open(checkpoint))
        else:
            opened = _named(f"{field}.pack", lambda: self._pack(pack, kind))
        return opened

    def key_neurons(self, field: str, rule: KeyNeuronRule | None, trained: Difference) -> KeyNeurons | None:
        return None if rule is None else _named(f"{field}.key_neurons", lambda: self._key_neurons(rule, trained))

    def _key_neurons(self, rule: KeyNeuronRule, trained: Difference) -> KeyNeurons:
        if rule.scores is None:
            scores = locate(rule.method, self.base, trained, rule.granularity, rule.seed)
        else:
            scores = SavedScores(_existing(rule.scores, self.folder, ScoresError), self.base)
            for field, wanted, found in (
                ("method", rule.method, scores.method),
                ("granularity", rule.granularity, scores.granularity),
            ):
                if wanted != found:
                    raise ScoresError(
                        f"{field}: the recipe says {wanted}, the scores in {rule.scores} were made with {found}"
                    )
        return remembered_key_neurons(scores, rule.k1, rule.scope, self._about(rule, trained))

    def _about(self, rule: KeyNeuronRule, trained: Difference) -> Any | None:
        """What key neurons depend on."""
        if rule.scores is None:
            origin = [self.base.stamp, trained.stamp]
        else:
            origin = [self.base.stamp, stamps([self.folder / Path(rule.scores).expanduser()])]
        return None if None in origin else [origin, rule.model_dump(mode="json", exclude={"scores"})]

    def _pack(self, source: str, kind: str) -> PackDifference:
        return PackDifference(_existing(source, self.folder, PackError), self.base, kind, source)


def _existing(source: str, folder: Path, error: type[MaetError]) -> Path:
    path = folder / Path(source).expanduser()
    if not path.is_file():
        raise error(f"{source}: no such file ({path})")
    return path


def _models(recipe: Recipe) -> tuple:
    return (
        recipe.base,
        {name: (ability.ability, ability.source_language, ability.pack) for name, ability in recipe.abilities.items()},
        {name: (language.checkpoint, language.pack) for name, language in recipe.languages.items()},
    )


def _named(field: str, action):
    """Runs it; an error is told with the recipe's field in front."""
    try:
        return action()
    except MaetError as error:
        raise type(error)(f"{field}: {error}") from error
