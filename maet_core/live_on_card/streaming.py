"""A job whose inputs lie in host memory, in part: while one piece is computed, the next is on its way to the card."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import torch

from maet_core.live_on_card.jobs import Job, Term

_PIECE = 1 << 23  # values at once; a multiple of 16


class Streamer:
    def __init__(self, device: torch.device, executor):
        self.device, self._executor = device, executor
        self._cuda = device.type == "cuda"
        self._staging: dict[tuple[int, int], torch.Tensor] = {}
        self._copying = torch.cuda.Stream(device) if self._cuda else None

    def run(self, job: Job, coefficients: np.ndarray) -> bool:
        """All of a tensor; returns whether the results are finite."""
        fits, waiting = True, None
        for number, start in enumerate(range(0, job.size, _PIECE)):
            sent = self._send(job, coefficients, number % 2, start, min(start + _PIECE, job.size))
            if waiting is not None:
                fits &= self._compute(*waiting, coefficients)
            waiting = sent
        if waiting is not None:
            fits &= self._compute(*waiting, coefficients)
        return fits

    def _send(self, job: Job, coefficients: np.ndarray, slot: int, start: int, stop: int):
        """The piece as a job on the card alone, and what tells that it is there. What was computed in this slot has been waited for."""
        with torch.cuda.stream(self._copying) if self._cuda else nullcontext():
            base = self._here(job.base[start:stop], slot, 0)
            terms = []
            for k, (term, coefficient) in enumerate(zip(job.terms, coefficients, strict=True), start=1):
                values = self._here(term.values[start:stop], slot, k) if coefficient else base  # 0: it is not read
                mask = None if term.mask is None else term.mask[start // 8 : -(-stop // 8)]
                terms.append(Term(values, term.is_difference, mask))
            event = torch.cuda.Event() if self._cuda else None
            if event is not None:
                event.record()
        return replace(
            job, out=job.out[start:stop], base=base, terms=tuple(terms), size=stop - start, on_card=True
        ), event

    def _here(self, values: torch.Tensor, slot: int, k: int) -> torch.Tensor:
        if values.device == self.device and self._cuda:
            return values
        memory = self._staging.get((slot, k))
        if memory is None:
            memory = self._staging[slot, k] = torch.empty(4 * _PIECE, dtype=torch.uint8, device=self.device)
        there = memory[: values.nbytes].view(values.dtype)
        there.copy_(values, non_blocking=True)
        return there

    def _compute(self, job: Job, event, coefficients: np.ndarray) -> bool:
        if event is not None:
            torch.cuda.current_stream(self.device).wait_event(event)
        return self._executor.run([job], [coefficients], keep=False)[0]
