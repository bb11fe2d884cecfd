"""Whether a run of a page was caused by an entry or by the page itself, or by a URL that the person opened or went back to."""

from __future__ import annotations

from typing import NoReturn

import streamlit as st

_ACTED = "_acted"


def acted() -> None:
    """Every callback of a widget calls this, or changes the state, which does: the next run is not caused by a URL.

    An entry that follows another quickly comes with the URL of before both, for the browser has not heard of the new one
    yet. Without this it would look as if the person had gone back.
    """
    st.session_state[_ACTED] = True


def draw_again() -> NoReturn:
    """Runs the whole page once more, because something has ended or come.

    Where a fragment asks on its own, the URL may be that of before an entry which has just been taken, for the same reason.
    """
    acted()
    st.rerun()


def caused() -> bool:
    """Whether this run is due to an entry or to the page; it is told once."""
    return st.session_state.pop(_ACTED, False)
