"""Many answers, one after the other, into the cells of a table. What is there stays through reruns, Stop, and other pages."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Any

import streamlit as st

from maet_core.conversation import Answer
from maet_core.studio import entries, waiting


@dataclass
class Filling:
    """`answers` of the cells so far, finished ones only. `running`: the page goes on with it whenever it runs."""

    signature: Any
    answers: dict[Hashable, Answer] = field(default_factory=dict)
    running: bool = False

    def take(self, cell: Hashable, answer: Answer) -> bool:
        """Keeps an answer that has come to its own end, and says whether it was one."""
        if answer.finished in ("end", "length", "error"):
            self.answers[cell] = answer
            return True
        return False

    def start(self) -> None:
        """A callback."""
        entries.acted()
        waiting.begin_again()
        self.running = True

    def stop(self) -> None:
        """A callback. The click itself ends the answer that is being written."""
        entries.acted()
        self.running = False


def filling(key: str, signature: Any) -> Filling:
    """This person's table of that name. What was asked of other models, or otherwise, is forgotten."""
    kept = st.session_state.setdefault("_fillings", {})
    if key not in kept or kept[key].signature != signature:
        kept[key] = Filling(signature)
    return kept[key]


def buttons(key: str, work: Filling, done: int, total: int, label: str) -> None:
    """Start or go on, or Stop, and start over."""
    running = work.running and done < total
    with st.container(horizontal=True, width="content"):
        # One key: another button would stand beside the old one until the last cell is filled.
        if running:
            st.button("Stop", key=f"{key}-go", icon=":material/stop:", on_click=work.stop)
        elif done < total:
            go_on = f"Go on ({total - done} left)" if done else label
            st.button(go_on, type="primary", key=f"{key}-go", icon=":material/play_arrow:", on_click=work.start)
        if done and not running:
            st.button("Clear", key=f"{key}-clear", on_click=_clear, args=(work,))


def _clear(work: Filling) -> None:
    work.stop()
    work.answers.clear()
