"""A resident model whose weights follow a recipe: nothing is written to disk, only what a change touches is computed again."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

import torch

from maet_core.dtypes import as_torch, code_of
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.merging.combine import Combiner
from maet_core.merging.plan import Addend, MergePlan, plan_merge
from maet_core.progress import each
from maet_core.recipe import Recipe
from maet_core.resident import load_model, load_tokenizer, parameter_slots
from maet_core.selection import Measured, Selection, measure
from maet_core.sources import Sources


@dataclass(frozen=True)
class Changed:
    """What one `apply` rewrote."""

    tensors: int
    parameters: int
    seconds: float


class LiveModel:
    """`model` is a transformers causal LM that holds, bit for bit, the weights of a fresh merge of `recipe`.

    Every tensor is computed from the base, never from its last value, so no sequence of changes leaves a trace. Hold `lock`
    while the model answers: `apply` waits for it, and an answer never mixes two settings.
    """

    def __init__(self, sources: Sources, device: str = "cpu"):
        self.lock = threading.RLock()
        self.sources = sources
        self.model = load_model(sources.base, device)
        self.tokenizer = load_tokenizer(sources.base)
        self._parameters = {name: slot.values for name, slot in parameter_slots(self.model, sources.base).items()}
        self._addends: dict[str, list[Addend] | None] = {}
        self._measured: Measured | None = None
        self._plan: MergePlan | None = None
        self.apply(sources.recipe)

    @property
    def recipe(self) -> Recipe:
        return self.sources.recipe

    @property
    def selections(self) -> dict[str, Selection] | None:
        """T_i of every ability; None where it cannot change the weights."""
        return self._plan.selections

    def apply(self, recipe: Recipe) -> Changed:
        """Makes the weights those of `recipe`, which must name the same models.

        Raises InputError for a recipe that cannot be followed, RecipeError for other models; the weights are then as before.
        """
        started = time.monotonic()
        with self.lock, torch.no_grad():
            sources = self.sources.with_coefficients(recipe)
            plan = plan_merge(sources, self._measure(sources))
            try:
                changed = self._rewrite(plan, started)
            except Exception:
                if self._plan is not None:
                    self._rewrite(self._plan, started)
                raise
            self.sources, self._plan = sources, plan
            return changed

    def _measure(self, sources: Sources) -> Measured:
        """Similarities of the open models; measured once, and again when key neurons change."""
        if self._measured is None or _key_neurons(self._measured.sources) != _key_neurons(sources):
            self._measured = measure(sources)
        return self._measured

    def _rewrite(self, plan: MergePlan, started: float) -> Changed:
        addends = {name: plan.addends(name) for name in self._parameters}
        stale = [name for name in addends if not _same(addends[name], self._addends.get(name, []))]
        scratch = threading.local()

        def rewrite(name: str) -> int:
            if not hasattr(scratch, "combiner"):
                scratch.combiner = Combiner(plan)
            self._addends[name] = None  # should the next lines fail, the tensor is computed again
            fill(self._parameters[name], scratch.combiner, name)
            self._addends[name] = addends[name]
            return self._parameters[name].numel()

        parameters = sum(each(stale, rewrite, "following"))
        return Changed(len(stale), parameters, time.monotonic() - started)


def fill(values: torch.Tensor, combiner: Combiner, name: str) -> None:
    """Writes the merged tensor `name` over `values`, which has its shape and any dtype."""
    flat = values.view(-1)
    code = code_of(flat.dtype)
    for start in range(0, flat.numel(), CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, flat.numel())
        flat[start:stop] = as_torch(combiner.chunk(name, start, stop, code)[0], code)


def _key_neurons(sources: Sources) -> dict[str, object]:
    return {name: weights.key_neurons for name, weights in sources.abilities.items()}


def _same(addends: list[Addend], before: list[Addend] | None) -> bool:
    """Whether a tensor's sum is what it was; None stands for values of unknown state."""
    return (
        before is not None
        and len(addends) == len(before)
        and all(new.same(old) for new, old in zip(addends, before, strict=True))
    )
