"""How much one person may ask of this server: much on one's own machine, little in a public demonstration (`maet app --demo`)."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from maet_core.errors import MaetError


class Busy(MaetError):
    """As many answers are being written as this server may write at once."""


@dataclass(frozen=True)
class Limits:
    demo: bool
    max_new_tokens: int
    question_characters: int
    models_at_once: int
    """How many people's questions are answered at the same time; the next one is told to come again."""
    people_at_once: int
    """Questions in a row on Compare."""
    questions_at_once: int
    """Values of γ, and of η, in the grid on Merge."""
    grid_steps: int
    """Texts that are read for one view of Neurons."""
    texts_at_once: int

    def texts(self, counts: tuple[int, ...]) -> tuple[int, ...]:
        """Those of the offered numbers of texts that are allowed."""
        return tuple(count for count in counts if count <= self.texts_at_once) or counts[:1]


OWN_MACHINE = Limits(
    demo=False,
    max_new_tokens=2048,
    question_characters=8000,
    models_at_once=4,
    people_at_once=64,
    questions_at_once=200,
    grid_steps=9,
    texts_at_once=1000,
)
DEMONSTRATION = Limits(
    demo=True,
    max_new_tokens=128,
    question_characters=400,
    models_at_once=3,
    people_at_once=2,
    questions_at_once=20,
    grid_steps=3,
    texts_at_once=60,
)

_answering: dict[int, threading.BoundedSemaphore] = {
    limits.people_at_once: threading.BoundedSemaphore(limits.people_at_once) for limits in (OWN_MACHINE, DEMONSTRATION)
}


def current() -> Limits:
    """Those of this server; `maet app --demo` sets MAET_DEMO."""
    return DEMONSTRATION if os.environ.get("MAET_DEMO") == "1" else OWN_MACHINE


@contextmanager
def a_place() -> Iterator[None]:
    """Held while one person's question is answered. Raises Busy at once where there is none left."""
    places = _answering[current().people_at_once]
    if not places.acquire(blocking=False):
        raise Busy("Others are asking right now. Ask again in a moment.")
    try:
        yield
    finally:
        places.release()
