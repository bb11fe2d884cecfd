"""The key neurons of a tensor as jobs of their own: a new γ reads and writes these and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import torch

from maet_core.importance.key_neurons import KeyNeurons
from maet_core.key_slices import LARGEST_SHARE, KeyPlaces, parameters_of
from maet_core.live_on_card.inputs import Held, Part
from maet_core.live_on_card.jobs import Job, Places, Term, bit_at
from maet_core.sources import Rows

_STEP = 1 << 24  # values whose positions are looked for at once
_ALIGNED = 16  # the inputs of a job with memory of its own are as long as a multiple of that


class Slicer:
    """Rows are read where they lie. Columns and single values would fetch most lines of the card's memory, so they have copies side by
    side, as far as there is `room`."""

    def __init__(
        self,
        held: dict[tuple[Part, str], Held],
        mask: Callable[[str, KeyNeurons], torch.Tensor],
        room: dict[torch.device, int],
    ):
        self._held, self._mask, self._room = held, mask, room

    def slice(self, out: torch.Tensor, name: str, keys: KeyNeurons, rows: Rows) -> Job | None:
        """None where key neurons are so many that they are not worth it, or have no room."""
        size, parts = parameters_of(keys, name), [None, *(part for part, _ in rows.all)]
        held = [self._held.get((part, name)) for part in parts]
        if size > LARGEST_SHARE * out.numel() or out.numel() >= 1 << 31 or not all(one and one.finite for one in held):
            return None
        others = [other if other is not keys else None for _, other in rows.all]
        places = None if size == 0 else KeyPlaces.of_units(keys, name)
        if size == 0 or (places is not None and places.kind == "rows" and all(one.on_card for one in held)):
            indices = torch.from_numpy((places.indices if places else np.empty(0, np.uint32)).view(np.int32))
            masks = [None if other is None else self._mask(name, other) for other in others]
            terms = [Term(one.values, one.is_difference, mask) for one, mask in zip(held[1:], masks, strict=True)]
            width = places.width if places else 1
            return Job(out, held[0].values, tuple(terms), size, Places("rows", indices.to(out.device), width, False))
        nbytes = size * (sum(one.values.element_size() for one in held) + (4 if places is None else 0))
        if nbytes > self._room[out.device]:
            return None
        job = self._apart(out, name, keys, size, places, held, others)
        if job is not None:
            self._room[out.device] -= nbytes_of(job)
        return job

    def give_back(self, jobs: Iterable[Job]) -> None:
        for job in jobs:
            self._room[job.out.device] += nbytes_of(job)

    def _apart(
        self,
        out: torch.Tensor,
        name: str,
        keys: KeyNeurons,
        size: int,
        places: KeyPlaces | None,
        held: list[Held],
        others: list[KeyNeurons | None],
    ) -> Job | None:
        if places is None:
            indices, kind, width = _positions(self._mask(name, keys), out.numel()), "positions", 1
        else:
            indices, kind, width = (
                torch.from_numpy(places.indices.view(np.int32)).to(out.device),
                places.kind,
                places.width,
            )
        there = Places(kind, indices, width, True)
        base = _gathered(held[0].values, there, size)
        terms = []
        for one, other in zip(held[1:], others, strict=True):
            values = _gathered(one.values, there, size)
            if other is not None:  # outside of the other key neurons nothing is added
                if not one.is_difference and values.dtype != base.dtype:
                    return None
                nothing = torch.zeros_like(base[:size]) if one.is_difference else base[:size]
                inside = bit_at(self._mask(name, other), there.offsets(0, size))
                values[:size] = torch.where(inside, values[:size], nothing.to(values.dtype))
            terms.append(Term(values, one.is_difference))
        return Job(out, base, tuple(terms), size, there)


def nbytes_of(job: Job) -> int:
    """What a job holds in memory for itself."""
    if job.places is None or not job.places.apart:
        return 0
    return job.places.indices.nbytes + job.base.nbytes + sum(term.values.nbytes for term in job.terms)


def _gathered(values: torch.Tensor, places: Places, size: int) -> torch.Tensor:
    device = places.indices.device
    out = torch.zeros(-(-size // _ALIGNED) * _ALIGNED, dtype=values.dtype, device=device)
    indices = places.indices.to(values.device)
    if places.kind == "rows":
        found = values.view(-1, places.width)[indices]
    elif places.kind == "columns":
        found = values.view(-1, places.width)[:, indices]
    else:
        found = values[indices]
    out[:size] = found.reshape(-1).to(device)
    return out


def _positions(mask: torch.Tensor, numel: int) -> torch.Tensor:
    """int32."""
    found = []
    for start in range(0, numel, _STEP):
        there = bit_at(mask, slice(start, min(start + _STEP, numel)))
        found.append((there.nonzero().view(-1) + start).to(torch.int32))
    return torch.cat(found)
