"""A resident model whose weights follow a recipe: nothing is written to disk, only what a change touches is computed again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from maet_core.dtypes import as_numpy, as_torch, code_of
from maet_core.errors import Cancelled
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.key_moves import KeyMoves, Move
from maet_core.live_on_card import CardWeights
from maet_core.memory import available_bytes
from maet_core.merging.combine import LARGE_STEP, Combiner, refuse_too_large
from maet_core.merging.plan import MergePlan, Sum, plan_merge
from maet_core.merging.vectors import WeightedVector
from maet_core.progress import Progress, each, tell
from maet_core.recipe import Recipe
from maet_core.resident import give_own_memory, load_model, load_tokenizer, parameter_slots
from maet_core.selection import Measured, Selection, measure
from maet_core.sources import Sources

_LEAST = 4 * CHUNK_ELEMENTS  # what a thread is given at once


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

    The files of the base and of what is added to it stay in memory as far as `budget_bytes` reach (by default half of what is free);
    the rest is read again at every change. A coefficient that acts on key neurons alone moves these alone.
    """

    def __init__(
        self,
        sources: Sources,
        device: str = "cpu",
        budget_bytes: int | None = None,
        measured: Measured | None = None,
        progress: Progress | None = None,
        card_bytes: int | None = None,
    ):
        self.lock = threading.RLock()
        tell(progress, None, "opening the model", 0, 1)
        self.sources = sources
        self.model = load_model(sources.base, device)
        give_own_memory(self.model)
        self.tokenizer = load_tokenizer(sources.base)
        self._parameters = {
            name: slot.values.view(-1) for name, slot in parameter_slots(self.model, sources.base).items()
        }
        # the same memory for the compiled loops, without a detour at every step of a slider
        on_cpu = {name: flat for name, flat in self._parameters.items() if flat.device.type == "cpu"}
        self._arrays = {name: as_numpy(flat) for name, flat in on_cpu.items()}
        self._sums: dict[str, Sum | list[WeightedVector] | None] = {}
        self._measured: Measured | None = None
        self._plan: MergePlan | None = None
        room = available_bytes() // 2 if budget_bytes is None else budget_bytes
        on_cards = {name: flat for name, flat in self._parameters.items() if computes(flat.device)}
        self._cards = CardWeights(sources, on_cards, room, card_bytes, progress) if on_cards else None
        self._key_moves = KeyMoves(0 if on_cards else self._hold(room, progress))
        self.apply(sources.recipe, measured, progress)
        # before the first γ asks for them
        if self._cards is not None:
            self._cards.prepare(progress)
        elif device == "cpu":
            self._key_moves.prepare(sources, self._parameters, progress)

    @property
    def recipe(self) -> Recipe:
        return self.sources.recipe

    @property
    def selections(self) -> dict[str, Selection] | None:
        """T_i of every ability; None where it cannot change the weights."""
        return self._plan.selections

    def apply(self, recipe: Recipe, measured: Measured | None = None, progress: Progress | None = None) -> Changed:
        """Makes the weights those of `recipe`, which must name the same models.

        `measured` saves measuring similarities again where key neurons have changed. Raises InputError for a recipe that cannot be
        followed, RecipeError for other models; the weights are then as before. `progress` may raise Cancelled: the weights are then
        of no use until the next `apply`, which finds out what to compute again.
        """
        started = time.monotonic()
        with self.lock, torch.no_grad():
            sources = self.sources.with_coefficients(recipe)
            plan = plan_merge(sources, self._measure(sources, measured, progress))
            try:
                changed = self._rewrite(plan, started, progress)
            except Cancelled:
                raise
            except Exception:
                if self._plan is not None:
                    self._rewrite(self._plan, started)
                raise
            self.sources, self._plan = sources, plan
            return changed

    def _measure(self, sources: Sources, measured: Measured | None, progress: Progress | None) -> Measured:
        """Similarities of the open models; measured once, and again when key neurons change."""
        if measured is not None:
            self._measured = measured
        elif self._measured is None or _key_neurons(self._measured.sources) != _key_neurons(sources):
            self._measured = measure(sources, progress)
        return self._measured

    def _hold(self, room: int, progress: Progress | None) -> int:
        """Returns how many bytes of the room are left."""
        for position, file in enumerate(self.sources.files):
            tell(progress, None, "reading what is added", position, len(self.sources.files))
            if file.nbytes <= room:
                file.hold()
                room -= file.nbytes
        return room

    def _rewrite(self, plan: MergePlan, started: float, progress: Progress | None = None) -> Changed:
        linear = plan.method.linear
        sums = {name: plan.sum(name) if linear else plan.addends(name) for name in self._parameters}
        stale = [name for name, made in sums.items() if not _same(made, self._sums.get(name, []))]
        changes = {name: (_linear(self._sums.get(name)), sums[name]) for name in stale} if linear else {}
        self._sums |= dict.fromkeys(stale)  # should the next lines fail, these are computed again
        done: dict[str, int] = {}
        if self._cards is not None and linear:
            done = self._cards.rewrite(plan, changes, progress)
        left = {name: change for name, change in changes.items() if name in self._arrays and name not in done}
        moves = self._key_moves.between(plan, left, progress)
        combiner = Combiner(plan)
        steps: list[tuple[int, Callable[[], int]]] = []
        for name in stale:
            if name in done:
                continue
            if name in moves:
                steps += [(move[0].parameters, partial(self._move, name, move)) for move in moves[name]]
                continue
            size = self._parameters[name].numel()
            for first in range(0, size, LARGE_STEP):
                last = min(first + LARGE_STEP, size)
                steps.append((last - first, partial(self._fill, combiner, name, first, last)))
        moved = sum(done.values()) + sum(each(_bundled(steps), _do, "moving the weights", progress) if steps else ())
        self._sums = sums
        return Changed(len(stale), moved, time.monotonic() - started)

    def _fill(self, combiner: Combiner, name: str, first: int, last: int) -> int:
        if name in self._arrays:
            _fill_array(self._arrays[name], code_of(self._parameters[name].dtype), combiner, name, first, last)
        else:
            fill(self._parameters[name], combiner, name, first, last)
        return last - first

    def _move(self, name: str, move: Move) -> int:
        part, coefficients = move
        code = code_of(self._parameters[name].dtype)
        if not part.write(coefficients, self._arrays[name], code):
            refuse_too_large(name, code)
        return part.parameters


def computes(device: torch.device) -> bool:
    """Whether changes are computed on this device, and not on the processor."""
    return device.type == "cuda"


def _bundled(steps: list[tuple[int, Callable[[], int]]]) -> list[list[Callable[[], int]]]:
    """Small steps, each with the number of its parameters, together: to hand one to a thread takes as long as some of them."""
    bundles, size = [[]], 0
    for parameters, step in steps:
        if size >= _LEAST:
            bundles.append([])
            size = 0
        bundles[-1].append(step)
        size += parameters
    return bundles


def _do(bundle: list[Callable[[], int]]) -> int:
    return sum(step() for step in bundle)


def fill(values: torch.Tensor, combiner: Combiner, name: str, first: int = 0, last: int | None = None) -> None:
    """Writes the merged tensor `name`, or its elements `first` to `last`, over `values`, which has its shape and any dtype."""
    flat = values.view(-1)
    code, last = code_of(flat.dtype), flat.numel() if last is None else last
    if flat.device.type == "cpu":
        _fill_array(as_numpy(flat), code, combiner, name, first, last)
        return
    for start in range(first, last, CHUNK_ELEMENTS):
        stop = min(start + CHUNK_ELEMENTS, last)
        merged, _ = combiner.chunk(name, start, stop, code, count=False)
        flat[start:stop] = as_torch(merged, code)


def _fill_array(here: np.ndarray, code: str, combiner: Combiner, name: str, first: int, last: int) -> None:
    step = combiner.step(name) if code == "BF16" else CHUNK_ELEMENTS
    for start in range(first, last, step):
        stop = min(start + step, last)
        combiner.chunk(name, start, stop, code, here[start:stop], count=False)


def _key_neurons(sources: Sources) -> dict[str, object]:
    return {name: weights.key_neurons for name, weights in sources.abilities.items()}


def _same(now: Sum | list[WeightedVector], before: Sum | list[WeightedVector] | None) -> bool:
    """Whether a tensor is made as it was; None stands for values of unknown state."""
    if before is None:
        return False
    if isinstance(now, Sum) and isinstance(before, Sum):
        return now.same(before)
    ours, others = (made.addends if isinstance(made, Sum) else made for made in (now, before))
    return len(ours) == len(others) and all(one.same(other) for one, other in zip(ours, others, strict=True))


def _linear(made: Sum | list[WeightedVector] | None) -> Sum | None:
    return made if isinstance(made, Sum) else None
