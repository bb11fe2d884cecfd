"""How long work tells where it is and learns that it should stop."""

from collections.abc import Callable

from maet_core.errors import Cancelled

Progress = Callable[[str, int, int], None]
"""progress(phase, done, total): called often, from the working thread; `total` is in the phase's own steps."""

Halted = Callable[[], bool]
"""halted() is True once the user wants to stop."""


def tell(progress: Progress | None, halted: Halted | None, phase: str, done: int, total: int) -> None:
    """Raises Cancelled if the work should stop; otherwise tells the progress."""
    if halted and halted():
        raise Cancelled(f"stopped during: {phase}")
    if progress:
        progress(phase, done, total)
