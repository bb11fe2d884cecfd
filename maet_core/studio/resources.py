"""What is opened once and shared by everybody on this server: the workspace, its questions, the files that a recipe names.

Every entry is keyed by what it is made from, file times included, so a replaced checkpoint is opened again. The models that answer
are in `in_memory`.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.studio import limits, waiting

if TYPE_CHECKING:
    from maet_core.evaluation.questions import Question
    from maet_core.progress import Progress
    from maet_core.recipe import Recipe
    from maet_core.sources import Sources
    from maet_core.workspace import Entry, Workspace

PROJECT = Path(__file__).resolve().parents[2]
DEMO_ASSETS = PROJECT / "assets" / "demo"
IDENTITY_BYTES = 1 << 28


def workspace() -> Workspace:
    """The workspace that `maet app --workspace` names, else ./workspace."""
    return _workspace(os.environ.get("MAET_WORKSPACE") or str(PROJECT / "workspace"))


def models() -> list[Entry]:
    """Everything in models/ and packs/."""
    here = workspace()
    signature = str(here.path), _signature("models"), _signature("packs")
    return waiting.shared("models", signature, here.models, "Reading the models' headers", 2)


def model_entry(path: str) -> Entry | None:
    return next((entry for entry in models() if entry.path == path), None)


def misfit(base: Entry, other: Entry) -> str:
    """Why one cannot be combined with the other; see `maet_core.workspace.misfit`."""
    from maet_core.workspace import misfit

    signature = str(workspace().path), base.path, _stamp(base.path), other.path, _stamp(other.path)
    return waiting.shared(
        "misfit", signature, lambda _: misfit(base, other), f"Checking whether {other.name} fits", 256
    )


def questions() -> list[Question]:
    return _questions(str(workspace().path), _signature("tasks"))


def demo_scores(recipe: str, ability: str) -> dict[str, dict[str, dict]]:
    """What the bundled models score on an ability's test problems, by model and language; empty unless this recipe is a bundled one."""
    bundled, own = (folder / "recipes" / f"{recipe}.yaml" for folder in (DEMO_ASSETS, workspace().path))
    try:
        if bundled.read_bytes() != own.read_bytes():
            return {}
        return json.loads((DEMO_ASSETS / "manifest.json").read_text("utf-8"))["accuracy"][ability]["test"]
    except (OSError, ValueError, KeyError):
        return {}


def identity(entry: Entry) -> str:
    """The short identity hash of a checkpoint; empty where hashing it takes too long for a column of a table."""
    if entry.checkpoint is None or entry.nbytes > IDENTITY_BYTES:
        return ""
    signature = str(workspace().path), entry.path, _stamp(entry.path)
    what = f"Hashing {entry.name}"
    return waiting.shared(
        "identity", signature, lambda _: entry.checkpoint.identity.removeprefix("xxh3-")[:10], what, 64
    )


def opened(recipe: Recipe) -> Sources:
    """The recipe's models, opened and checked against the base, without key neurons and with the coefficients of whoever came first.

    `with_coefficients` gives the recipe's own. Raises InputError that names the field.
    """
    from maet_core.recipe import Recipe
    from maet_core.sources import Sources

    def work(progress: Progress) -> Sources:
        return Sources.open(Recipe.model_validate_json(structure), path, progress)

    path, structure, _ = signature = fingerprint(recipe)
    return waiting.shared("opened", signature, work, "Opening the recipe's models", 4)


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


@st.cache_resource(show_spinner=False, max_entries=2)
def _questions(path: str, tasks: tuple) -> list[Question]:
    return workspace().questions()


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
