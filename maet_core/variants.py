"""Models of several recipes in memory at the same time, for answers side by side. None of them is ever changed.

What two of them have in common is there once: a tensor that a recipe leaves alone is the base's own, and one that two recipes
give the same sum belongs to both.
"""

from __future__ import annotations

import copy
import threading
from collections import OrderedDict
from weakref import WeakValueDictionary

import torch

from maet_core.errors import InputError
from maet_core.live import fill
from maet_core.memory import available_bytes
from maet_core.merging.combine import Combiner
from maet_core.merging.plan import Addend, MergePlan, plan_merge
from maet_core.merging.vectors import WeightedVector
from maet_core.progress import Progress, each
from maet_core.recipe import Recipe
from maet_core.resident import Slot, parameter_slots
from maet_core.selection import Measured
from maet_core.sources import Sources
from maet_core.weights.ability import AbilityWeights

MOST_MODELS = 4
# What a model needs beside its weights while it answers, and what everything else on the machine is left.
SPARE_BYTES = 1 << 29


class NoRoom(InputError):
    """The machine has too little memory for one more model."""


class Variants:
    """Merged models of recipes that name the models of `sources`. `base_model` holds the base's weights; it is shared."""

    def __init__(self, sources: Sources, base_model: torch.nn.Module):
        self.sources, self.base_model = sources, base_model
        self._tensors: dict[int, list[tuple[str, Slot]]] = {}
        for name, slot in parameter_slots(base_model, sources.base).items():
            self._tensors.setdefault(id(slot.parameter), []).append((name, slot))
        self._models: OrderedDict[str, torch.nn.Module] = OrderedDict()
        # by what it is made of; a parameter lives as long as a model that has it
        self._made: WeakValueDictionary[tuple, torch.nn.Parameter] = WeakValueDictionary()
        self._lock = threading.Lock()

    def model(
        self, recipe: Recipe, measured: Measured | None = None, progress: Progress | None = None
    ) -> torch.nn.Module:
        """The model of `recipe`, bit for bit what a merge gives; the last `MOST_MODELS` that were asked for are kept.

        `measured` saves measuring similarities where the recipe needs them. Raises RecipeError for a recipe of other models,
        InputError for one that cannot be followed, NoRoom.
        """
        key = recipe.model_dump_json()
        with self._lock:
            if key not in self._models:
                while len(self._models) >= MOST_MODELS:
                    self._models.popitem(last=False)
                self._models[key] = self._build(plan_merge(self.sources.with_coefficients(recipe), measured), progress)
            self._models.move_to_end(key)
            return self._models[key]

    def _build(self, plan: MergePlan, progress: Progress | None) -> torch.nn.Module:
        own = list(self.base_model.parameters())
        wanted = {id(old): self._recipe_of(plan, old) for old in own}
        new = {id(old): self._made.get(wanted[id(old)]) if wanted[id(old)] else old for old in own}
        missing = [old for old in own if new[id(old)] is None]
        self._make_room(sum(old.nbytes for old in missing))
        combiner = Combiner(plan)
        computed = each(missing, lambda old: self._computed(combiner, old), "merging", progress)
        for old, made in zip(missing, computed, strict=True):
            new[id(old)] = self._made[wanted[id(old)]] = made
        return _copy_with(self.base_model, new)

    def _recipe_of(self, plan: MergePlan, parameter: torch.nn.Parameter) -> tuple:
        """All that the parameter's values depend on beside the base; empty where they are the base's."""
        sums = [(name, tuple(_content(plan, part) for part in plan.addends(name))) for name, _ in self._of(parameter)]
        if not any(parts for _, parts in sums):
            return ()
        return (id(parameter), None if plan.method.linear else plan.settings.model_dump_json(), tuple(sums))

    def _computed(self, combiner: Combiner, old: torch.nn.Parameter) -> torch.nn.Parameter:
        with torch.no_grad():
            values = old.detach().clone()
            for name, slot in self._of(old):
                fill(slot.view(values), combiner, name)
        return torch.nn.Parameter(values, requires_grad=False)

    def _of(self, parameter: torch.nn.Parameter) -> list[tuple[str, Slot]]:
        return self._tensors.get(id(parameter), [])

    def _make_room(self, nbytes: int) -> None:
        """Lets go of the models that were asked for longest ago; one that is answering stays until it has ended."""
        while (free := available_bytes()) < nbytes + SPARE_BYTES and self._models:
            self._models.popitem(last=False)
        if free < nbytes + SPARE_BYTES:
            raise NoRoom(f"one more model needs {nbytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB of memory are free")


def _content(plan: MergePlan, part: Addend | WeightedVector) -> tuple:
    """What one part of a sum is made of, the same for equal parts of two plans. Their key neurons are objects of their own, made
    by rules that can be compared; differences are the open models' and stay."""
    abilities = plan.sources.recipe.abilities
    rules = {weights.key_neurons: abilities[key].key_neurons for key, weights in plan.sources.abilities.items()}
    if isinstance(part, Addend):
        return part.coefficient, id(part.difference), rules.get(part.key_neurons)
    weights = part.weights
    if isinstance(weights, AbilityWeights):
        own = (weights.alpha, weights.beta, rules.get(weights.key_neurons), *map(id, weights.parts))
    else:
        own = (id(weights),)
    return part.key, part.weight, *own


def _copy_with(model: torch.nn.Module, parameters: dict[int, torch.nn.Parameter]) -> torch.nn.Module:
    """The modules once more around other parameters, given by the id of the old ones. Buffers are shared."""
    shared = {id(buffer): buffer for buffer in model.buffers()}
    return copy.deepcopy(model, shared | parameters)
