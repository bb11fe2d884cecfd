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

from playwright.sync_api import Browser, Error, Page, expect, sync_playwright
from run import PROJECT, machine

sys.path[:0] = [str(PROJECT / "tests"), str(PROJECT / "tests" / "browser")]
from large_workspace import LAYERS, UNITS, build_large_workspace  # noqa: E402
from studio_server import PATIENCE_MS, Studio, idle, launch, serve  # noqa: E402

expect.set_options(timeout=10 * PATIENCE_MS)  # other work on the machine makes it late, not wrong

DEMO_LIMIT, LARGE_LIMIT, PAINT_LIMIT = 300, 500, 2000  # milliseconds
PAGES = ("", "models", "neurons", "tensors", "merge", "compare", "evaluate", "jobs")

# What the elements show, as one text; a change of it is the effect that is waited for. A document does not look into the
# components' own trees: what stands behind ">>>" is looked for inside the ones that are in front of it.
_WATCH = """([event, shown, anew]) => {
  const known = new WeakMap();
  let count = 0;
  const name = (element) => known.get(element) ?? (known.set(element, ++count), count);
  const [outer, inner] = shown.split(" >>> ");
  const found = () => inner
    ? [...document.querySelectorAll(outer + " *")].flatMap((host) => [...(host.shadowRoot?.querySelectorAll(inner) ?? [])])
    : [...document.querySelectorAll(outer)];
  const seen = () => found().map((element) =>
    [anew && name(element), ...["class", "style", "height"].map((one) => element.getAttribute(one)), element.textContent].join()).join("|");
  const before = seen();
  window.effect = new Promise((done, fail) => {
    setTimeout(() => fail("no effect in a minute"), 60000);
    document.addEventListener(event, () => {
      const from = performance.now();
      const look = () => ["", before].includes(seen()) ? requestAnimationFrame(look) : requestAnimationFrame(() => done(performance.now() - from));
      requestAnimationFrame(look);
    }, { capture: true, once: true });
  });
}"""
# The largest contentful paint of the load so far, in milliseconds after it was asked for.
_PAINT = """() => new Promise((done) => new PerformanceObserver((list) => done(list.getEntries().at(-1).startTime))
  .observe({ type: "largest-contentful-paint", buffered: true }))"""


Act = Callable[[Page, int], None]


@dataclass(frozen=True)
class Entry:
    """One thing that a person does on a page, begun by a browser `event`: `act(page, turn)`. Its effect is a change of what is `shown`;
    with `anew` also the same once more, for an answer may have the same words as the one before.

    `focus` names the slider that has the focus before. `end` is done when the effect is there.
    """

    name: str
    path: str
    event: str
    shown: str
    act: Act
    ready: str = "h1"
    focus: str = ""
    end: Act = lambda page, turn: None
    anew: bool = False


def step(page: Page, turn: int) -> None:
    """A slider one step to the right and, the next time, back."""
    page.keyboard.press("ArrowLeft" if turn % 2 else "ArrowRight")


def leap(page: Page, turn: int) -> None:
    """The same by a tenth: one step of k2 need not add a tensor."""
    page.keyboard.press("PageDown" if turn % 2 else "PageUp")


def click(*targets: str) -> Act:
    """On one after the other."""
    return lambda page, turn: page.locator(targets[turn % len(targets)]).click()


def choose(*names: str) -> Act:
    """One after the other of a row of choices."""
    return lambda page, turn: page.get_by_role("radio", name=names[turn % len(names)]).click()


def drag(first: str, last: str) -> Act:
    def act(page: Page, turn: int) -> None:
        page.locator(first).hover()
        page.mouse.down()
        page.locator(last).hover()
        page.mouse.up()

    return act


def hold(slider: str, *places: float) -> Act:
    """The mouse goes down on a slider, at one of the places after the other, and stays down."""

    def act(page: Page, turn: int) -> None:
        box = page.locator(f".st-key-{slider} input[type=range]").bounding_box()
        page.mouse.move(box["x"] + places[turn % len(places)] * box["width"], box["y"] + box["height"] / 2)
        page.mouse.down()

    return act


def let_go(page: Page, turn: int) -> None:
    page.mouse.up()


def cell(key: str, name: str) -> str:
    return f'.st-key-{key} button[data-cell="{name}"]'


_MAP, _TENSORS = ".st-key-neurons-map >>> button.cell", ".st-key-tensors-map >>> button.cell"
_BARS, _SAID, _FORMULA = ".st-key-neurons-units >>> svg rect:not([class])", ".maet-foot .speed", ".katex"
_NEW = ".maet-answer:not(.waiting)"  # the one before is faded as long as there are no new words
_GAMMA, _QUESTION = "merge-row-abilities-math-gamma", ".maet-question"
DEMO = (
    Entry("Merge: γ, one step, to the formula", "merge", "keydown", _FORMULA, step, _SAID, _GAMMA),
    Entry(
        "Merge: γ, one step, to the new answer's beginning", "merge", "keydown", _NEW, step, _SAID, _GAMMA, anew=True
    ),
    Entry(
        "Merge: γ, still held, to the formula",
        "merge",
        "pointerdown",
        _FORMULA,
        hold(_GAMMA, 0.7, 0.3),
        _SAID,
        end=let_go,
    ),
    Entry(
        "Merge: γ, still held, to the new answer's beginning",
        "merge",
        "pointerdown",
        _NEW,
        hold(_GAMMA, 0.7, 0.3),
        _SAID,
        end=let_go,
        anew=True,
    ),
    Entry("Merge: a preset to the formula", "merge", "click", _FORMULA, choose("Task vectors", "Mine"), _SAID),
    Entry("Merge: another language to its question", "merge", "click", _QUESTION, choose("Bengali", "Thai"), _SAID),
    Entry("Neurons: k1, one step, to the map", "neurons", "keydown", _MAP, step, _MAP, "neurons-k1"),
    Entry(
        "Neurons: k1, still held, to the map",
        "neurons",
        "pointerdown",
        _MAP,
        hold("neurons-k1", 0.9, 0.3),
        _MAP,
        end=let_go,
    ),
    Entry(
        "Neurons: a cell to its units",
        "neurons",
        "click",
        _BARS,
        click(cell("neurons-map", "2/down_proj"), cell("neurons-map", "1/q_proj")),
        _MAP,
    ),
    Entry(
        "Neurons: mean importance instead of density, and back",
        "neurons",
        "click",
        _MAP,
        choose("mean importance", "key neurons"),
        _MAP,
    ),
    Entry("Tensors: k2, a key, to the map", "tensors", "keydown", _TENSORS, leap, _TENSORS, "tensors-k2"),
    Entry(
        "Tensors: k2, still held, to the map",
        "tensors",
        "pointerdown",
        _TENSORS,
        hold("tensors-k2", 0.95, 0.3),
        _TENSORS,
        end=let_go,
    ),
    Entry("Tensors: a cell to the map", "tensors", "click", _TENSORS, click(cell("tensors-map", "1/o_proj")), _TENSORS),
    Entry(
        "Tensors: a drag over 3 × 3 cells to the figures",
        "tensors",
        "pointerup",
        ".maet-numbers",
        drag(cell("tensors-map", "1/gate_proj"), cell("tensors-map", "3/down_proj")),
        _TENSORS,
    ),
    Entry("Compare: another language to its question", "compare", "click", _QUESTION, choose("Bengali", "Swahili")),
    Entry("Start: another language to its question", "", "click", _QUESTION, choose("Bengali", "Swahili")),
)
LARGE = (
    Entry("k1, still held, to the map", "neurons", "pointerdown", _MAP, hold("neurons-k1", 0.9, 0.3), _MAP, end=let_go),
    Entry("k1, one step, to the map", "neurons", "keydown", _MAP, step, _MAP, "neurons-k1"),
    Entry(
        "a cell to its units",
        "neurons",
        "click",
        _BARS,
        click(cell("neurons-map", "20/down_proj"), cell("neurons-map", "3/up_proj")),
        _MAP,
    ),
    Entry(
        "mean importance instead of density, and back",
        'neurons?beside="file:scores/science.safetensors"',
        "click",
        _MAP,
        choose("mean importance", "key neurons"),
        _MAP,
    ),
)


def times(studio: Studio, browser: Browser, entry: Entry, rounds: int) -> list[float]:
    """Milliseconds of each round; a first one that is not counted opens what is opened once."""
    context = browser.new_context(viewport={"width": 1440, "height": 900})
    context.set_default_timeout(10 * PATIENCE_MS)
    page = studio.open(context.new_page(), entry.path)
    expect(page.locator(entry.ready.replace(" >>> ", " ")).first).to_be_visible()
    found = []
    for turn in range(rounds + 1):
        idle(page)
        page.wait_for_timeout(150)  # a person looks at what came before
        if entry.focus:
            page.locator(f".st-key-{entry.focus}").get_by_role("slider").focus()
        page.evaluate(_WATCH, [entry.event, entry.shown, entry.anew])
        entry.act(page, turn)
        try:
            found.append(page.evaluate("window.effect"))
        except Error as error:
            raise SystemExit(f"{entry.name}, round {turn}: {error}") from error
        entry.end(page, turn)
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
    middle, (low, high) = statistics.median(found), middle_half(found)
    met = "yes" if middle <= limit else "**no**"
    return f"| {name} | {middle:.0f} | {low:.0f}–{high:.0f} | {max(found):.0f} | {len(found)} | {limit} | {met} |"


def middle_half(found: list[float]) -> tuple[float, float]:
    """The quartiles: half of the rounds lie between them."""
    low, _, high = statistics.quantiles(found, n=4, method="inclusive")
    return low, high


def table(heads: str, rows: Iterator[str]) -> list[str]:
    lines = [f"| {heads} | median, ms | middle half | max | n | target, ms | met |", "|---|---|---|---|---|---|---|"]
    for line in rows:
        print(line, flush=True)
        lines.append(line)
    return [*lines, ""]


def sections(rounds: int, only: str = "") -> Iterator[list[str]]:
    """One table after the other."""
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        scratch, browser = Path(name), launch(playwright)

        def entries(studio: Studio, of: tuple[Entry, ...], limit: int) -> list[str]:
            wanted = (entry for entry in of if only in entry.name)
            return table("entry", (row(one.name, times(studio, browser, one, rounds), limit) for one in wanted))

        with serve(scratch / "demo", scratch / "demo.log") as studio:
            paints(studio, browser, "merge", 1)  # a server that others have used: torch and the models are in memory
            yield ["## Entries, on the demo models", "", *entries(studio, DEMO, DEMO_LIMIT)]
            pages = (path for path in PAGES if only in path)
            found = (
                row(path or "start", paints(studio, browser, path, max(rounds // 2, 2)), PAINT_LIMIT) for path in pages
            )
            yield [
                "## First visit to each page",
                "",
                "Largest contentful paint, nothing cached in the browser, warm server.",
                "",
                *table("page", found),
            ]
        with serve(build_large_workspace(scratch / "large"), scratch / "large.log") as studio:
            heading = f"## Entries, on {LAYERS} layers with {UNITS} units each"
            yield [heading, "", *entries(studio, LARGE, LARGE_LIMIT)]


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
        f"frame that shows its effect. {started:%Y-%m-%d}, {here}. {arguments.note}".rstrip(),
        "",
    ]
    for lines in sections(arguments.rounds, arguments.only):
        text += lines
        end = "Load averages at the end: " + ", ".join(f"{number:.1f}" for number in os.getloadavg()) + "."
        if not arguments.only:  # after every table: a run that is cut short has lost nothing
            arguments.output.write_text("\n".join([*text, end, ""]))


if __name__ == "__main__":
    main()
