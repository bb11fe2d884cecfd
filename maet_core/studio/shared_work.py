"""Work that is done once for everybody on this server, each in a thread of its own, and what it gave, which stays in memory.

What the pages show of it is in `waiting`. Nothing here draws; the threads touch no Streamlit either.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import Any

import streamlit as st

from maet_core.errors import Cancelled
from maet_core.progress import Progress

LOCK = threading.RLock()
"""Held while tasks and results are looked at and changed."""


class Task:
    """Work in a thread of its own. `told` is its progress; `waiting` counts the pages that wait for it. `over(task)` is called last."""

    def __init__(
        self, work: Callable[[Progress], Any], goes_on: bool, over: Callable[[Task], None] = lambda task: None
    ):
        self.goes_on, self.waiting, self._over = goes_on, 0, over
        self.told = ("", 0, 1)
        self._halted, self._future = threading.Event(), Future()
        threading.Thread(target=self._run, args=(work,), daemon=True, name="shared-work").start()

    @property
    def is_over(self) -> bool:
        return self._future.done()

    @property
    def has_failed(self) -> bool:
        return self._halted.is_set() or (self.is_over and self._future.exception() is not None)

    def wait(self, seconds: float) -> bool:
        """Whether it is over within that time."""
        return bool(wait([self._future], seconds).done)

    def result(self) -> Any:
        """Raises what the work raised: Cancelled after `halt`."""
        return self._future.result()

    def halt(self) -> None:
        self._halted.set()

    def _run(self, work: Callable[[Progress], Any]) -> None:
        try:
            found = work(self._tell)
        except Cancelled as error:
            self._future.set_exception(error.with_traceback(None))  # which would hold on to a model that is half there
        except BaseException as error:  # of any kind: it must reach the pages that wait, not die with the thread
            self._future.set_exception(error)
        else:
            if self._halted.is_set():  # it told its progress too seldom to hear of it, and nobody wants this any more
                self._future.set_exception(Cancelled("stopped"))
            else:
                self._future.set_result(found)
        self._over(self)

    def _tell(self, phase: str, done: int, total: int) -> None:
        if self._halted.is_set():
            raise Cancelled(f"stopped during: {phase}")
        self.told = (phase, done, total)


def begin(key: str, signature: Any, work: Callable[[Progress], Any], most: int) -> Task:
    """Starts it. `most` results of this key are kept; where none is, the work is for those alone who wait for it."""
    running, kept = running_tasks(), kept_results()

    def over(task: Task) -> None:
        with LOCK:
            settle(key, signature, task, most, running, kept)

    running[key, signature] = task = Task(work, most > 0, over)
    return task


def settle(key: str, signature: Any, task: Task, most: int, running: dict, kept: OrderedDict) -> None:
    """Once it is over and nobody waits any more the task goes; what it gave stays, unless it was halted."""
    if task.waiting or not task.is_over:
        return
    if running.get((key, signature)) is task:
        running.pop((key, signature))
    if most and not task.has_failed:
        keep(key, signature, task.result(), most, kept)


def make_room(key: str, most: int) -> None:
    """Before a new model, the old one goes, and so does one that is being opened while nobody waits for it any more."""
    _forget_all_but(key, most - 1, kept_results())
    alone = [task for (of, _), task in running_tasks().items() if of == key and not task.waiting]
    for task in alone[: max(len(alone) - most + 1, 0)]:
        task.halt()


def known(key: str, signature: Any) -> Any | None:
    """The result if it is there already."""
    kept = kept_results()
    with LOCK:
        if (key, signature) in kept:
            kept.move_to_end((key, signature))  # what nobody asks for is forgotten first
        return kept.get((key, signature))


def _forget_all_but(key: str, most: int, kept: OrderedDict) -> None:
    names = [name for name in kept if name[0] == key]
    for name in names[: max(len(names) - most, 0)]:
        kept.pop(name, None)


def keep(key: str, signature: Any, found: Any, most: int, kept: OrderedDict | None = None) -> Any:
    """Gives back what is kept. `kept` is for threads, which cannot ask Streamlit for it."""
    kept = kept_results() if kept is None else kept
    with LOCK:
        kept[key, signature] = found
        _forget_all_but(key, most, kept)
    return found


@st.cache_resource(show_spinner=False)
def running_tasks() -> dict[tuple, Task]:
    return {}


@st.cache_resource(show_spinner=False)
def kept_results() -> OrderedDict:
    return OrderedDict()
