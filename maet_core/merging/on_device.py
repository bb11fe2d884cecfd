"""The merge on an accelerator: the formula and the rounding of the compiled loops, in torch, while the next values are on their way.

Everything of a piece (stored bits of the base and of what is added, masks) lies side by side in one buffer of pinned host memory, goes
to the card in one asynchronous copy, and the result comes back in another; two such buffers take turns. On other devices, torch's own
CPU included, the same code runs without streams.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from maet_core import dtypes, equations
from maet_core.differences import Difference, widened
from maet_core.importance.key_neurons import KeyNeurons
from maet_core.lazy import torch
from maet_core.merging.combine import Combiner, refuse_too_large
from maet_core.merging.plan import Addend, MergePlan, in_float32

# What goes to a card at once: enough that the launches of its kernels cost less than the copies.
PIECE_ELEMENTS = 1 << 21

_ALIGNED = 64


@dataclass(frozen=True)
class Piece:
    """Elements `start` to `stop` of the merged tensor `name`, flat, in the dtype `code`."""

    name: str
    start: int
    stop: int
    code: str


class OnDevice:
    """Merges pieces on one device; for one thread. The method of the plan is linear."""

    def __init__(self, plan: MergePlan, device: torch.device):
        self.plan, self.device = plan, device
        self._cuda = device.type == "cuda"
        self._slots = [_Slot(device), _Slot(device)]
        self._on_processor = Combiner(plan)
        if self._cuda:
            self._copying, self._computing = torch.cuda.Stream(device), torch.cuda.Stream(device)

    def merged(self, pieces: Iterable[Piece]) -> Iterator[tuple[Piece, np.ndarray, int]]:
        """Each piece, its values (bf16: as bits; the caller's until the next one is asked for), and how many differ from the base.

        While one piece comes back, the next is read and sent. Raises what `Combiner.chunk` raises.
        """
        waiting: _Sent | None = None
        for number, piece in enumerate(pieces):
            sent = self._send(piece, self._slots[number % 2])
            if waiting is not None:
                yield self._fetch(waiting)
            waiting = sent
        if waiting is not None:
            yield self._fetch(waiting)

    def _send(self, piece: Piece, slot: _Slot) -> _Sent:
        base = self.plan.sources.base
        name = base.tied_copies.get(piece.name, piece.name)
        precision = self.plan.sources.precision(name)
        if not base.tensors[name].mergeable or (precision == np.float64 and self.device.type == "mps"):
            values, changed = self._on_processor.chunk(name, piece.start, piece.stop, piece.code)
            return _Sent(
                piece, name, None, ready=(values.copy(), changed)
            )  # the next piece is begun before it is taken
        load = _Load(base.tensors[name].code, base.values(name, piece.start, piece.stop), precision)
        for addend in self.plan.addends(name):
            load.add(addend, name, piece)
        slot.put(load)
        with torch.no_grad(), ExitStack() as stack:
            if self._cuda:
                with torch.cuda.stream(self._copying):
                    slot.send()
                    slot.sent.record()
                self._computing.wait_event(slot.sent)
                stack.enter_context(torch.cuda.stream(self._computing))
            else:
                slot.send()
            result, figures = self._compute(load, slot, dtypes.torch_dtype(piece.code))
            slot.bring_back(result, figures)
        return _Sent(piece, name, slot, load)

    def _compute(self, load: _Load, slot: _Slot, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        """The result in its dtype; how many values differ from the base, how many inputs are not finite, how many results are not."""
        precision = torch.float64 if load.precision == np.float64 else torch.float32
        base = slot.part(load.base).to(precision)
        bad = _not_finite(base)

        def change_of(values: _Values) -> torch.Tensor:
            nonlocal bad
            stored = slot.part(values.part).to(precision)
            bad = bad + _not_finite(stored)
            return stored if values.is_difference else stored - base

        masks = {
            keys: slot.part(mask)
            if isinstance(mask, _Part)
            else change_of(mask.of).abs().view(torch.int32) > mask.limit
            for keys, mask in load.masks.items()
        }

        def terms() -> Iterator[tuple[float, torch.Tensor]]:
            for addend, values in load.terms:
                change = change_of(values)
                if addend.key_neurons is not None:
                    change = torch.where(masks[addend.key_neurons], change, 0)
                rounded = in_float32([addend.coefficient])[0] if precision == torch.float32 else addend.coefficient
                yield float(rounded), change

        result = equations.merged(base, terms()).to(dtype)
        return result, torch.stack([(result != base.to(dtype)).sum(), bad, _not_finite(result)])

    def _fetch(self, sent: _Sent) -> tuple[Piece, np.ndarray, int]:
        if sent.ready is not None:
            return sent.piece, *sent.ready
        values, (changed, bad, unfit) = sent.slot.fetch(sent.piece)
        if bad:
            sent.load.refuse_non_finite(self.plan.sources.base.source, sent.name, sent.piece.start)
        if unfit:
            refuse_too_large(sent.name, sent.piece.code)
        return sent.piece, values, changed


@dataclass(frozen=True)
class _Sent:
    piece: Piece
    name: str
    slot: _Slot | None
    load: _Load | None = None
    ready: tuple[np.ndarray, int] | None = None


@dataclass(frozen=True)
class _Part:
    """Where some values lie in a buffer, and what they are."""

    offset: int
    nbytes: int
    dtype: torch.dtype


@dataclass(frozen=True)
class _Values:
    """Stored values of an addend, and whether they are a difference already."""

    part: _Part
    is_difference: bool


@dataclass(frozen=True)
class _Above:
    """A mask that the device finds: where the magnitude of this change, as the bits of a float32 value, is above the limit."""

    of: _Values
    limit: int


class _Load:
    """All inputs of one piece, and their places in a buffer."""

    def __init__(self, code: str, base: np.ndarray, precision: np.dtype):
        self.precision = precision
        self.nbytes = 0
        self.arrays: list[tuple[_Part, np.ndarray]] = []
        self.terms: list[tuple[Addend, _Values]] = []
        self.masks: dict[KeyNeurons, _Part | _Above] = {}
        self._read: dict[Difference, _Values] = {}
        self.base = self._place(base, dtypes.torch_dtype(code))

    def add(self, addend: Addend, name: str, piece: Piece) -> None:
        self.terms.append((addend, self._values(addend.difference, name, piece)))
        keys = addend.key_neurons
        if keys is not None and keys not in self.masks:
            self.masks[keys] = self._mask(keys, name, piece)

    def _mask(self, keys: KeyNeurons, name: str, piece: Piece) -> _Part | _Above:
        judge = keys.scores.magnitude_of
        # the ranking is on float32 scores, and what is read in another precision is not what was ranked
        if judge is not None and self.precision == np.float32 and judge.touches(name):
            limit = keys.limit(name, piece.start, piece.stop)
            if limit is not None:
                return _Above(self._values(judge, name, piece), int(limit))
        return self._place(keys.chosen(name, piece.start, piece.stop), torch.bool)

    def _values(self, difference: Difference, name: str, piece: Piece) -> _Values:
        if difference not in self._read:
            stored, is_difference = difference.stored(name, piece.start, piece.stop, self.precision)
            dtype = torch.bfloat16 if stored.dtype == np.uint16 else getattr(torch, stored.dtype.name)
            self._read[difference] = _Values(self._place(stored, dtype), is_difference)
        return self._read[difference]

    def _place(self, values: np.ndarray, dtype: torch.dtype) -> _Part:
        part = _Part(self.nbytes, values.nbytes, dtype)
        self.arrays.append((part, values))
        self.nbytes += -(-values.nbytes // _ALIGNED) * _ALIGNED
        return part

    def refuse_non_finite(self, base_source: str, name: str, start: int) -> None:
        """Raises CheckpointError for the input that has the NaN or the infinity, and its position."""
        arrays = dict(self.arrays)
        widened(arrays[self.base], base_source, name, start, self.precision)
        for difference, values in self._read.items():
            widened(arrays[values.part], difference.source, name, start, self.precision)


def _not_finite(values: torch.Tensor) -> torch.Tensor:
    return (~torch.isfinite(values)).sum()


class _Slot:
    """One of the buffers that take turns: host memory (pinned where the device is a CUDA card) and its counterpart on the device.
    `sent` is what the card's other stream waits for."""

    def __init__(self, device: torch.device):
        self.device, self._pinned = device, device.type == "cuda"
        self.sent, self._done = (torch.cuda.Event(), torch.cuda.Event()) if self._pinned else (None, None)
        self._host, self._back = self._memory(0), self._memory(0)
        self._there = torch.empty(0, dtype=torch.uint8, device=self.device)
        self._figures = torch.zeros(3, dtype=torch.int64, pin_memory=self._pinned)
        self._used = 0

    def _memory(self, nbytes: int) -> torch.Tensor:
        return torch.empty(nbytes, dtype=torch.uint8, pin_memory=self._pinned and nbytes > 0)

    def put(self, load: _Load) -> None:
        """Fills the host's buffer; whatever was under way in this slot has been fetched."""
        if load.nbytes > self._host.numel():
            self._host = self._memory(load.nbytes)
            self._there = torch.empty(load.nbytes, dtype=torch.uint8, device=self.device)
        target = self._host.numpy()
        for part, values in load.arrays:
            target[part.offset : part.offset + part.nbytes] = values.view(np.uint8)
        self._used = load.nbytes

    def send(self) -> None:
        self._there[: self._used].copy_(self._host[: self._used], non_blocking=True)

    def part(self, part: _Part) -> torch.Tensor:
        return self._there[part.offset : part.offset + part.nbytes].view(part.dtype)

    def bring_back(self, result: torch.Tensor, figures: torch.Tensor) -> None:
        values = result.view(torch.uint8)
        if values.numel() > self._back.numel():
            self._back = self._memory(values.numel())
        self._back[: values.numel()].copy_(values, non_blocking=True)
        self._figures.copy_(figures, non_blocking=True)
        if self._done is not None:
            self._done.record()

    def fetch(self, piece: Piece) -> tuple[np.ndarray, list[int]]:
        """The result and its figures, once they are there."""
        if self._done is not None:
            self._done.synchronize()
        held = dtypes.HELD_AS[piece.code]
        nbytes = (piece.stop - piece.start) * held.itemsize
        return self._back.numpy()[:nbytes].view(held), self._figures.tolist()
