"""The jobs by the fused kernel: those of one kind in one launch, since a launch from Python takes as long as to merge a small tensor."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from contextlib import nullcontext

import numpy as np
import torch

from maet_core.live_on_card import kernel
from maet_core.live_on_card.jobs import Job, Term

_CODES = {torch.bfloat16: 0, torch.float16: 1, torch.float32: 2}
_MODES = {
    ("rows", False): kernel.ROWS,
    ("rows", True): kernel.ROWS_APART,
    ("columns", True): kernel.COLUMNS,
    ("positions", True): kernel.POSITIONS,
}
_GRAIN = 16  # values
_ALIGNED = 16  # bytes that one thread reads at once


class ByKernel:
    """For one device. The addresses of a list of jobs go to the card once, with the first change that asks for these."""

    def __init__(self, device: torch.device):
        self.device = device
        self._sent: dict[tuple[int, ...], list[_Launch]] = {}

    def forget(self) -> None:
        """Lets go of all jobs."""
        self._sent.clear()

    def run(self, jobs: list[Job], coefficients: list[np.ndarray], keep: bool = True) -> list[bool]:
        """Does every job with its coefficients (float32); returns whether its results are all finite. `keep`: the jobs will come again."""
        if not jobs:
            return []
        names = tuple(map(id, jobs))
        launches = self._sent.get(names)
        if launches is None:
            launches = self._launches(jobs)
            if keep:
                if len(self._sent) >= 16:  # selections under way; each has some kilobytes
                    self._sent.pop(next(iter(self._sent)))
                self._sent[names] = launches
        order = [number for launch in launches for number in launch.numbers]
        flat = np.concatenate([coefficients[number] for number in order] or [np.empty(0, np.float32)])
        with torch.cuda.device(self.device) if self.device.type == "cuda" else nullcontext():
            there = torch.from_numpy(np.ascontiguousarray(flat, np.float32)).to(self.device, non_blocking=True)
            unfit = torch.zeros(len(jobs), dtype=torch.int32, device=self.device)
            first = done = 0
            for launch in launches:
                launch.start(there[done:], unfit, first)
                first += len(launch.numbers)
                done += len(launch.numbers) * launch.addends
            found = unfit.cpu().numpy()
        fits = [True] * len(jobs)
        for position in np.flatnonzero(found):
            fits[order[position]] = False
        return fits

    def _launches(self, jobs: list[Job]) -> list[_Launch]:
        groups: dict[Hashable, list[int]] = defaultdict(list)
        for number, job in enumerate(jobs):
            groups[_kind(job)].append(number)
        return [_Launch([jobs[number] for number in numbers], numbers, self.device) for numbers in groups.values()]


def _kind(job: Job) -> Hashable:
    """Jobs of one kind are done by one launch: by the same code, in about the same number of blocks."""
    places = job.places
    return (
        job.out.dtype,
        job.base.dtype,
        tuple((term.values.dtype, term.is_difference, term.mask is None) for term in job.terms),
        job.size.bit_length() if places else job.size,
        (places.kind, places.apart, places.width) if places else None,
        job.out.data_ptr() % _ALIGNED == 0,
        job.size % _GRAIN == 0,
    )


class _Launch:
    """One launch of the kernel for jobs of one kind; `numbers` are their places in the list."""

    def __init__(self, jobs: list[Job], numbers: list[int], device: torch.device):
        first = jobs[0]
        self.jobs, self.numbers, self.addends = jobs, numbers, len(first.terms)  # the jobs keep their memory alive
        rows = [[*_places(job), *_addresses(job)] for job in jobs]
        self._table = torch.tensor(rows, dtype=torch.int64, device=device)
        places, step = first.places, kernel.STEP
        tiles = 1 if places else kernel.TILES
        self._width = places.width if places else 0
        most = max(job.size for job in jobs)
        self._blocks_a_row = max(1, -(-self._width // step))
        by_row = places is not None and places.kind == "rows"
        self._blocks = most // self._width * self._blocks_a_row if by_row else -(-most // (step * tiles))
        self._constants = {
            "COLUMNS_OF_TABLE": len(rows[0]),
            "ADDENDS": self.addends,
            "KINDS": sum(_bits(term) << (4 * k) for k, term in enumerate(first.terms)),
            "BASE_CODE": _CODES[first.base.dtype],
            "OUT_CODE": _CODES[first.out.dtype],
            "MODE": _MODES[places.kind, places.apart] if places else kernel.DENSE,
            "ALIGNED": _ALIGNED if first.out.data_ptr() % _ALIGNED == 0 else first.out.element_size(),
            "GRAIN": _GRAIN if first.size % _GRAIN == 0 else 1,
            "STEP": step,
            "TILES": tiles,
        }

    def start(self, coefficients: torch.Tensor, unfit: torch.Tensor, first_unfit: int) -> None:
        if not self._blocks:
            return
        for begin in range(0, len(self.jobs), 65535):  # as many as a grid has in this direction
            grid = (self._blocks, min(65535, len(self.jobs) - begin))
            kernel.merge_table[grid](
                self._table,
                begin,
                coefficients[begin * self.addends :],
                unfit,
                first_unfit + begin,
                self._width,
                self._blocks_a_row,
                **self._constants,
                num_warps=8,
                enable_fp_fusion=False,  # a product is rounded before it is added, as on the processor
            )


def _places(job: Job) -> tuple[int, ...]:
    places = job.places
    indices = (
        (places.indices.data_ptr(), job.size, places.indices.numel(), places.width) if places else (0, job.size, 0, 0)
    )
    return job.out.data_ptr(), job.base.data_ptr(), *indices


def _addresses(job: Job) -> list[int]:
    masks = [0 if term.mask is None else term.mask.data_ptr() for term in job.terms]
    return [term.values.data_ptr() for term in job.terms] + masks


def _bits(term: Term) -> int:
    return _CODES[term.values.dtype] | term.is_difference << 2 | (term.mask is not None) << 3
