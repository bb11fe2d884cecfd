"""A resident model whose weights follow a recipe: nothing is written to disk, only what a change touches is computed again."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch

from maet_core.dtypes import as_numpy, as_torch, code_of
from maet_core.errors import Cancelled, InputError
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.kernels import CHUNK_ELEMENTS
from maet_core.key_slices import KeySlice, Row, coefficients_of, key_slice, rows_of
from maet_core.memory import available_bytes
from maet_core.merging.combine import LARGE_STEP, Combiner, in_float32
from maet_core.merging.plan import Addend, MergePlan, plan_merge
from maet_core.methods import METHODS
from maet_core.progress import Progress, each, tell
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


# tensor, the key neurons in question, and everything that can be added there
_SliceKey = tuple[str, KeyNeurons, tuple[Row, ...]]


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
    ):
        self.lock = threading.RLock()
        tell(progress, None, "opening the model", 0, 1)
        self.sources = sources
        self.model = load_model(sources.base, device)
        self.tokenizer = load_tokenizer(sources.base)
        self._parameters = {
            name: slot.values.view(-1) for name, slot in parameter_slots(self.model, sources.base).items()
        }
        self._addends: dict[str, list[Addend] | None] = {}
        self._measured: Measured | None = None
        self._plan: MergePlan | None = None
        self._slices: dict[_SliceKey, KeySlice | None] = {}
        self._room = available_bytes() // 2 if budget_bytes is None else budget_bytes
        self._hold(progress)
        self.apply(sources.recipe, measured, progress)
        if device == "cpu":  # before the first γ asks for them
            self._make_slices(sources, _possible_slices(sources, self._parameters), progress)

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
            self._drop_slices(sources)
            return changed

    def _measure(self, sources: Sources, measured: Measured | None, progress: Progress | None) -> Measured:
        """Similarities of the open models; measured once, and again when key neurons change."""
        if measured is not None:
            self._measured = measured
        elif self._measured is None or _key_neurons(self._measured.sources) != _key_neurons(sources):
            self._measured = measure(sources, progress)
        return self._measured

    def _hold(self, progress: Progress | None) -> None:
        for position, file in enumerate(self.sources.files):
            tell(progress, None, "reading what is added", position, len(self.sources.files))
            if file.nbytes <= self._room:
                file.hold()
                self._room -= file.nbytes

    def _rewrite(self, plan: MergePlan, started: float, progress: Progress | None = None) -> Changed:
        addends = {name: plan.addends(name) for name in self._parameters}
        stale = [name for name in addends if not _same(addends[name], self._addends.get(name, []))]
        sliced = self._slices_for(plan, {name: addends[name] for name in stale}, progress)
        blocks = []
        for name in stale:
            self._addends[name] = None  # should the next lines fail, the tensor is computed again
            size = 0 if name in sliced else self._parameters[name].numel()
            blocks += [(name, i, min(i + LARGE_STEP, size)) for i in range(0, size, LARGE_STEP)]
        moved = sum(each(blocks, self._block_writer(plan), "moving the weights", progress))
        slices = list(sliced.items())
        moved += sum(
            each(slices, lambda item: self._write_slices(plan, *item, addends[item[0]]), "moving the weights", progress)
        )
        self._addends |= {name: addends[name] for name in stale}
        return Changed(len(stale), moved, time.monotonic() - started)

    def _block_writer(self, plan: MergePlan) -> Callable[[tuple[str, int, int]], int]:
        scratch = threading.local()

        def write(block: tuple[str, int, int]) -> int:
            if not hasattr(scratch, "combiner"):
                scratch.combiner = Combiner(plan)
            name, first, last = block
            fill(self._parameters[name], scratch.combiner, name, first, last)
            return last - first

        return write

    def _slices_for(
        self, plan: MergePlan, addends: dict[str, list], progress: Progress | None
    ) -> dict[str, list[KeySlice]]:
        """The slices that take tensors from their present addends to the given ones; a tensor without them needs a whole pass."""
        moved: dict[str, list[_SliceKey]] = {}
        for name in addends if plan.method.linear else ():
            before, flat = self._addends.get(name), self._parameters[name]
            if not before or flat.device.type != "cpu" or plan.sources.precision(name) != np.float32:
                continue
            rows = rows_of(plan.sources, name)
            old, new = coefficients_of(before, rows), coefficients_of(addends[name], rows)
            if old is None or new is None:
                continue
            keys = {keys for (_, keys), was, becomes in zip(rows, old, new, strict=True) if was != becomes}
            if None not in keys:
                moved[name] = [(name, key, tuple(rows)) for key in keys]
        self._make_slices(plan.sources, [key for keys in moved.values() for key in keys], progress)
        return {
            name: [self._slices[key] for key in keys]
            for name, keys in moved.items()
            if all(map(self._slices.get, keys))
        }

    def _make_slices(self, sources: Sources, wanted: list[_SliceKey], progress: Progress | None) -> None:
        """Those that are not there yet, as far as there is room."""
        missing, before = [], self._room
        for name, keys, rows in wanted:
            most = keys.counts.get(name, 0) * 4 * (2 + len(rows))
            if (name, keys, rows) not in self._slices and most <= self._room:
                missing.append((name, keys, rows))
                self._room -= most
        try:
            made = each(missing, lambda key: key_slice(sources, *key), "reading key neurons", progress)
        except BaseException:
            self._room = before
            raise
        self._room = before - sum(part.nbytes for part in made if part)
        self._slices |= dict(zip(missing, made, strict=True))

    def _drop_slices(self, sources: Sources) -> None:
        """Those whose key neurons have been replaced."""
        for key in [key for key in self._slices if key[2] != tuple(rows_of(sources, key[0]))]:
            if dropped := self._slices.pop(key):
                self._room += dropped.nbytes

    def _write_slices(self, plan: MergePlan, name: str, slices: list[KeySlice], addends: list[Addend]) -> int:
        flat = self._parameters[name]
        coefficients = in_float32(coefficients_of(addends, rows_of(plan.sources, name)))
        for part in slices:
            if not part.write(coefficients, as_numpy(flat), code_of(flat.dtype)):
                raise InputError(
                    f"output.dtype: the merged tensor {name} has a value beyond {torch.finfo(flat.dtype).max:g}, the largest in "
                    f"{flat.dtype}; use smaller coefficients, or bfloat16"
                )
        return sum(part.positions.size for part in slices)


def fill(values: torch.Tensor, combiner: Combiner, name: str, first: int = 0, last: int | None = None) -> None:
    """Writes the merged tensor `name`, or its elements `first` to `last`, over `values`, which has its shape and any dtype."""
    flat = values.view(-1)
    code, last = code_of(flat.dtype), flat.numel() if last is None else last
    here = as_numpy(flat) if flat.device.type == "cpu" else None
    step = combiner.step(name) if here is not None and code == "BF16" else CHUNK_ELEMENTS
    for start in range(first, last, step):
        stop = min(start + step, last)
        merged, _ = combiner.chunk(name, start, stop, code, None if here is None else here[start:stop], count=False)
        if here is None:
            flat[start:stop] = as_torch(merged, code)


def _possible_slices(sources: Sources, names: Iterable[str]) -> list[_SliceKey]:
    found = []
    for name in names if METHODS[sources.recipe.method.name].linear else ():
        rows = tuple(rows_of(sources, name))
        if sources.precision(name) == np.float32:
            found += [(name, keys, rows) for keys in {keys for _, keys in rows} - {None}]
    return found


def _key_neurons(sources: Sources) -> dict[str, object]:
    return {name: weights.key_neurons for name, weights in sources.abilities.items()}


def _same(addends: list[Addend], before: list[Addend] | None) -> bool:
    """Whether a tensor's sum is what it was; None stands for values of unknown state."""
    return (
        before is not None
        and len(addends) == len(before)
        and all(new.same(old) for new, old in zip(addends, before, strict=True))
    )
