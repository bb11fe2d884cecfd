"""What the app's own drawings share: colours and scales, the line below with what saves them, hover texts, and how picks arrive.

Each drawing (heatmap, bars) is a component of its own folder. Their scripts are modules that import from one another and from here;
Streamlit takes one script a component, so `script` makes one of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

# One hue that gets darker (lighter on dark ground), and a blue–orange pair: both keep their order for every kind of
# colour blindness and in greyscale towards the ends. They end where one ink can still be read on all of them: numbers that are
# black here and white beside it draw the eye to where the ink changes, and nothing changes there.
SEQUENTIAL = {
    "light": ("#f1f6f8", "#cfe3ec", "#a3cde0", "#74b3d0", "#4a99c0", "#3a85ae"),
    "dark": ("#1a2730", "#1d3a4a", "#1e4d65", "#216080", "#266e94", "#2c7da4"),
}
DIVERGING = {
    "light": ("#4b8fd2", "#9dc3e6", "#f3f1ec", "#f2bd8a", "#dd8434"),
    "dark": ("#3a78b8", "#35587d", "#2a3036", "#7a4f28", "#a95f17"),
}
INKS = {"light": "#000000", "dark": "#ffffff"}
_STUDIO = Path(__file__).resolve().parents[1]
_EXPORT = re.compile("^export (?!default)", re.MULTILINE)
_IMPORT = re.compile(r'^import .* from "(\.{1,2}/.*)";\n', re.MULTILINE)


@dataclass(frozen=True)
class Scale:
    """Values from `low` to `high`, in units of `unit`, drawn with one of the palettes above.

    `one`: what a value of 1 stands for, where the values are shown in a power of ten.
    """

    title: str
    low: float
    high: float
    palette: dict[str, tuple[str, ...]] = field(default_factory=lambda: SEQUENTIAL)
    form: str = "{:.1f}"
    unit: str = ""
    one: float = 1.0

    def number(self, value: float) -> str:
        text = self.form.format(value)
        return text.replace("-", "−") if text.strip("+-0.") else text.lstrip("-+")

    def text(self, value: float) -> str:
        return f"{self.number(value)} {self.unit}".strip()

    def data(self) -> dict[str, Any]:
        """What the browser's half draws with."""
        return {
            "title": self.title,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "low_text": self.text(self.low),
            "high_text": self.text(self.high),
            "inks": INKS,
            **{mode: [_rgb(stop) for stop in self.palette[mode]] for mode in ("light", "dark")},
        }


def new_picks(key: str) -> Iterator[dict[str, Any]]:
    """What has been picked in the drawing since the last call; see component.js. Each is given once, however often the browser sends it."""
    for pick in st.session_state[key].get("picks") or ():
        if pick["time"] > st.session_state.get(f"{key}-seen", 0):
            st.session_state[f"{key}-seen"] = pick["time"]
            yield pick


def component(name: str, html: str):
    """The component of the folder `name`, with `html` inside."""
    return _register(name, html, *assets(name))


@cache
def assets(name: str) -> tuple[str, str]:
    """The script and the style sheet of the drawing in the folder `name`."""
    files = [_STUDIO / "drawing" / "drawing.css", _STUDIO / name / f"{name}.css"]
    return script(_STUDIO / name / f"{name}.js"), "\n".join(file.read_text("utf-8") for file in files)


def script(module: Path) -> str:
    """One script of a module and all that it imports, imported ones first."""
    modules = "\n".join(file.read_text("utf-8") for file in _with_imports(module, []))
    return _EXPORT.sub("", _IMPORT.sub("", modules))


def _with_imports(module: Path, found: list[Path]) -> list[Path]:
    for name in _IMPORT.findall(module.read_text("utf-8")):
        _with_imports((module.parent / name).resolve(), found)
    if module not in found:
        found.append(module)
    return found


@st.cache_resource(show_spinner=False)
def _register(name: str, html: str, js: str, css: str):
    """Registers once a server: Streamlit warns when a name is registered again."""
    body = f'<div class="drawing">{html}<div class="legend"></div><div class="tip" role="tooltip" hidden></div></div>'
    return st.components.v2.component(f"maet_{name}", html=body, js=js, css=css)


def _rgb(stop: str) -> list[int]:
    return [int(stop[i : i + 2], 16) for i in (1, 3, 5)]
