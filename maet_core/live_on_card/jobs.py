"""What is computed on a card: one tensor, or its key neurons, as a sum of what lies in the card's memory."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch

from maet_core import equations

PIECE_ELEMENTS = 1 << 22  # what torch computes at once: some float32 values for each of these are in memory


@dataclass(frozen=True)
class Places:
    """Where a job's values lie in the flat tensor: these `indices` of its rows or columns, or single positions (int32, positions as the
    bits of uint32), on the device. `apart`: the inputs hold nothing but these values, in their order."""

    kind: Literal["rows", "columns", "positions"]
    indices: torch.Tensor
    width: int
    apart: bool

    def offsets(self, start: int, stop: int) -> torch.Tensor:
        """Of the values `start` to `stop`, int64."""
        here = torch.arange(start, stop, device=self.indices.device)
        if self.kind == "positions":
            return self.indices[start:stop].to(torch.int64) & 0xFFFFFFFF
        if self.kind == "rows":
            return self.indices[here // self.width].to(torch.int64) * self.width + here % self.width
        count = self.indices.numel()
        return here // count * self.width + self.indices[here % count]


@dataclass(frozen=True)
class Term:
    """Stored values, flat; `mask`: one bit a value (uint8, the first value is the lowest bit), None where all are added."""

    values: torch.Tensor
    is_difference: bool
    mask: torch.Tensor | None = None


@dataclass(frozen=True, eq=False)
class Job:
    """out = base + Σ_k c_k · change_k, at all values, or at `places`; all flat. Where `on_card` is false, inputs lie in host memory, in
    part, and must be sent."""

    out: torch.Tensor
    base: torch.Tensor
    terms: tuple[Term, ...]
    size: int
    places: Places | None = None
    on_card: bool = True


class ByTorch:
    """The jobs in torch's own operations, on any device."""

    def forget(self) -> None:
        """Lets go of all jobs: none is kept."""

    def run(self, jobs: list[Job], coefficients: list[np.ndarray], keep: bool = True) -> list[bool]:
        """Does every job with its coefficients (float32); returns whether its results are all finite. `keep`: the jobs will come again."""
        return [self._fits(job, of_job) for job, of_job in zip(jobs, coefficients, strict=True)]

    def _fits(self, job: Job, coefficients: np.ndarray) -> bool:
        unfit = torch.zeros((), dtype=torch.bool, device=job.out.device)
        for start in range(0, job.size, PIECE_ELEMENTS):
            stop = min(start + PIECE_ELEMENTS, job.size)
            target = None if job.places is None else job.places.offsets(start, stop)
            source = slice(start, stop) if target is None or job.places.apart else target
            base = job.base[source].to(torch.float32)

            def terms(source=source, base=base):
                for term, coefficient in zip(job.terms, coefficients, strict=True):
                    if coefficient == 0:
                        continue
                    change = term.values[source].to(torch.float32)
                    change = change if term.is_difference else change - base
                    if term.mask is not None:
                        change = torch.where(bit_at(term.mask, source), change, 0)
                    yield float(coefficient), change

            result = equations.merged(base, terms()).to(job.out.dtype)
            unfit |= (~torch.isfinite(result)).any()
            job.out[slice(start, stop) if target is None else target] = result
        return not bool(unfit)


def bit_at(mask: torch.Tensor, source: slice | torch.Tensor) -> torch.Tensor:
    """Bits of a packed mask, bool."""
    if isinstance(source, slice):
        source = torch.arange(source.start, source.stop, device=mask.device)
    return (mask[source >> 3].to(torch.int64) >> (source & 7)) & 1 == 1


def packed(mask: torch.Tensor) -> torch.Tensor:
    """A flat bool mask, a bit a value, as `Term` has it."""
    bits = torch.nn.functional.pad(mask.view(torch.uint8), (0, -mask.numel() % 8)).view(-1, 8)
    found = bits[:, 0].clone()
    for i in range(1, 8):
        found |= bits[:, i] << i
    return found
