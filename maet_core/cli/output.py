"""How commands print: tables for people, JSON for programs, progress on stderr."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import click

from maet_core.progress import Progress

json_option = click.option("--json", "as_json", is_flag=True, help="Print the result as one JSON object.")


def print_json(result: dict[str, Any]) -> None:
    click.echo(json.dumps(result, ensure_ascii=False))


def print_table(header: Sequence[str], rows: Sequence[Sequence[Any]], right: Sequence[int] = ()) -> None:
    """Columns as wide as their content; the ones in `right` are aligned to the right."""
    cells = [[str(cell) for cell in row] for row in (header, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        parts = [
            cell.rjust(w) if i in right else cell.ljust(w) for i, (cell, w) in enumerate(zip(row, widths, strict=True))
        ]
        click.echo("  ".join(parts).rstrip())


@contextmanager
def shown_progress() -> Iterator[Progress]:
    """A bar on a terminal. With MAET_PROGRESS=lines, lines `progress DONE TOTAL PHASE` that a program can read, at most ten a second."""
    if os.environ.get("MAET_PROGRESS") == "lines":
        yield _progress_lines()
        return
    if not sys.stderr.isatty():
        yield lambda phase, done, total: None
        return
    from tqdm import tqdm

    bars: list[tqdm] = []

    def show(phase: str, done: int, total: int) -> None:
        if not bars or bars[-1].desc != f"{phase}: ":
            close()
            bars.append(tqdm(total=total, desc=phase, unit_scale=True, leave=False, file=sys.stderr))
        bars[-1].update(done - bars[-1].n)

    def close() -> None:
        while bars:
            bars.pop().close()

    try:
        yield show
    finally:
        close()


def _progress_lines() -> Callable[[str, int, int], None]:
    last = 0.0

    def show(phase: str, done: int, total: int) -> None:
        nonlocal last
        if (now := time.monotonic()) - last >= 0.1 or done == total:
            last = now
            print(f"progress {done} {total} {phase}", file=sys.stderr, flush=True)

    return show


@contextmanager
def shown_training() -> Iterator[tuple[Progress, Callable]]:
    """Progress of what comes before, and of a training's steps: loss, tokens per second, time left."""
    from tqdm import tqdm

    with ExitStack() as shown, ExitStack() as before:
        plain = before.enter_context(shown_progress())
        bars: list[tqdm] = []

        def show(report: Any) -> None:
            speed = f"{count(round(report.tokens_per_second))} tokens/s"
            left = tqdm.format_interval(report.seconds_left)
            if os.environ.get("MAET_PROGRESS") == "lines" or not sys.stderr.isatty():
                plain(f"training, loss {report.loss:.3f}, {speed}, {left} left", report.step, report.steps)
                return
            if not bars:
                before.close()
                layout = "{desc}: {bar} {n_fmt}/{total_fmt} steps{postfix}"
                bar = tqdm(total=report.steps, desc="training", bar_format=layout, file=sys.stderr)
                bars.append(shown.enter_context(bar))
            bars[0].set_postfix_str(f"loss {report.loss:.3f}, {speed}, {left} left", refresh=False)
            bars[0].update(report.step - bars[0].n)

        yield plain, show


def count(number: int) -> str:
    """1234567 → 1.23 M."""
    for size, unit in ((10**9, " B"), (10**6, " M"), (10**3, " K")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number)
