"""Work of a build in several processes, each on one thread; with one process, in this one."""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from contextlib import contextmanager
from typing import Any

from maet_core.errors import Cancelled, Stopped
from maet_core.progress import Halted, Progress, tell

_asked: list[int] = []
_event: Any = None
_parent = 0


class Pool:
    """`submit` work, then `join` it. Functions take `halted`, which they get from here."""

    def __init__(self, executor: ProcessPoolExecutor | None):
        self.executor = executor

    def submit(self, function: Callable, *arguments: Any) -> Future:
        """`function(*arguments, halted=…)`, as soon as a process is free; with one process, once it is waited for."""
        return self.executor.submit(_call, function, arguments) if self.executor else _Later(function, arguments)

    def join(self, futures: Sequence[Future], phase: str, progress: Progress | None, halted: Halted | None) -> list:
        """Waits for all; raises Cancelled, after what runs has kept its state, once `halted` turns true."""
        if not self.executor:
            return [future.run(phase, progress, halted) for future in futures]
        waiting = set(futures)
        while waiting:
            done, waiting = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                future.result()
            if halted and halted():
                raise Cancelled(f"stopped during: {phase}")
            tell(progress, None, phase, len(futures) - len(waiting), len(futures))
        return [future.result() for future in futures]


class _Later(Future):
    """Work that is done in this process when it is waited for."""

    def __init__(self, function: Callable, arguments: Sequence[Any]):
        super().__init__()
        self.function, self.arguments = function, arguments

    def run(self, phase: str, progress: Progress | None, halted: Halted | None) -> Any:
        tell(progress, None, phase, 0, 1)
        return self.function(*self.arguments, halted=halted)


@contextmanager
def workers(processes: int) -> Iterator[Pool]:
    """A pool; on the way out, what still runs is asked to keep its state and stop."""
    if processes == 1:
        yield Pool(None)
        return
    context = multiprocessing.get_context("spawn")
    event = context.Event()
    executor = ProcessPoolExecutor(processes, context, _begin, (event, os.getpid()))
    try:
        yield Pool(executor)
    finally:
        event.set()
        executor.shutdown(wait=True, cancel_futures=True)


@contextmanager
def resumable() -> Iterator[None]:
    """What is stopped in here has kept what it had, and says so."""
    try:
        yield
    except Stopped:
        raise
    except Cancelled as stop:
        raise Stopped(f"{stop}; the same command goes on from there") from stop


def usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _begin(event: Any, parent: int) -> None:
    """In a worker: stop when told so, when the parent is gone, and on SIGTERM; Ctrl-C is the parent's to handle."""
    import torch

    global _event, _parent
    _event, _parent = event, parent
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, _: _asked.append(number))


def _call(function: Callable, arguments: Sequence[Any]) -> Any:
    return function(*arguments, halted=lambda: bool(_asked) or _event.is_set() or os.getppid() != _parent)
