"""How long work tells where it is and learns that it should stop."""

import json
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

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


def record(**figures: float | int | str) -> None:
    """Appends one line of figures to the file that MAET_METRICS names; without it nothing is written.

    A background job sets it, so that its page can draw curves. Every line is a JSON object with `time`, in seconds since
    1970, beside what is given: a training gives step, steps, loss (nats a token), learning_rate and tokens_per_second.
    """
    if path := os.environ.get("MAET_METRICS"):
        line = json.dumps({"time": round(time.time(), 3), **figures}, ensure_ascii=False)
        with open(path, "a", encoding="utf-8") as file:
            file.write(line + "\n")


def in_a_job() -> bool:
    """Whether this process works for a background job, which can be resumed."""
    return "MAET_RUN" in os.environ


Item = TypeVar("Item")
Result = TypeVar("Result")


def each(
    items: Sequence[Item],
    work: Callable[[Item], Result],
    phase: str,
    progress: Progress | None = None,
    halted: Halted | None = None,
) -> list[Result]:
    """`work` on every item, on a few threads; the results in the order of the items. The first exception ends it all."""
    results: list[Result] = []
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        try:
            for result in pool.map(work, items):
                tell(progress, halted, phase, len(results), len(items))
                results.append(result)
        except BaseException:
            pool.shutdown(wait=True, cancel_futures=True)
            raise
    return results


def threads() -> int:
    """How many threads share the work: the disk and the memory are busy with four."""
    return min(4, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
