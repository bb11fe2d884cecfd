"""The parameters of a live model that lie on accelerators: a change of a coefficient is computed where they are."""

from __future__ import annotations

import numpy as np
import torch

from maet_core.dtypes import code_of
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.key_slices import moved
from maet_core.live_on_card.inputs import Inputs, Part, room_on
from maet_core.live_on_card.jobs import ByTorch, Job, Term
from maet_core.live_on_card.masks import mask_of
from maet_core.live_on_card.slices import Slicer
from maet_core.live_on_card.streaming import Streamer
from maet_core.merging.combine import refuse_too_large
from maet_core.merging.plan import MergePlan, Sum
from maet_core.progress import Progress, tell
from maet_core.sources import Rows, Sources


class CardWeights:
    """`parameters`: the tensors that lie on accelerators, flat. The inputs take at most `card_bytes` of every card (by default what is
    free, but for `inputs.RESERVE_BYTES`) and `host_bytes` of pinned host memory."""

    def __init__(
        self,
        sources: Sources,
        parameters: dict[str, torch.Tensor],
        host_bytes: int,
        card_bytes: int | None = None,
        progress: Progress | None = None,
    ):
        self._parameters = parameters
        devices = {flat.device for flat in parameters.values()}
        self._room = {device: room_on(device) if card_bytes is None else card_bytes for device in devices}
        self._executors = {device: executor_for(device) for device in devices}
        self._streamers = {device: Streamer(device, self._executors[device]) for device in devices}
        self._key_neurons: dict[str, KeyNeurons | None] | None = None
        self._follow(sources)
        rows = {name: sources.rows(name) for name in parameters if sources.precision(name) == np.float32}
        self._take_masks(rows)
        parts = {name: [None, *dict.fromkeys(part for part, _ in of_tensor.all)] for name, of_tensor in rows.items()}
        wanted = {name: (parameters[name].device, parts[name]) for name in rows}
        self._inputs = Inputs(sources, wanted, self._room, host_bytes, progress)
        held = self._inputs.held
        self._usable: dict[str, set[Part]] = {
            name: {part for part in of_tensor if (part, name) in held and held[part, name].finite}
            for name, of_tensor in parts.items()
        }
        self._slicer = Slicer(held, self._mask, self._room)

    def prepare(self, progress: Progress | None = None) -> None:
        """Finds all key neurons that a γ can ask for."""
        for position, name in enumerate(self._usable):
            tell(progress, None, "finding key neurons", position, len(self._usable))
            rows = self._inputs.sources.rows(name)
            for keys in {keys for _, keys in rows.all} - {None}:
                self._slice(name, keys, rows)

    def rewrite(
        self, plan: MergePlan, changes: dict[str, tuple[Sum | None, Sum]], progress: Progress | None = None
    ) -> dict[str, int]:
        """Takes tensors from their present sums (None: unknown) to others, and says of each how many parameters were computed.

        What is missing there has not been done: tensors that are added up in float64, inputs for which there was no room, or that are
        damaged. Raises InputError for a value that the dtype cannot hold.
        """
        self._follow(plan.sources)
        known: dict[tuple[Sum | None, Sum], tuple[set[Part], frozenset[KeyNeurons | None]]] = {}
        done: dict[str, int] = {}
        batches: dict[torch.device, tuple[list[str], list[Job], list[np.ndarray]]] = {}
        streamed: list[tuple[str, Job, np.ndarray]] = []
        for name, (before, after) in changes.items():
            if (before, after) not in known:
                known[before, after] = _used(after), moved(before, after)
            used, keys = known[before, after]
            if not used <= self._usable.get(name, set()):
                continue
            jobs = self._jobs(name, after.rows, keys)
            done[name] = sum(job.size for job in jobs)
            names, of_device, coefficients = batches.setdefault(self._parameters[name].device, ([], [], []))
            for job in jobs:
                if job.on_card:
                    names.append(name), of_device.append(job), coefficients.append(after.in_float32)
                else:
                    streamed.append((name, job, after.in_float32))
        for device, (names, jobs, coefficients) in batches.items():
            for name, fits in zip(names, self._executors[device].run(jobs, coefficients), strict=True):
                self._refuse_unless(fits, name)
        for position, (name, job, coefficients) in enumerate(streamed):
            tell(progress, None, "moving the weights", position, len(streamed))
            self._refuse_unless(self._streamers[job.out.device].run(job, coefficients), name)
        return done

    def _refuse_unless(self, fits: bool, name: str) -> None:
        if not fits:
            refuse_too_large(name, code_of(self._parameters[name].dtype))

    def _jobs(self, name: str, rows: Rows, moved: frozenset[KeyNeurons | None]) -> list[Job]:
        """The key neurons of a tensor, if these alone move; else all of it."""
        if None not in moved:
            slices = [self._slice(name, keys, rows) for keys in moved]
            if all(part is not None for part in slices):
                return [part for part in slices if part.size]
        if name not in self._whole:
            self._whole[name] = self._whole_job(name, rows)
        return [self._whole[name]]

    def _slice(self, name: str, keys: KeyNeurons, rows: Rows) -> Job | None:
        if (name, keys) not in self._slices:
            self._slices[name, keys] = self._slicer.slice(self._parameters[name], name, keys, rows)
        return self._slices[name, keys]

    def _whole_job(self, name: str, rows: Rows) -> Job:
        out, held = self._parameters[name], self._inputs.held
        base = held[None, name]
        terms, on_card = [], base.on_card
        for part, keys in rows.all:
            one = held.get((part, name), base)  # what is not held has a coefficient of 0 here, and is not read
            on_card &= one.on_card
            terms.append(Term(one.values, one.is_difference, None if keys is None else self._mask(name, keys)))
        return Job(out, base.values, tuple(terms), out.numel(), None, on_card)

    def _mask(self, name: str, keys: KeyNeurons) -> torch.Tensor:
        if (name, keys) not in self._masks:
            self._masks[name, keys] = mask_of(name, keys, self._parameters[name].device, self._inputs.held)
        return self._masks[name, keys]

    def _follow(self, sources: Sources) -> None:
        """Forgets what hangs on key neurons that have been replaced."""
        key_neurons = {name: weights.key_neurons for name, weights in sources.abilities.items()}
        if key_neurons == self._key_neurons:
            return
        if self._key_neurons is not None:
            self._slicer.give_back(part for part in self._slices.values() if part is not None)
        self._key_neurons = key_neurons
        self._masks: dict[tuple[str, KeyNeurons], torch.Tensor] = {}
        self._slices: dict[tuple[str, KeyNeurons], Job | None] = {}
        self._whole: dict[str, Job] = {}
        for executor in self._executors.values():
            executor.forget()

    def _take_masks(self, rows: dict[str, Rows]) -> None:
        for name, of_tensor in rows.items():
            flat = self._parameters[name]
            masks = len({keys for _, keys in of_tensor.all} - {None})
            self._room[flat.device] -= masks * -(-flat.numel() // 8)


def executor_for(device: torch.device):
    """The fused kernel where Triton is there, as with torch's CUDA builds on Linux; else torch's own operations."""
    if device.type == "cuda":
        try:
            from maet_core.live_on_card.launch import ByKernel
        except ImportError:
            return ByTorch()
        return ByKernel(device)
    return ByTorch()


def _used(made: Sum) -> set[Part]:
    """What is read for a sum: the base (None), and what is added."""
    return {None, *(addend.difference for addend in made.addends)}
