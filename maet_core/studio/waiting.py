"""Work of a few seconds inside a page: a bar, a Stop, and a result that everybody on this server keeps in memory.

`result` works in the page's own thread: it must tell its progress often, and whatever the person does next ends it. `shared` works in
a thread of its own, for what several people wait for, or what is silent for long (a model being opened): pages come and go.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import streamlit as st

from maet_core.errors import Cancelled
from maet_core.progress import Progress
from maet_core.studio import entries, limits, shared_work

MOST_RESULTS = 128
POLL_SECONDS = 0.2
SILENT_SECONDS = 0.4  # what is over by then shows no bar
_STOPPED = "_stopped_"


def result(
    key: str, signature: Any, work: Callable[[Progress], Any], what: str, most: int = MOST_RESULTS
) -> Any | None:
    """What `work(progress)` gives; at once if anybody had it already, None after a Stop (with a button to begin again).

    `signature` (hashable) says what it depends on. `most` results of this key are kept. Raises Busy where this server has no place
    for it now.
    """
    if (found := shared_work.known(key, signature)) is not None:
        return found
    if _is_stopped(key, signature, what):
        return None
    bar, started = _Bar(key, signature, what), time.monotonic()

    def progress(phase: str, done: int, total: int) -> None:
        if time.monotonic() - started > SILENT_SECONDS:
            bar.show(phase, done, total)

    with limits.a_place():
        found = work(progress)
    bar.clear()
    return shared_work.keep(key, signature, found, most)


def shared(key: str, signature: Any, work: Callable[[Progress], Any], what: str, most: int = MOST_RESULTS) -> Any:
    """What `work(progress)` gives, made once for all who want it. Raises NotThere after a Stop (with a button to begin again).

    `most` results of this key are kept. Where none is, the work halts as soon as nobody waits for it; else it goes on when a page
    leaves, and halts when the last one that waits presses Stop, or when other work of this kind begins that leaves no room for it.
    What it gives after that is let go. `work` must not call Streamlit: it runs in another thread.
    """
    if most and (found := shared_work.known(key, signature)) is not None:
        return found
    if _is_stopped(key, signature, what):
        raise NotThere
    bar = _Bar(key, signature, what)
    with shared_work.LOCK:
        task = shared_work.running_tasks().get((key, signature))
        if task is None or task.has_failed:
            if most:
                shared_work.make_room(key, most)
            task = shared_work.begin(key, signature, work, most)
        task.waiting += 1
    try:
        if not task.wait(SILENT_SECONDS):
            bar.show("", 0, 1)
            while not task.wait(POLL_SECONDS):
                bar.show(*task.told)
        found = task.result()
    except Cancelled:
        bar.clear()
        st.caption(f"Stopped: {what}.")  # by somebody else, or by a Stop that was taken back at once
        st.button("Go on", key=_name(key, signature) + "-go", on_click=entries.acted)
        raise NotThere from None
    finally:
        with shared_work.LOCK:
            task.waiting -= 1
            if not task.goes_on and not task.waiting:
                task.halt()
            shared_work.settle(key, signature, task, most, shared_work.running_tasks(), shared_work.kept_results())
    bar.clear()
    return found


class NotThere(Exception):
    """What the page needs has been stopped, and the page says so: there is no more to tell."""


def at_once(key: str, signature: Any, work: Callable[[], Any], most: int = MOST_RESULTS) -> Any:
    """The same for work that is over before a bar could be seen."""
    found = shared_work.known(key, signature)
    return shared_work.keep(key, signature, work(), most) if found is None else found


@contextmanager
def held(lock: threading.RLock, progress: Progress):
    """The lock of a model that others use as well; while it is busy the bar says so, and Stop still works."""
    while not lock.acquire(timeout=POLL_SECONDS):
        progress("the model is answering somebody else; waiting", 0, 1)
    try:
        yield
    finally:
        lock.release()


def begin_again() -> None:
    """Called where a person asks for something anew: what was stopped before may begin."""
    for name in [name for name in st.session_state if str(name).startswith(_STOPPED)]:
        st.session_state.pop(name)


def _is_stopped(key: str, signature: Any, what: str) -> bool:
    """Whether this person has stopped it; says so, with the way on."""
    if st.session_state.get(_STOPPED + key) != signature:
        return False
    with st.container():
        st.caption(f"Stopped: {what}.")
        st.button("Go on", key=_name(key, signature) + "-go", on_click=_forget, args=(_STOPPED + key,))
    return True


class _Bar:
    """Takes its place on the page when there is something to show. So what is over at once moves nothing: where an element comes or
    goes, those after it in the same container are made anew, a slider that is being dragged among them."""

    def __init__(self, key: str, signature: Any, what: str):
        self.key, self.signature, self.what = key, signature, what
        self.place = self.bar = None

    def show(self, phase: str, done: int, total: int) -> None:
        if self.bar is None:
            self.place = st.empty()
            with self.place.container(horizontal=True, vertical_alignment="center"):
                self.bar = st.progress(0.0)
                name = _name(self.key, self.signature) + "-stop"
                st.button("Stop", key=name, icon=":material/stop:", on_click=_stop, args=(self.key, self.signature))
        self.bar.progress(min(done / max(total, 1), 1.0), f"{phase or self.what} …")

    def clear(self) -> None:
        if self.place is not None:
            self.place.empty()


def _name(key: str, signature: Any) -> str:
    """Of its own for every result: a page may wait for several, one after the other."""
    return f"{key}-{hash(signature):x}"


def _stop(key: str, signature: Any) -> None:
    entries.acted()
    st.session_state[_STOPPED + key] = signature
    with shared_work.LOCK:
        task = shared_work.running_tasks().get((key, signature))
        if task and not task.waiting:
            task.halt()


def _forget(name: str) -> None:
    entries.acted()
    st.session_state.pop(name, None)
