"""Who is asked: a checkpoint as it is on disk, or a recipe, which is merged in memory and written nowhere."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import xxhash

from maet_core.checkpoints import Checkpoint
from maet_core.errors import InputError
from maet_core.live import LiveModel
from maet_core.recipe import Recipe
from maet_core.resident import load_model, load_tokenizer
from maet_core.sources import Sources
from maet_core.workspace import short_name

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


@dataclass(frozen=True)
class Subject:
    """`label` names it in tables, `identity` changes with any weight. `open()` gives (model, tokenizer) while it is entered."""

    label: str
    source: str
    kind: str  # "checkpoint" | "recipe"
    identity: str
    open: Callable[[], AbstractContextManager[tuple[Any, Any]]]

    def to_json(self) -> dict[str, str]:
        return {name: getattr(self, name) for name in ("label", "source", "kind", "identity")}


def choose_dtype(wanted: str, device: str) -> str:
    """`auto` is float32 on a CPU, where it is also the fastest, and bfloat16 elsewhere."""
    if wanted == "auto":
        return "float32" if device == "cpu" else "bfloat16"
    if wanted not in DTYPES:
        raise InputError(f"dtype: found {wanted!r}, expected auto, {', '.join(DTYPES)}")
    return wanted


def find_subjects(names: Sequence[str], device: str = "cpu", dtype: str = "float32") -> list[Subject]:
    """Opens headers only. Labels are the last part of each name, and more of it where two would be the same."""
    short = [Path(name).stem if _is_recipe(name) else short_name(name) for name in names]
    labels = [label if short.count(label) == 1 else name for label, name in zip(short, names, strict=True)]
    if len(set(labels)) < len(labels):
        raise InputError(f"models: {next(x for x in labels if labels.count(x) > 1)} is named twice")
    return [_subject(name, label, device, DTYPES[dtype]) for name, label in zip(names, labels, strict=True)]


def live_subject(label: str, live: LiveModel, model: Any | None = None) -> Subject:
    """A live model as it is now. `model`: a copy of its weights in another dtype (see `following.Twin`)."""
    return Subject(
        label,
        label,
        "recipe",
        recipe_identity(live.sources),
        lambda: nullcontext((model or live.model, live.tokenizer)),
    )


def recipe_identity(sources: Sources) -> str:
    """Changes with any coefficient and any weight that goes in."""
    content = json.dumps([sources.recipe.to_dict(), sorted(sources.identities().items())], sort_keys=True)
    return f"recipe-{xxhash.xxh3_128_hexdigest(content.encode())}"


def _is_recipe(name: str) -> bool:
    return Path(name).suffix in (".yaml", ".yml")


def _subject(name: str, label: str, device: str, dtype: torch.dtype) -> Subject:
    if _is_recipe(name):
        sources = Sources.open(Recipe.load(name), Path(name).parent)

        def merged() -> tuple[Any, Any]:
            live = LiveModel(sources, device)
            return live.model.to(dtype), live.tokenizer

        return Subject(label, name, "recipe", recipe_identity(sources), lambda: nullcontext(merged()))
    checkpoint = Checkpoint.open(name)

    def loaded() -> tuple[Any, Any]:
        return load_model(checkpoint, device).to(dtype), load_tokenizer(checkpoint)

    return Subject(label, name, "checkpoint", checkpoint.identity, lambda: nullcontext(loaded()))
