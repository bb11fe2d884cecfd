"""Work of a few seconds inside a page: a bar, a Stop, and a result that everybody on this server keeps in memory.

`result` works in the page's own thread: it must tell its progress often, and whatever the person does next ends it. `shared` works in
a thread of its own, for what several people wait for, or what is silent for long (a model being opened): pages come and go.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future, wait
from contextlib import contextmanager
from typing import Any

import streamlit as st

from maet_core.errors import Cancelled
from maet_core.progress import Progress
from maet_core.studio import limits, state

MOST_RESULTS = 128
POLL_SECONDS = 0.2
SILENT_SECONDS = 0.4  # what is over by then shows no bar
_STOPPED = "_stopped_"
_beginning = threading.RLock()


def result(
    key: str, signature: Any, work: Callable[[Progress], Any], what: str, most: int = MOST_RESULTS
) -> Any | None:
    """What `work(progress)` gives; at once if anybody had it already, None after a Stop (with a button to begin again).

    `signature` (hashable) says what it depends on. `most` results of this key are kept. Raises Busy where this server has no place
    for it now.
    """
    if (found := known(key, signature)) is not None:
        return found
    place = st.empty()
    if _is_stopped(place, key, signature, what):
        return None
    bar = _bar(place, key, signature, what)

    def progress(phase: str, done: int, total: int) -> None:
        bar.progress(min(done / max(total, 1), 1.0), f"{phase} …")

    with limits.a_place():
        found = work(progress)
    place.empty()
    return _keep(key, signature, found, most)


def shared(key: str, signature: Any, work: Callable[[Progress], Any], what: str, most: int = MOST_RESULTS) -> Any:
    """What `work(progress)` gives, made once for all who want it. Raises NotThere after a Stop (with a button to begin again).

    `most` results of this key are kept. Where none is, the work halts as soon as nobody waits for it; else it goes on when a page
    leaves, and halts when the last one that waits presses Stop, or when other work of this kind begins that leaves no room for it.
    What it gives after that is let go. `work` must not call Streamlit: it runs in another thread.
    """
    if most and (found := known(key, signature)) is not None:
        return found
    place = st.empty()
    if _is_stopped(place, key, signature, what):
        raise NotThere
    with _beginning:
        task = _tasks().get((key, signature))
        if task is None or task.has_failed:
            if most:
                _make_room(key, most)
            task = _begin(key, signature, work, most)
        task.waiting += 1
    try:
        if not task.wait(SILENT_SECONDS):
            bar = _bar(place, key, signature, what)
            while not task.wait(POLL_SECONDS):
                phase, done, total = task.told
                bar.progress(min(done / max(total, 1), 1.0), f"{phase or what} …")
        found = task.result()
    except Cancelled:
        with place.container():  # by somebody else, or by a Stop that was taken back at once
            st.caption(f"Stopped: {what}.")
            st.button("Go on", key=_name(key, signature) + "-go", on_click=state.acted)
        raise NotThere from None
    finally:
        with _beginning:
            task.waiting -= 1
            if not task.goes_on and not task.waiting:
                task.halt()
            _settle(key, signature, task, most, _tasks(), _results())
    place.empty()
    return found


def _begin(key: str, signature: Any, work: Callable[[Progress], Any], most: int) -> Task:
    tasks, results = _tasks(), _results()

    def over(task: Task) -> None:
        with _beginning:
            _settle(key, signature, task, most, tasks, results)

    tasks[key, signature] = task = Task(work, most > 0, over)
    return task


def _settle(key: str, signature: Any, task: Task, most: int, tasks: dict, results: OrderedDict) -> None:
    """Once it is over and nobody waits any more the task goes; what it gave stays, unless it was halted."""
    if task.waiting or not task.is_over:
        return
    if tasks.get((key, signature)) is task:
        tasks.pop((key, signature))
    if most and not task.has_failed:
        _keep(key, signature, task.result(), most, results)


def _make_room(key: str, most: int) -> None:
    """Before a new model, the old one goes, and so does one that is being opened while nobody waits for it any more."""
    _forget_all_but(key, most - 1, _results())
    alone = [task for (of, _), task in _tasks().items() if of == key and not task.waiting]
    for task in alone[: max(len(alone) - most + 1, 0)]:
        task.halt()


class NotThere(Exception):
    """What the page needs has been stopped, and the page says so: there is no more to tell."""


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
            if (
                self._halted.is_set()
            ):  # work that tells its progress too seldom to hear of it: nobody wants this any more
                self._future.set_exception(Cancelled("stopped"))
            else:
                self._future.set_result(found)
        self._over(self)

    def _tell(self, phase: str, done: int, total: int) -> None:
        if self._halted.is_set():
            raise Cancelled(f"stopped during: {phase}")
        self.told = (phase, done, total)


def at_once(key: str, signature: Any, work: Callable[[], Any], most: int = MOST_RESULTS) -> Any:
    """The same for work that is over before a bar could be seen."""
    found = known(key, signature)
    return _keep(key, signature, work(), most) if found is None else found


def known(key: str, signature: Any) -> Any | None:
    """The result if it is there already."""
    kept = _results()
    with _beginning:
        if (key, signature) in kept:
            kept.move_to_end((key, signature))  # what nobody asks for is forgotten first
        return kept.get((key, signature))


def _forget_all_but(key: str, most: int, kept: OrderedDict) -> None:
    names = [name for name in kept if name[0] == key]
    for name in names[: max(len(names) - most, 0)]:
        kept.pop(name, None)


def _keep(key: str, signature: Any, found: Any, most: int, kept: OrderedDict | None = None) -> Any:
    kept = _results() if kept is None else kept
    with _beginning:
        kept[key, signature] = found
        _forget_all_but(key, most, kept)
    return found


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


def _is_stopped(place, key: str, signature: Any, what: str) -> bool:
    """Whether this person has stopped it; says so, with the way on."""
    if st.session_state.get(_STOPPED + key) != signature:
        return False
    with place.container():
        st.caption(f"Stopped: {what}.")
        st.button("Go on", key=_name(key, signature) + "-go", on_click=_forget, args=(_STOPPED + key,))
    return True


def _bar(place, key: str, signature: Any, what: str):
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, f"{what} …")
        name = _name(key, signature) + "-stop"
        st.button("Stop", key=name, icon=":material/stop:", on_click=_stop, args=(key, signature))
    return bar


def _name(key: str, signature: Any) -> str:
    """Of its own for every result: a page may wait for several, one after the other."""
    return f"{key}-{hash(signature):x}"


def _stop(key: str, signature: Any) -> None:
    state.acted()
    st.session_state[_STOPPED + key] = signature
    with _beginning:
        task = _tasks().get((key, signature))
        if task and not task.waiting:
            task.halt()


def _forget(name: str) -> None:
    state.acted()
    st.session_state.pop(name, None)


@st.cache_resource(show_spinner=False)
def _tasks() -> dict[tuple, Task]:
    return {}


@st.cache_resource(show_spinner=False)
def _results() -> OrderedDict:
    return OrderedDict()
