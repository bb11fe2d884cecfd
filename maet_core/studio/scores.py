"""Where importance scores come from on this server: abilities, languages, files in scores/, and the random control.

Scores and what is counted from them are shared by everybody, like the models; see `resources`. All the steps of the k1 slider are
ranked in one pass when the first is wanted, so that the slider then moves at once, whatever the size of the model.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import resources, shared_work, waiting
from maet_core.workspace import short_name

if TYPE_CHECKING:
    import pandas as pd

    from maet_core.importance import KeyNeurons, Scores
    from maet_core.inspection.overlap import Overlap
    from maet_core.progress import Progress

K1_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0)
# A pass over this many scores is over before anybody would want to stop it.
QUICK_SCORES = 30_000_000
RANDOM = "random"
MOST_SCORES, MOST_TABLES = 12, 48
_SCORES = "neurons-scores"


@dataclass(frozen=True)
class Origin:
    """Something that ranks neurons. `id` goes into links: `ability:math`, `language:sw`, `file:scores/x.safetensors`, `random`."""

    id: str
    title: str
    note: str


def origins(recipe: Recipe) -> list[Origin]:
    """All that can be drawn for this recipe, the control last."""
    found = []
    for name, ability in recipe.abilities.items():
        if not ability.pack:
            method = ability.key_neurons.method if ability.key_neurons else "value-change"
            found.append(Origin(f"ability:{name}", name, f"ability, {method}"))
    for name, ability in recipe.abilities.items():
        if ability.source_language:
            found.append(Origin(f"source:{name}", short_name(ability.source_language), "source language, value-change"))
    for name in recipe.languages:
        found.append(Origin(f"language:{name}", name, "language, value-change"))
    own = {ability.key_neurons.scores for ability in recipe.abilities.values() if ability.key_neurons}
    for path in sorted((resources.workspace().path / "scores").glob("*.safetensors")):
        relative = f"scores/{path.name}"
        if relative in own:
            continue  # the ability itself
        head = _head(str(path), resources.stamp(relative))
        found.append(Origin(f"file:{relative}", path.stem, f"scores/, {head.get('method', 'not readable')}"))
    return [*found, Origin(RANDOM, "random control", "as many neurons, drawn by lot")]


def split_half(recipe: Recipe, origin: str) -> dict[float, float]:
    """{k1 in percent: share of key neurons that two halves of the corpus agree on}, where the file of scores stored it."""
    path = _file(recipe, origin)
    if path is None:
        return {}
    stored = _head(str(resources.workspace().resolve(path)), resources.stamp(path)).get("split_half")
    try:
        return {float(k1): float(share) for k1, share in dict(stored or {}).items()}
    except (TypeError, ValueError):
        return {}


def key_neurons(recipe: Recipe, origin: str, rule: KeyNeuronRule) -> KeyNeurons:
    """The top k1 % of an origin's neurons. A file says by itself what its neurons are; the others follow `rule`.

    Of many neurons the first ranking shows a bar and can be stopped: then, here and below, NotThere ends the page. Raises
    ScoresError for a file that cannot be read or is for another base, and for an ability that is a pack.
    """
    from maet_core.importance import select_for_each

    method, granularity = _method(recipe, origin, rule)
    file = _file(recipe, origin)
    stamp = resources.stamp(file) if file else ()
    scores = _scores((*resources.fingerprint(recipe), origin, method, granularity, rule.seed, stamp), recipe)
    steps = K1_STEPS if rule.k1 in K1_STEPS else (rule.k1,)
    ranked = _once(
        "neurons-ranked",
        (_Identity(scores), rule.scope, steps),
        lambda progress: select_for_each(scores, steps, rule.scope, progress),
        f"Ranking the neurons of {_title(recipe, origin)}",
        is_quick(scores),
    )
    return ranked[steps.index(rule.k1)]


def cell_table(keys: KeyNeurons) -> pd.DataFrame:
    """Key neurons by layer and module; see `maet_core.importance.cell_table`."""
    from maet_core import importance

    sums = _once(
        "neurons-sums",
        _Identity(keys.scores),
        lambda progress: importance.importance_sums(keys.scores, progress),
        "Adding up importance",
        is_quick(keys.scores),
    )
    return _once(
        "neurons-cells",
        _Identity(keys),
        lambda progress: importance.cell_table(keys, sums, progress),
        "Counting key neurons",
        is_quick(keys.scores),
    )


def is_quick(scores: Scores) -> bool:
    """Whether a pass over all of these scores takes no time worth telling."""
    from maet_core.importance import SavedScores

    read = sum(map(prod, scores.shapes.values())) if isinstance(scores, SavedScores) else scores.base.parameters
    return read <= QUICK_SCORES


@dataclass(frozen=True)
class _Identity:
    """An object as part of a signature; it is kept, so that no other one can take over its identity."""

    of: object

    def __hash__(self) -> int:
        return id(self.of)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Identity) and other.of is self.of


def _once(key: str, signature, work, what: str, quick: bool):
    """The result of `work(progress)`, kept for everybody; behind a bar unless it is quick. Raises NotThere after a Stop."""
    if quick:
        return waiting.at_once(key, signature, lambda: work(None), MOST_TABLES)
    return waiting.shared(key, signature, work, what, MOST_TABLES)


def _title(recipe: Recipe, origin: str) -> str:
    return next((one.title for one in origins(recipe) if one.id == origin), origin)


def unit_table(keys: KeyNeurons, module: str, layer: int | None) -> pd.DataFrame:
    """The units inside one cell; see `maet_core.importance.unit_table`."""
    from maet_core import importance

    place = module if layer is None else f"{module} of layer {layer}"
    return _once(
        "neurons-units",
        (_Identity(keys), module, layer),
        lambda progress: importance.unit_table(keys, layer, module, progress),
        f"Adding up the units of {place}",
        is_quick(keys.scores),
    )


def overlaps(sets: tuple[KeyNeurons, ...]) -> dict[tuple[int, int], Overlap] | None:
    """Every pair of sets; see `maet_core.inspection.overlap`. Of many neurons it shows a bar; None after a Stop."""
    from maet_core.inspection.overlap import overlaps

    signature = tuple(map(_Identity, sets))
    if all(is_quick(keys.scores) for keys in sets):
        return waiting.at_once("neurons-overlaps", signature, lambda: overlaps(sets))
    work = "Comparing key neurons"
    return waiting.result("neurons-overlaps", signature, lambda progress: overlaps(sets, progress), work)


def control(keys: KeyNeurons) -> KeyNeurons:
    """As many random neurons in every tensor."""
    from maet_core.knockout import random_like

    return _once(
        "neurons-control",
        _Identity(keys),
        lambda progress: random_like(keys, progress=progress),
        "Drawing the random control",
        is_quick(keys.scores),
    )


def _method(recipe: Recipe, origin: str, rule: KeyNeuronRule) -> tuple[str, str]:
    kind, _, name = origin.partition(":")
    own = recipe.abilities[name].key_neurons if kind == "ability" and name in recipe.abilities else None
    if kind == RANDOM:
        return RANDOM, rule.granularity
    return (own.method if own else "value-change"), rule.granularity


def _file(recipe: Recipe, origin: str) -> str | None:
    """The file of scores behind an origin, if there is one."""
    kind, _, name = origin.partition(":")
    if kind == "file":
        return name
    ability = recipe.abilities.get(name) if kind == "ability" else None
    return ability.key_neurons.scores if ability and ability.key_neurons else None


def _scores(place: tuple, recipe: Recipe) -> Scores:
    if (found := shared_work.known(_SCORES, place)) is not None:
        return found
    from maet_core.errors import ScoresError
    from maet_core.importance import SavedScores, locate

    *_, origin, method, granularity, seed, _ = place
    sources = resources.opened(recipe)
    kind, _, name = origin.partition(":")
    if kind == "ability" and recipe.abilities[name].pack:
        raise ScoresError(f"abilities.{name}: a pack holds its key neurons already; choose a checkpoint to look inside")
    file = _file(recipe, origin)
    path = file and resources.workspace().resolve(file)

    def work(progress: Progress) -> Scores:
        progress("reading importance scores", 0, 1)
        if path:
            return SavedScores(path, sources.base)
        trained = {
            "ability": lambda: sources.abilities[name].ability,
            "source": lambda: sources.abilities[name].source_language,
            "language": lambda: sources.languages[name],
            RANDOM: lambda: None,
        }[kind]()
        return locate(method, sources.base, trained, granularity, seed)

    return waiting.shared(_SCORES, place, work, f"Reading the scores of {_title(recipe, origin)}", MOST_SCORES)


@st.cache_resource(show_spinner=False, max_entries=64)
def _head(path: str, stamp: tuple) -> dict:
    """What a file of scores says about itself; empty for one that cannot be read."""
    from maet_core.errors import MaetError
    from maet_core.safetensors_file import read_header

    try:
        content = json.loads(read_header(Path(path))[1]["maet"])
    except (MaetError, KeyError, ValueError, TypeError):
        return {}
    return content if isinstance(content, dict) else {}
