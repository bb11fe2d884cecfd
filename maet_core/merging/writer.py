"""The weights of a merge, to disk: several threads, each with a block of a tensor, none with a whole one."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from functools import partial as partial_of
from math import prod

from maet_core.checkpoints import INDEX_FILE
from maet_core.dtypes import HELD_AS
from maet_core.identity import BLOCK_BYTES
from maet_core.lazy import torch
from maet_core.merging.combine import Combiner
from maet_core.merging.on_device import PIECE_ELEMENTS, OnDevice, Piece
from maet_core.merging.output import Partial
from maet_core.merging.plan import MergePlan
from maet_core.progress import Halted, Progress, tell, threads
from maet_core.safetensors_writer import Layout, PlacedSafetensors, storage_order

JOURNAL_SECONDS = 2.0
# Whole hashing blocks for every dtype, so that one thread sees each block from its start to its end.
BLOCK_ELEMENTS = BLOCK_BYTES


@dataclass(frozen=True)
class _Block:
    file: PlacedSafetensors
    name: str
    start: int
    stop: int


def write_weights(
    plan: MergePlan,
    layout: Layout,
    partial: Partial,
    cards: list[torch.device],
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> dict[str, int]:
    """Writes every tensor of `layout` as shards with their index, and returns how many values of each differ from the base.

    `cards` share the blocks of all tensors, with a thread each; without any, threads of the processor do.
    Tensors that an earlier, killed run has finished are kept. An exception in any thread ends the work and is raised here.
    """
    shards = shard(layout, plan.sources.recipe.output.shard_bytes)
    names = ["model.safetensors"] if len(shards) == 1 else [_shard_name(i, len(shards)) for i in range(len(shards))]
    files = [
        PlacedSafetensors(partial.path / name, {tensor: layout[tensor] for tensor in tensors}, {"format": "pt"})
        for name, tensors in zip(names, shards, strict=True)
    ]
    try:
        changed = _Work(plan, layout, files, shards, partial, cards).run(progress, halted)
    finally:
        for file in files:
            file.close()
    if len(shards) > 1:
        weight_map = {tensor: name for name, tensors in zip(names, shards, strict=True) for tensor in tensors}
        index = {"metadata": {"total_size": sum(nbytes(layout, name) for name in layout)}, "weight_map": weight_map}
        (partial.path / INDEX_FILE).write_text(json.dumps(index, indent=2, sort_keys=True) + "\n", "utf-8")
    return changed


class _Work:
    """What the threads share: the queue of blocks, and the account of what is done."""

    def __init__(
        self,
        plan: MergePlan,
        layout: Layout,
        files: list[PlacedSafetensors],
        shards: list[list[str]],
        partial: Partial,
        cards: list[torch.device],
    ):
        self.plan, self.layout, self.files, self.partial = plan, layout, files, partial
        self._workers = [partial_of(self._work_on, card) for card in cards] or [self._work] * threads()
        self.changed: Counter[str] = Counter(partial.done)
        self.total = sum(prod(shape) for _, shape in layout.values())
        self._missing = {name: prod(shape) for name, (_, shape) in layout.items() if name not in partial.done}
        self._finished = {name: 0 for name, missing in self._missing.items() if missing == 0}
        self._blocks = self._all_blocks(shards)
        self._lock = threading.Lock()
        self._stopping = False

    def _all_blocks(self, shards: list[list[str]]) -> Iterator[_Block]:
        for file, names in zip(self.files, shards, strict=True):
            for name in storage_order({name: self.layout[name] for name in names if name in self._missing}):
                numel = self._missing[name]
                for start in range(0, numel, BLOCK_ELEMENTS):
                    yield _Block(file, name, start, min(start + BLOCK_ELEMENTS, numel))

    def run(self, progress: Progress | None, halted: Halted | None) -> dict[str, int]:
        noted = time.monotonic()
        with ThreadPoolExecutor(max_workers=len(self._workers), thread_name_prefix="merge") as pool:
            workers = [pool.submit(work) for work in self._workers]
            try:
                running = set(workers)
                while running:
                    ended, running = wait(running, timeout=0.1, return_when=FIRST_EXCEPTION)
                    for worker in ended:
                        worker.result()
                    tell(progress, halted, "merging", self.total - sum(self._missing.values()), self.total)
                    if time.monotonic() - noted > JOURNAL_SECONDS:
                        self._note()
                        noted = time.monotonic()
            finally:
                self._stopping = True
        tell(progress, halted, "merging", self.total, self.total)
        return dict(self.changed)

    def _work(self) -> None:
        combiner = Combiner(self.plan)
        while (block := self._next()) is not None:
            changed = 0
            step = combiner.step(block.name)
            for start in range(block.start, block.stop, step):
                stop = min(start + step, block.stop)
                values, count = combiner.chunk(block.name, start, stop, self.layout[block.name][0])
                block.file.write(block.name, start, values)
                changed += count
                if self._stopping:
                    return
            self._finish(block, changed)

    def _work_on(self, card: torch.device) -> None:
        blocks: deque[_Block] = deque()  # of which pieces are under way
        changed = 0

        def pieces() -> Iterator[Piece]:
            while (block := self._next()) is not None:
                blocks.append(block)
                for start in range(block.start, block.stop, PIECE_ELEMENTS):
                    stop = min(start + PIECE_ELEMENTS, block.stop)
                    yield Piece(block.name, start, stop, self.layout[block.name][0])

        for piece, values, count in OnDevice(self.plan, card).merged(pieces()):
            blocks[0].file.write(piece.name, piece.start, values)
            changed += count
            if piece.stop == blocks[0].stop:
                self._finish(blocks.popleft(), changed)
                changed = 0
            if self._stopping:
                return

    def _finish(self, block: _Block, changed: int) -> None:
        if self.partial.sync:  # the disk works while the rest is computed, and little is left to wait for at the end
            block.file.flush(block.name, block.start, block.stop)
        self._account(block, changed)

    def _next(self) -> _Block | None:
        with self._lock:
            return None if self._stopping else next(self._blocks, None)

    def _account(self, block: _Block, changed: int) -> None:
        with self._lock:
            self.changed[block.name] += changed
            self._missing[block.name] -= block.stop - block.start
            if self._missing[block.name] == 0:
                self._finished[block.name] = self.changed[block.name]

    def _note(self) -> None:
        """Puts finished tensors into the journal."""
        with self._lock:
            finished, self._finished = self._finished, {}
        if finished:
            self.partial.note(finished)


def shard(layout: Layout, shard_bytes: int) -> list[list[str]]:
    """Tensor names in files of at most `shard_bytes`; a larger tensor has a file of its own."""
    shards: list[list[str]] = []
    room = 0
    for name in layout:
        size = nbytes(layout, name)
        if not shards or size > room:
            shards.append([])
            room = shard_bytes
        shards[-1].append(name)
        room -= size
    return shards or [[]]


def nbytes(layout: Layout, name: str) -> int:
    code, shape = layout[name]
    return prod(shape) * HELD_AS[code].itemsize


def _shard_name(position: int, count: int) -> str:
    return f"model-{position + 1:05d}-of-{count:05d}.safetensors"
