"""What is opened once and shared by everybody on this server: the workspace, weights, similarities, scores, models.

Every entry is keyed by what it is made from, file times included, so a replaced checkpoint is opened again. Torch and
transformers are imported when the first weight is wanted: the pages that need none open at once.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.studio import limits

if TYPE_CHECKING:
    from maet_core.evaluation.questions import Question
    from maet_core.generation import Speaker
    from maet_core.live import LiveModel
    from maet_core.recipe import Recipe
    from maet_core.selection import Measured
    from maet_core.sources import Sources
    from maet_core.variants import Variants
    from maet_core.workspace import Entry, Workspace

PROJECT = Path(__file__).resolve().parents[2]
DEMO_ASSETS = PROJECT / "assets" / "demo"
IDENTITY_BYTES = 1 << 28

_importing = threading.Lock()


def workspace() -> Workspace:
    """The workspace that `maet app --workspace` names, else ./workspace."""
    return _workspace(os.environ.get("MAET_WORKSPACE") or str(PROJECT / "workspace"))


def models() -> list[Entry]:
    """Everything in models/ and packs/."""
    return _models(str(workspace().path), _signature("models"), _signature("packs"))


def model_entry(path: str) -> Entry | None:
    return next((entry for entry in models() if entry.path == path), None)


def misfit(base: Entry, other: Entry) -> str:
    """Why one cannot be combined with the other; see `maet_core.workspace.misfit`."""
    return _misfit(base.path, _stamp(base.path), other.path, _stamp(other.path), base, other)


def questions() -> list[Question]:
    return _questions(str(workspace().path), _signature("tasks"))


def demo_scores() -> dict[str, dict[str, dict]]:
    """What the bundled models score on the test problems, by model and language; empty unless the demo recipe is the bundled one."""
    bundled, own = DEMO_ASSETS / "recipes" / "demo.yaml", workspace().path / "recipes" / "demo.yaml"
    try:
        if bundled.read_bytes() != own.read_bytes():
            return {}
        return json.loads((DEMO_ASSETS / "manifest.json").read_text("utf-8"))["accuracy"]["test"]
    except (OSError, ValueError, KeyError):
        return {}


def identity(entry: Entry) -> str:
    """The short identity hash of a checkpoint; empty where hashing it would keep the page waiting."""
    if entry.checkpoint is None or entry.nbytes > IDENTITY_BYTES:
        return ""
    return _identity(entry.path, _stamp(entry.path), entry.checkpoint)


def sources(recipe: Recipe) -> Sources:
    """The recipe's models, opened and checked against the base. Raises InputError that names the field."""
    return opened(recipe).with_coefficients(recipe)


def opened(recipe: Recipe) -> Sources:
    """The same without key neurons and with the coefficients of whoever came first; cheap."""
    return _opened(str(workspace().path), _structure(recipe), _stamps(recipe))


def measured(recipe: Recipe) -> Measured:
    """Similarities for any coefficients; measured again only when models or key neurons change."""
    rules = tuple((name, ability.key_neurons) for name, ability in recipe.abilities.items())
    return _measured(str(workspace().path), _structure(recipe), _stamps(recipe), rules, recipe)


def live(recipe: Recipe) -> LiveModel:
    """The resident model for the recipe's sources; its weights are those of whoever asked last."""
    return _live(str(workspace().path), _structure(recipe), _stamps(recipe), recipe)


def live_speaker(recipe: Recipe, label: str) -> Speaker:
    """The merged model as it is under `recipe`: the weights are set when it starts to answer, and stay until it has ended."""
    from maet_core.generation import Speaker

    resident = live(recipe)

    @contextmanager
    def hold() -> Iterator[None]:
        with resident.lock:
            resident.apply(recipe)
            yield

    return Speaker(label, resident.model, resident.tokenizer, hold)


def variant_speaker(recipe: Recipe, label: str) -> Speaker:
    """The model of `recipe` beside those of other recipes, which share with it what they have in common; nobody changes it.

    Where memory does not suffice for one more it is the live model that answers, when its turn has come.
    """
    from maet_core.generation import Speaker
    from maet_core.merging.plan import needs_similarity
    from maet_core.variants import NoRoom

    pool = _variants(str(workspace().path), _structure(recipe), _stamps(recipe), recipe)
    try:
        model = pool.model(recipe, measured(recipe) if needs_similarity(recipe) else None)
    except NoRoom:
        return live_speaker(recipe, label)
    return Speaker(label, model, speaker(recipe.base, label).tokenizer)


def speaker(path: str, label: str) -> Speaker:
    """A checkpoint of the workspace as it is on disk."""
    from maet_core.generation import Speaker

    model, tokenizer = _model(str(workspace().path), path, _stamp(path))
    return Speaker(label, model, tokenizer)


def fingerprint(recipe: Recipe) -> tuple:
    """What the opened models depend on: equal as long as the same files, unchanged, are named."""
    return str(workspace().path), _structure(recipe), _stamps(recipe)


def stamp(relative: str) -> tuple:
    """Sizes and times of the files behind a path of the workspace; () for one that is not there."""
    return _stamp(relative)


@st.cache_resource(show_spinner=False)
def _workspace(path: str) -> Workspace:
    from maet_core.workspace import Workspace

    return Workspace.open(path, DEMO_ASSETS, limits.current().demo)


@st.cache_resource(show_spinner="Reading models …", max_entries=2)
def _models(path: str, models: tuple, packs: tuple) -> list[Entry]:
    return workspace().models()


@st.cache_resource(show_spinner="Checking what fits …", max_entries=256)
def _misfit(base: str, base_stamp: tuple, other: str, other_stamp: tuple, _base: Entry, _other: Entry) -> str:
    from maet_core import workspace

    return workspace.misfit(_base, _other)


@st.cache_resource(show_spinner=False, max_entries=2)
def _questions(path: str, tasks: tuple) -> list[Question]:
    return workspace().questions()


@st.cache_resource(show_spinner=False, max_entries=64)
def _identity(path: str, stamp: tuple, _checkpoint) -> str:
    return _checkpoint.identity.removeprefix("xxh3-")[:10]


@st.cache_resource(show_spinner="Opening models …", max_entries=4)
def _opened(path: str, structure: str, stamps: tuple) -> Sources:
    from maet_core.recipe import Recipe
    from maet_core.sources import Sources

    return Sources.open(Recipe.model_validate_json(structure), path)


@st.cache_resource(show_spinner="Comparing what the ability and the languages changed …", max_entries=8)
def _measured(path: str, structure: str, stamps: tuple, rules: tuple, _recipe: Recipe) -> Measured:
    from maet_core.selection import measure

    return measure(sources(_recipe))


# Who asks for a model says on the screen that it is on its way.
@st.cache_resource(show_spinner=False, max_entries=1)
def _live(path: str, structure: str, stamps: tuple, _recipe: Recipe) -> LiveModel:
    with _importing:
        from maet_core.live import LiveModel

    return LiveModel(sources(_recipe))


@st.cache_resource(show_spinner=False, max_entries=1)
def _variants(path: str, structure: str, stamps: tuple, _recipe: Recipe) -> Variants:
    with _importing:
        from maet_core.variants import Variants

    return Variants(opened(_recipe), speaker(_recipe.base, "").model)


@st.cache_resource(show_spinner=False, max_entries=4)
def _model(path: str, relative: str, stamp: tuple) -> tuple:
    with _importing:
        from maet_core.resident import load_model, load_tokenizer
    from maet_core.checkpoints import Checkpoint

    checkpoint = Checkpoint.open(workspace().resolve(relative))
    return load_model(checkpoint), load_tokenizer(checkpoint)


def _structure(recipe: Recipe) -> str:
    """What has to be opened: the recipe with every number, key neuron and pattern, and the method, taken out."""
    from maet_core.recipe import Recipe, TensorRule

    content = recipe.to_dict()
    for ability in content["abilities"].values():
        ability |= {"gamma": 1.0, "tensors": TensorRule().model_dump()}
        if "pack" not in ability:
            ability |= {"alpha": 1.0, "beta": 0.0}
        ability.pop("key_neurons", None)
    for language in content["languages"].values():
        language["mu"] = 1.0
    content.pop("method", None)
    return Recipe.from_dict({**content, "eta": 1.0, "scales": [], "output": {}}).model_dump_json()


def _stamps(recipe: Recipe) -> tuple:
    from maet_core.workspace import map_sources

    found: list[str] = []
    map_sources(recipe, lambda source: found.append(source) or source)
    return tuple((source, _stamp(source)) for source in sorted(set(found)))


def _stamp(relative: str) -> tuple:
    """Sizes and times of the files behind a source; () for one that is not in the workspace."""
    path = workspace().path / relative
    files = [path] if path.is_file() else sorted(path.glob("*.safetensors")) + sorted(path.glob("*.json"))
    return tuple((file.name, (state := file.stat()).st_size, state.st_mtime_ns) for file in files)


def _signature(folder: str) -> tuple:
    root = workspace().path / folder
    return tuple(
        (path.name, _stamp(path) if path.is_dir() else path.stat().st_mtime_ns) for path in sorted(root.iterdir())
    )
