"""The folder a user works in: models, packs, scores, recipes, tasks and runs. Nothing outside it is read or written.

models/NAME/         checkpoints and adapters; merged models land here
packs/NAME.safetensors
scores/NAME.safetensors
recipes/NAME.yaml    paths in them are relative to recipes/
tasks/NAME.jsonl     questions; any other file that `maet evaluate` reads as well
corpora/NAME.txt     training text
runs/NAME/           what a background job writes
results/NAME/        what was measured: evaluations, sweeps, tunings
notebook/NAME.jsonl  what people noted: votes, settings they kept
"""

from __future__ import annotations

import json
import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from maet_core.errors import MaetError, WorkspaceError
from maet_core.evaluation.questions import SUFFIXES, Question, read_questions
from maet_core.progress import Progress, tell
from maet_core.recipe import Ability, Language, Recipe

if TYPE_CHECKING:
    from maet_core.checkpoints import Checkpoint

# Torch comes with the checkpoints: it is imported when the first model is looked at, so that the app's first page need not wait.
FOLDERS = ("models", "packs", "scores", "recipes", "tasks", "corpora", "runs", "results")
DEMO_RECIPE = "demo"
_HUB_ID = re.compile(r"^(?!models/|packs/|scores/)[A-Za-z0-9][\w.-]*/[\w.-]+(@[\w./-]+)?$")
_NAME = re.compile(r"^[\w][\w.-]{0,79}$")


@dataclass(frozen=True)
class Entry:
    """One model, adapter or pack. `path` is relative to the workspace; `problem` says why it cannot be used, if so."""

    path: str
    kind: str  # "checkpoint" | "adapter" | "ability pack" | "language pack" | "pack" (one that cannot be read)
    nbytes: int
    architecture: str = ""
    parameters: int = 0
    dtype: str = ""
    layers: int | None = None
    problem: str = ""
    location: Path = field(default=Path(), compare=False)
    checkpoint: Checkpoint | None = field(default=None, repr=False, compare=False)

    @property
    def name(self) -> str:
        return short_name(self.path)


class Workspace:
    def __init__(self, path: Path, read_only: bool = False):
        self.path, self.read_only = path, read_only

    @classmethod
    def open(cls, path: str | Path, demo_assets: Path | None = None, read_only: bool = False) -> Workspace:
        """Opens a folder, making it if it is new; a new one gets the demo project, when `demo_assets` holds one.

        With `read_only` nothing that a person does afterwards is written into it. Raises WorkspaceError when the path is a
        file, or cannot be written.
        """
        path = Path(path).expanduser().resolve()
        if path.exists() and not path.is_dir():
            raise WorkspaceError(f"{path}: a file, expected a folder; choose another workspace")
        try:
            fresh = not any((path / folder).exists() for folder in FOLDERS)
            for folder in FOLDERS:
                (path / folder).mkdir(parents=True, exist_ok=True)
            if fresh and demo_assets and demo_assets.is_dir():
                for folder in FOLDERS:
                    if (demo_assets / folder).is_dir():
                        shutil.copytree(demo_assets / folder, path / folder, dirs_exist_ok=True)
        except OSError as error:
            raise WorkspaceError(
                f"{path}: cannot be used as a workspace ({error.strerror}); choose another folder"
            ) from error
        return cls(path, read_only)

    def need_writable(self) -> None:
        """Raises WorkspaceError where nothing may be written: everything that writes asks this first."""
        if self.read_only:
            raise WorkspaceError("this is a demonstration, nothing is written; `maet app` on your own machine saves it")

    def resolve(self, relative: str | Path) -> Path:
        """The absolute path of something inside. WorkspaceError for `..`, absolute paths and links that lead outside."""
        text = str(relative)
        try:
            target = (self.path / text).resolve()
            inside = "\0" not in text and not Path(text).is_absolute() and target.is_relative_to(self.path)
        except (OSError, ValueError, RuntimeError):
            inside = False
        if not inside or target == self.path:
            raise WorkspaceError(f"{text!r}: outside the workspace {self.path.name}; name something inside it")
        return target

    def new(self, folder: str, name: str, suffix: str = "") -> Path:
        """Where something new of this name goes. WorkspaceError if the name cannot be a file name, is taken, or nothing may be written."""
        self.need_writable()
        if not _NAME.match(name):
            raise WorkspaceError(f"{name!r}: expected a name of letters, digits, '-', '_' and '.'")
        path = self.resolve(f"{folder}/{name}{suffix}")
        if path.exists():
            raise WorkspaceError(f"{folder}/{name}{suffix}: exists already; choose another name")
        return path

    def models(self, progress: Progress | None = None) -> list[Entry]:
        """Everything that a recipe can name, by path. Reads headers only; unreadable ones come with their `problem`."""
        found = [
            path for path in sorted((self.path / "models").iterdir()) if path.is_dir() and not path.name.startswith(".")
        ]
        found += sorted((self.path / "packs").glob("*.safetensors"))
        entries = []
        for path in found:
            tell(progress, None, f"reading {path.name}", len(entries), len(found))
            entries.append(self.entry(path.relative_to(self.path).as_posix()))
        return entries

    def entry(self, relative: str) -> Entry:
        try:
            path = self.resolve(relative)
        except WorkspaceError as error:
            return Entry(relative, "checkpoint", 0, problem=str(error))
        from maet_core.checkpoints import Checkpoint, is_adapter

        if path.suffix == ".safetensors":
            return _describe_pack(relative, path)
        if is_adapter(path):
            return _describe_adapter(relative, path)
        try:
            checkpoint = Checkpoint.open(path)
        except MaetError as error:
            return Entry(relative, "checkpoint", 0, problem=_shorten(error, path))
        dtypes = Counter()
        for info in checkpoint.tensors.values():
            dtypes[info.dtype_name] += info.numel
        return Entry(
            relative,
            "checkpoint",
            checkpoint.nbytes,
            checkpoint.architecture,
            checkpoint.parameters,
            " + ".join(name for name, _ in dtypes.most_common()),
            checkpoint.anatomy.layers,
            location=path,
            checkpoint=checkpoint,
        )

    def recipes(self) -> list[str]:
        return sorted(path.stem for path in (self.path / "recipes").glob("*.yaml"))

    def load_recipe(self, name: str) -> Recipe:
        """The recipe with its paths made relative to the workspace. Raises RecipeError, WorkspaceError for paths outside."""
        return self.adopt(Recipe.load(self.resolve(f"recipes/{name}.yaml")), "recipes")

    def adopt(self, recipe: Recipe, folder: str = "") -> Recipe:
        """Makes the paths of a recipe that lies in `folder` relative to the workspace; refuses any that lead outside."""

        def inward(source: str) -> str:
            if _HUB_ID.match(source) and not (self.path / folder / source).exists():
                return source
            joined = os.path.normpath(os.path.join(folder, source))
            self.resolve(joined)
            return Path(joined).as_posix()

        return map_sources(recipe, inward)

    def save_recipe(self, recipe: Recipe, name: str, overwrite: bool = False) -> Path:
        """Writes a recipe whose paths are relative to the workspace to recipes/; returns its path."""
        self.need_writable()
        path = self.resolve(f"recipes/{name}.yaml")
        if not (overwrite and path.is_file() and _NAME.match(name)):
            path = self.new("recipes", name, ".yaml")
        self.portable(recipe).save(path)
        return path

    def portable(self, recipe: Recipe, folder: str = "recipes") -> Recipe:
        """The recipe as it must read when its file lies in `folder`: `models/base` becomes `../models/base`."""
        return map_sources(recipe, lambda source: Path(os.path.relpath(source, folder)).as_posix())

    def results(self) -> dict[str, str]:
        """What was measured, newest first: the folder's name in results/, and `evaluation`, `sweep` or `tune`."""
        found = []
        for index in [*self.path.glob("results/*/evaluation.json"), *self.path.glob("results/*/search.json")]:
            try:
                kind = "evaluation" if index.name == "evaluation.json" else json.loads(index.read_text("utf-8"))["kind"]
                found.append((index.stat().st_mtime, index.parent.name, str(kind)))
            except (OSError, ValueError, KeyError, TypeError):
                continue  # being replaced, or not ours
        return {name: kind for _, name, kind in sorted(found, reverse=True)}

    def questions(self) -> list[Question]:
        """The questions of the files in tasks/, each with a prompt: where a task has none, the question itself.

        Raises InputError naming file and line of a row that cannot be read.
        """
        found: list[Question] = []
        for path in sorted((self.path / "tasks").iterdir()):
            if path.suffix in SUFFIXES and not path.name.startswith("."):
                rows = read_questions(path, name=f"tasks/{path.name}", answered=False)
                found += [replace(row, task=path.stem, prompt=row.prompt or row.question) for row in rows]
        return found


def short_name(source: str) -> str:
    """What people call a model: the last part of its path, or of its hub id."""
    return source.rstrip("/").rsplit("/", 1)[-1].removesuffix(".safetensors")


def map_sources(recipe: Recipe, change) -> Recipe:
    """A recipe with every path in it (models, packs, scores) replaced by `change(path)`."""

    def ability(item: Ability) -> Ability:
        fields = {
            name: change(value) for name in ("ability", "source_language", "pack") if (value := getattr(item, name))
        }
        rule = item.key_neurons
        if rule and rule.scores:
            fields["key_neurons"] = rule.model_copy(update={"scores": change(rule.scores)})
        return item.model_copy(update=fields)

    def language(item: Language) -> Language:
        return item.model_copy(
            update={name: change(value) for name in ("checkpoint", "pack") if (value := getattr(item, name))}
        )

    return recipe.model_copy(
        update={
            "base": change(recipe.base),
            "abilities": {name: ability(item) for name, item in recipe.abilities.items()},
            "languages": {name: language(item) for name, item in recipe.languages.items()},
        }
    )


def misfit(base: Entry, other: Entry) -> str:
    """Why `other` cannot be combined with `base`: one line, or the empty text when it fits.

    Checkpoints and adapters are compared by tensor names and shapes, packs by the identity of the base they were made for.
    """
    from maet_core.checkpoints import match_tensors
    from maet_core.differences.adapters import Adapter
    from maet_core.weights.packs import PackDifference

    if base.problem or other.problem:
        return other.problem or base.problem
    if base.checkpoint is None:
        return f"{base.name} is no checkpoint, so nothing can be added to it"
    try:
        if other.checkpoint is not None:
            match_tensors(base.checkpoint, other.checkpoint)
        elif other.kind == "adapter":
            Adapter.open(other.location, base.checkpoint, other.name)
        else:
            PackDifference(other.location, base.checkpoint, other.kind.removesuffix(" pack"), other.name)
    except MaetError as error:
        return _shorten(error, other.location)
    return ""


def _describe_adapter(relative: str, path: Path) -> Entry:
    from maet_core.safetensors_file import read_header

    try:
        config = json.loads((path / "adapter_config.json").read_text("utf-8"))
        tensors, _ = read_header(path / "adapter_model.safetensors")
    except (OSError, ValueError) as error:
        return Entry(relative, "adapter", 0, problem=f"adapter_config.json cannot be read ({error})")
    except MaetError as error:
        return Entry(relative, "adapter", 0, problem=_shorten(error, path))
    method = str(config.get("peft_type", "")) if isinstance(config, dict) else ""
    return _describe_file(relative, "adapter", method, path, tensors)


def _describe_pack(relative: str, path: Path) -> Entry:
    from maet_core.weights.packs import read_pack_header

    try:
        file, metadata = read_pack_header(path)
    except MaetError as error:
        return Entry(relative, "pack", 0, problem=_shorten(error, path))
    return _describe_file(relative, f"{metadata['kind']} pack", "", path, file.tensors)


def _describe_file(relative: str, kind: str, architecture: str, path: Path, tensors: dict) -> Entry:
    dtypes = sorted({info.dtype_name for info in tensors.values()})
    nbytes, parameters = sum(info.nbytes for info in tensors.values()), sum(info.numel for info in tensors.values())
    return Entry(relative, kind, nbytes, architecture, parameters, " + ".join(dtypes), location=path)


def _shorten(error: MaetError, path: Path) -> str:
    """The message without the leading path, which the table shows beside it."""
    return str(error).replace(f"{path}/", "").removeprefix(f"{path}: ")
