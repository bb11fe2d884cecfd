"""The base and everything that is added to it, as stored: on the card as far as its memory reaches, the rest in pinned host memory."""

from __future__ import annotations

import mmap
import threading
import weakref
from dataclasses import dataclass

import numpy as np
import torch

from maet_core.differences import Difference
from maet_core.progress import Progress, each
from maet_core.resident import free_bytes_on
from maet_core.sources import Sources

# What answers need beside the weights: the keys and values of 32 000 tokens of an 8 B Llama (4 GiB), and what is computed on the way.
RESERVE_BYTES = 6 << 30

_STEP = 1 << 23  # values on their way from a file to the card at once, per thread

Part = Difference | None
"""What is added; None stands for the base."""


@dataclass(frozen=True)
class Held:
    """The values of one tensor of a part, flat, as stored. `finite`: neither a NaN nor an infinity is among them."""

    values: torch.Tensor
    is_difference: bool
    finite: bool
    on_card: bool


class Inputs:
    """`held` has what found room; the tensors of a parameter lie on the parameter's own device."""

    def __init__(
        self,
        sources: Sources,
        wanted: dict[str, tuple[torch.device, list[Part]]],
        room: dict[torch.device, int],
        host_bytes: int,
        progress: Progress | None = None,
    ):
        """`wanted`: the tensors, where they belong, and what is to be held of each. `room`: bytes of every device, from which is
        taken what is used."""
        self.sources = sources
        self._local = threading.local()
        orders: list[tuple[Part, str, torch.device, bool]] = []
        for name, (device, parts) in wanted.items():
            for part in parts:
                nbytes = self._nbytes(part, name)
                if nbytes <= room[device]:
                    room[device] -= nbytes
                    orders.append((part, name, device, True))
                elif nbytes <= host_bytes:
                    host_bytes -= nbytes
                    orders.append((part, name, device, False))
        found = each(orders, lambda order: self._load(*order), "reading what is added", progress)
        self.held = {(part, name): held for (part, name, _, _), held in zip(orders, found, strict=True)}

    def _nbytes(self, part: Part, name: str) -> int:
        """What a tensor takes; of one that must be computed, at most."""
        info = self.sources.base.tensors[name]
        if part is None:
            return info.nbytes
        return info.numel * (4 if part.holds_difference(name) else 2 if part.code(name) in ("BF16", "F16") else 4)

    def _load(self, part: Part, name: str, device: torch.device, on_card: bool) -> Held:
        is_difference = part is not None and part.holds_difference(name)
        numel, target, finite = self.sources.base.tensors[name].numel, None, None
        step = numel if is_difference else _STEP  # what is computed is computed whole
        for start in range(0, numel, max(1, step)):
            stop = min(start + step, numel)
            staging = self._staging(device) if on_card and stop - start <= _STEP else None
            found = self._values(part, name, start, stop, staging)
            if staging is not None and found.ctypes.data != staging.data_ptr():  # it was not read but computed, or held
                there = staging.numpy()[: found.nbytes].view(found.dtype)
                there[:] = found
                found = there
            values = _in_torch(found if found.flags.writeable else found.copy())
            if target is None:
                target = _memory(numel, values.dtype, device, on_card)
                finite = torch.ones((), dtype=torch.bool, device=target.device)
            here = target[start:stop]
            here.copy_(values, non_blocking=staging is not None)
            finite &= torch.isfinite(here).all()
            if staging is not None and device.type == "cuda":
                torch.cuda.current_stream(device).synchronize()  # before the staging memory is used again
        if target is None:
            target, finite = _memory(0, torch.float32, device, on_card), torch.ones(())
        return Held(target, is_difference, bool(finite), on_card)

    def _values(self, part: Part, name: str, start: int, stop: int, staging: torch.Tensor | None) -> np.ndarray:
        memory = None if staging is None else lambda size: staging.numpy()[:size]
        if part is None:
            return self.sources.base.values(name, start, stop, memory)
        return part.stored(name, start, stop, np.dtype(np.float32), memory)[0]

    def _staging(self, device: torch.device) -> torch.Tensor:
        if not hasattr(self._local, "staging"):
            self._local.staging = torch.empty(4 * _STEP, dtype=torch.uint8, pin_memory=device.type == "cuda")
            if device.type == "cuda":
                torch.cuda.set_stream(torch.cuda.Stream(device))  # of this thread: threads do not wait for one another
        return self._local.staging


def room_on(device: torch.device) -> int:
    """Bytes of a card that nobody uses, without the reserve for answers."""
    return max(0, free_bytes_on(device) - RESERVE_BYTES)


def _in_torch(values: np.ndarray) -> torch.Tensor:
    return (
        torch.from_numpy(values.view(np.int16)).view(torch.bfloat16)
        if values.dtype == np.uint16
        else torch.from_numpy(values)
    )


def _memory(numel: int, dtype: torch.dtype, device: torch.device, on_card: bool) -> torch.Tensor:
    if on_card:
        return torch.empty(numel, dtype=dtype, device=device)
    return _pinned(numel * dtype.itemsize, device).view(dtype)


def _pinned(nbytes: int, device: torch.device) -> torch.Tensor:
    """Host memory that a card reads by itself: pages of its own, since torch's pinned memory is rounded up to a power of two. Where
    the system refuses to pin it, plain memory, which is slower."""
    array = np.frombuffer(mmap.mmap(-1, max(nbytes, mmap.PAGESIZE)), np.uint8)
    if device.type == "cuda":
        with torch.cuda.device(device):
            address = array.ctypes.data
            if int(torch.cuda.cudart().cudaHostRegister(address, array.nbytes, 0)) == 0:
                weakref.finalize(array, lambda: torch.cuda.cudart().cudaHostUnregister(address))
    return torch.from_numpy(array)[:nbytes]
