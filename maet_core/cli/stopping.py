"""Long commands keep what they have before they stop."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager

from maet_core.progress import Halted


@contextmanager
def asked_to_stop() -> Iterator[Halted]:
    """Turns true on SIGTERM or Ctrl-C, so that the state is kept first; whoever presses Ctrl-C again does not wait.

    SIGTERM may come twice without haste: a cluster tells every process, and torchrun tells its workers again.
    """
    asked = []

    def note(number: int, _: object) -> None:
        if asked and number == signal.SIGINT:
            raise KeyboardInterrupt
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
