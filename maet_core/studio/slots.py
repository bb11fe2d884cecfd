"""Which model answers in a column: a checkpoint as it is on disk, or what a recipe makes of the workspace's models."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from maet_core.conversation import Speaker
from maet_core.presets import languages_only, task_vector
from maet_core.recipe import Recipe
from maet_core.studio import in_memory, resources
from maet_core.workspace import short_name


@dataclass(frozen=True)
class Slot:
    """One column: its heading, what is in it (a signature that changes with its weights), and how to get the model."""

    label: str
    note: str
    signature: Any
    speaker: Callable[[], Speaker]

    @property
    def model(self) -> str:
        """Says in a file which model it was: a path, or the name and the short hash of a recipe."""
        if isinstance(self.signature, Recipe):
            return (
                f"{self.label} {hashlib.blake2b(self.signature.model_dump_json().encode(), digest_size=4).hexdigest()}"
            )
        return str(self.signature)

    def source(self) -> dict:
        """The same in full, for exports and votes."""
        if isinstance(self.signature, Recipe):
            return {"recipe": self.signature.to_dict()}
        return {"checkpoint": self.signature}


def base_slot(recipe: Recipe) -> Slot:
    return checkpoint_slot(recipe.base, "Base")


def checkpoint_slot(path: str, label: str = "") -> Slot:
    label = label or short_name(path)
    return Slot(label, path, path, lambda: in_memory.speaker(path, label))


def merged_slot(recipe: Recipe) -> Slot:
    """The one model in memory that follows the sliders."""
    return Slot("Merged", _parts(recipe), recipe, lambda: in_memory.live_speaker(recipe, "Merged"))


def variant_slot(recipe: Recipe, label: str, note: str = "") -> Slot:
    """A model of its own, beside others of the same recipe's models."""
    return Slot(label, note or _parts(recipe), recipe, lambda: in_memory.variant_speaker(recipe, label))


def offered(recipe: Recipe) -> dict[str, tuple[str, Callable[[], Slot]]]:
    """{id: (name in the menu, how to make the slot)} of all that can stand side by side, in the order of the method."""
    found: dict[str, tuple[str, Callable[[], Slot]]] = {
        "base": (f"Base ({short_name(recipe.base)})", lambda: base_slot(recipe)),
    }
    if recipe.languages:
        label = "Languages only"
        note = f"{short_name(recipe.base)} + {' + '.join(recipe.languages)}"
        found["languages"] = (label, lambda: variant_slot(languages_only(recipe), label, note))
    if recipe.abilities:
        found["task-vector"] = ("Task vectors", lambda: variant_slot(task_vector(recipe), "Task vectors"))
    found["merged"] = ("Merged", lambda: variant_slot(recipe, "Merged"))
    own = {ability.ability: name for name, ability in recipe.abilities.items() if ability.ability}
    base = resources.model_entry(recipe.base)
    for entry in resources.models():
        fits = entry.kind == "checkpoint" and entry.path != recipe.base and base and not resources.misfit(base, entry)
        if fits:
            name = f"{entry.name} (ability: {own[entry.path]})" if entry.path in own else entry.name
            found[entry.path] = (name, lambda path=entry.path: checkpoint_slot(path))
    return found


def distinct(chosen: list[Slot]) -> list[Slot]:
    """The same slots under headings that differ, for answers are told apart by them: a checkpoint may be called Merged, too."""
    seen: Counter[str] = Counter()
    found = []
    for slot in chosen:
        seen[slot.label] += 1
        again = seen[slot.label] > 1
        found.append(replace(slot, label=f"{slot.label} ({seen[slot.label]})") if again else slot)
    return found


def _parts(recipe: Recipe) -> str:
    return " + ".join([short_name(recipe.base), *recipe.abilities, *recipe.languages])
