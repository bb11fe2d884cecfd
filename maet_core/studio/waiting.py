"""Work of a few seconds inside a page: a bar, a Stop, and a result that everybody on this server keeps in memory."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable
from contextlib import contextmanager
from typing import Any

import streamlit as st

from maet_core.progress import Progress
from maet_core.studio import limits, state

MOST_RESULTS = 128
POLL_SECONDS = 0.2


def result(key: str, signature: Any, work: Callable[[Progress], Any], what: str) -> Any | None:
    """What `work(progress)` gives; at once if anybody had it already, None after a Stop (with a button to begin again).

    `signature` (hashable) says what it depends on. The work runs in the page's own thread and must tell its progress often:
    whatever the person does next ends it there. Raises Busy where this server has no place for it now.
    """
    if (found := known(key, signature)) is not None:
        return found
    # of its own for every result: a page may wait for several, one after the other
    place, stopped, name = st.empty(), f"_stopped_{key}", f"{key}-{hash(signature):x}"
    if st.session_state.get(stopped) == signature:
        with place.container():
            st.caption(f"Stopped: {what}.")
            st.button("Go on", key=f"{name}-go", on_click=_forget, args=(stopped,))
        return None
    with place.container(horizontal=True, vertical_alignment="center"):
        bar = st.progress(0.0, f"{what} …")
        st.button("Stop", key=f"{name}-stop", icon=":material/stop:", on_click=_stop, args=(stopped, signature))

    def progress(phase: str, done: int, total: int) -> None:
        bar.progress(min(done / max(total, 1), 1.0), f"{phase} …")

    with limits.a_place():
        found = work(progress)
    place.empty()
    return _keep(key, signature, found)


def at_once(key: str, signature: Any, work: Callable[[], Any]) -> Any:
    """The same for work that is over before a bar could be seen."""
    found = known(key, signature)
    return _keep(key, signature, work()) if found is None else found


def known(key: str, signature: Any) -> Any | None:
    """The result if it is there already."""
    return _results().get((key, signature))


def _keep(key: str, signature: Any, found: Any) -> Any:
    kept = _results()
    kept[key, signature] = found
    while len(kept) > MOST_RESULTS:
        kept.popitem(last=False)
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


def _stop(name: str, signature: Any) -> None:
    state.acted()
    st.session_state[name] = signature


def _forget(name: str) -> None:
    state.acted()
    st.session_state.pop(name, None)


@st.cache_resource(show_spinner=False)
def _results() -> OrderedDict:
    return OrderedDict()
