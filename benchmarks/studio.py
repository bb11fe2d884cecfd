"""How soon the app shows what an entry does, in real Chromium; writes docs/performance-studio.md.

    python benchmarks/studio.py                  # the demo models, then a model of 32 layers with 14336 units each; two minutes
    python benchmarks/studio.py --rounds 20 --note "beside other work"

Time runs inside the page: from the event that the entry is (a key, a click, the end of a drag) to the frame in which the effect is
there. So the server, the connection and the browser's drawing are in it, and what drives the browser is not.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from playwright.sync_api import Browser, Page, expect, sync_playwright
from run import PROJECT, machine

sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT / "tests" / "browser")]
from large_workspace import LAYERS, UNITS, build_large_workspace  # noqa: E402
from studio_server import Studio, idle, launch, serve  # noqa: E402

DEMO_LIMIT, LARGE_LIMIT, PAINT_LIMIT = 300, 500, 2000  # milliseconds
PAGES = ("", "models", "neurons", "tensors", "merge", "compare", "evaluate", "jobs")

# What the selectors show, as one text; a change of it is the effect that is waited for.
_WATCH = """([event, selectors]) => {
  const seen = () => selectors.map((one) => [...document.querySelectorAll(one)].map((element) =>
    element.className + element.getAttribute("style") + element.textContent).join()).join("|");
  const before = seen();
  window.effect = new Promise((done) => {
    document.addEventListener(event, () => {
      const from = performance.now();
      const look = () => seen() === before ? requestAnimationFrame(look) : requestAnimationFrame(() => done(performance.now() - from));
      requestAnimationFrame(look);
    }, { capture: true, once: true });
  });
}"""
# The largest contentful paint of the load so far, in milliseconds after it was asked for.
_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
  .observe({ type: "largest-contentful-paint", buffered: true }))"""


@dataclass(frozen=True)
class Entry:
    """One thing that a person does on a page: `act(page, round)`, begun by a browser `event`, is there when one of `shown` changes."""

    name: str
    path: str
    event: str
    shown: tuple[str, ...]
    act: Callable[[Page, int], None]
    ready: str = "h1"


def slider(key: str) -> Callable[[Page, int], None]:
    """One step to the right and, the next time, back."""

    def act(page: Page, turn: int) -> None:
        page.keyboard.press("ArrowLeft" if turn % 2 else "ArrowRight")

    act.focus = f".st-key-{key} [role=slider]"
    return act


def click(*targets: str) -> Callable[[Page, int], None]:
    """On one after the other."""
    return lambda page, turn: page.locator(targets[turn % len(targets)]).click()


def drag(first: str, last: str) -> Callable[[Page, int], None]:
    def act(page: Page, turn: int) -> None:
        page.locator(first).hover()
        page.mouse.down()
        page.locator(last).hover()
        page.mouse.up()

    return act


def cell(key: str, name: str) -> str:
    return f'.st-key-{key} button[data-cell="{name}"]'


_MAP, _NUMBERS, _OPENED = ".st-key-neurons-map button.cell", ".maet-numbers", "h3"
_BARS = ".st-key-neurons-units .js-plotly-plot .bars path"
DEMO = (
    Entry("Merge: γ to the formula", "merge", "keydown", (".katex",), slider("merge-row-abilities-math-gamma")),
    Entry(
        "Merge: γ to the new answer's first word",
        "merge",
        "keydown",
        (".maet-answer",),
        slider("merge-row-abilities-math-gamma"),
        ".maet-foot .speed",
    ),
    Entry(
        "Merge: γ to the whole new answer",
        "merge",
        "keydown",
        (".maet-foot .speed",),
        slider("merge-row-abilities-math-gamma"),
        ".maet-foot .speed",
    ),
    Entry("Neurons: k1 to the map", "neurons", "keydown", (_MAP,), slider("neurons-k1"), _MAP),
    Entry(
        "Neurons: a cell to its units",
        "neurons",
        "click",
        (_BARS,),
        click(cell("neurons-map", "2/down_proj"), cell("neurons-map", "1/q_proj")),
        _MAP,
    ),
    Entry(
        "Tensors: k2 to the map",
        "tensors",
        "keydown",
        (".st-key-tensors-map button.cell",),
        slider("tensors-k2"),
        ".cell",
    ),
    Entry(
        "Tensors: a click to the map",
        "tensors",
        "click",
        (".st-key-tensors-map button.cell",),
        click(cell("tensors-map", "1/o_proj")),
        ".cell",
    ),
    Entry(
        "Tensors: a drag over 3 × 3 cells to the map",
        "tensors",
        "pointerup",
        (_NUMBERS,),
        drag(cell("tensors-map", "1/gate_proj"), cell("tensors-map", "3/down_proj")),
        ".cell",
    ),
    Entry(
        "Start: another language to its question",
        "",
        "click",
        (".maet-question",),
        click(*(f"[role=radio]:has-text('{name}')" for name in ("Bengali", "Swahili"))),
    ),
)
LARGE = (
    Entry("k1 to the map", "neurons", "keydown", (_MAP,), slider("neurons-k1"), _MAP),
    Entry(
        "a cell to its units",
        "neurons",
        "click",
        (_OPENED,),
        click(cell("neurons-map", "20/down_proj"), cell("neurons-map", "3/up_proj")),
        _MAP,
    ),
    Entry(
        "another score beside it",
        'neurons?beside="file:scores/science.safetensors"',
        "click",
        (_MAP,),
        click("[role=radio]:has-text('mean importance')", "[role=radio]:has-text('key neurons')"),
        _MAP,
    ),
)


def times(studio: Studio, browser: Browser, entry: Entry, rounds: int) -> list[float]:
    """Milliseconds of each round; a first one that is not counted opens what is opened once."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    page = studio.open(context.new_page(), entry.path)
    expect(page.locator(entry.ready).first).to_be_visible()
    found = []
    for turn in range(rounds + 1):
        idle(page)
        page.wait_for_timeout(150)  # a person looks at what came before
        if focus := getattr(entry.act, "focus", None):
            page.locator(focus).focus()
        page.evaluate(_WATCH, [entry.event, list(entry.shown)])
        entry.act(page, turn)
        found.append(page.evaluate("window.effect"))
    context.close()
    return found[1:]


def paints(studio: Studio, browser: Browser, path: str, rounds: int) -> list[float]:
    """Largest contentful paint of a person's first page, with nothing in the browser's cache."""
    found = []
    for _ in range(rounds):
        context = browser.new_context(viewport={"width": 1440, "height": 900})
        page = studio.open(context.new_page(), path)
        found.append(page.evaluate(_PAINT))
        context.close()
    return found


def row(name: str, found: list[float], limit: int) -> str:
    middle, highest = statistics.median(found), max(found)
    return f"| {name} | {middle:.0f} | {highest:.0f} | {limit} | {'yes' if middle <= limit else '**no**'} |"


def table(heads: str, rows: Iterator[str]) -> list[str]:
    lines = [f"| {heads} | median, ms | max, ms | target, ms | met |", "|---|---|---|---|---|"]
    for line in rows:
        print(line, flush=True)
        lines.append(line)
    return [*lines, ""]


def section(rounds: int, only: str = "") -> list[str]:
    lines = []
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        scratch, browser = Path(name), launch(playwright)
        with serve(scratch / "demo", scratch / "demo.log") as studio:
            for path in PAGES:  # a server that others have used: models and scores are in memory
                page = studio.open(browser.new_page(), path)
                page.close()
            wanted = [entry for entry in DEMO if only in entry.name]
            lines += ["## Entries, on the demo models", ""]
            lines += table("entry", (row(one.name, times(studio, browser, one, rounds), DEMO_LIMIT) for one in wanted))
            lines += [
                "## First visit to each page",
                "",
                "Largest contentful paint, nothing cached in the browser, warm server.",
                "",
            ]
            pages = [path for path in PAGES if only in path]
            lines += table(
                "page",
                (row(path or "start", paints(studio, browser, path, rounds // 2 or 1), PAINT_LIMIT) for path in pages),
            )
        large = build_large_workspace(scratch / "large")
        with serve(large, scratch / "large.log") as studio:
            lines += [f"## Entries, on {LAYERS} layers with {UNITS} units each", ""]
            wanted = [entry for entry in LARGE if only in entry.name]
            lines += table("entry", (row(one.name, times(studio, browser, one, rounds), LARGE_LIMIT) for one in wanted))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument(
        "--only", default="", help="entries and pages whose name has this in it; the page is then not written"
    )
    parser.add_argument("--note", default="", help="a sentence on the circumstances, put on top")
    parser.add_argument("--output", type=Path, default=PROJECT / "docs" / "performance-studio.md")
    arguments = parser.parse_args()
    started, here = datetime.datetime.now(datetime.UTC), machine()
    text = [
        "# Performance of the app",
        "",
        "Written by `python benchmarks/studio.py`. Time runs in the page, from the event (a key, a click, the end of a drag) to the "
        f"frame that shows its effect. {arguments.rounds} rounds each. {started:%Y-%m-%d}, {here}. {arguments.note}".rstrip(),
        "",
        *section(arguments.rounds, arguments.only),
        "Load average at the end: " + ", ".join(f"{number:.1f}" for number in os.getloadavg()) + " (1, 5, 15 minutes).",
        "",
    ]
    if not arguments.only:
        arguments.output.write_text("\n".join(text))


if __name__ == "__main__":
    main()
