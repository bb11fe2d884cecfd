"""The slider of every number that moves something: its effect comes while it is dragged, and a number field stands beside it.

Streamlit's own slider sends its value when it is let go. This one (slider.js) sends the newest value whenever the page says, by
`settled`, that the effect of the last one is on the screen. A drag is one step for the browser's way back: see `state.moving`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import streamlit as st

from maet_core.errors import MaetError
from maet_core.studio import state

_SEEN = "_slid"


def slider(
    label: str,
    value: float,
    take: Callable[[float], None],
    *,
    key: str,
    low: float = 0.0,
    high: float = 1.0,
    step: float = 0.05,
    stops: Sequence[float] = (),
    limits: tuple[float, float] | None = None,
    unit: str = "",
) -> None:
    """A slider from `low` to `high`, or over the `stops`, that shows `value`; what is entered goes to `take` before the page runs.

    The number field takes what lies between the slider's steps as well, and within `limits` what lies beyond its ends. A MaetError
    of `take` becomes a notice. `take` must read the state afresh: it may run before the page has been drawn again.
    """
    low, high = (stops[0], stops[-1]) if stops else (low, high)
    least, most = limits or (low, high)
    seen = st.session_state.setdefault(_SEEN, {})

    def changed() -> None:
        entry = _entry(key)
        if entry is None or entry["time"] <= seen.get(key, 0):
            return  # the browser has sent its last value once more; nobody entered it
        seen[key] = entry["time"]
        if not least <= entry["value"] <= most:
            return
        state.moving(not entry["last"])
        try:
            take(entry["value"])
        except MaetError as error:
            state.notice(str(error))

    if key not in seen:  # the first time in this session, whatever the browser remembers of another one
        seen[key] = (_entry(key) or {"time": 0})["time"]
    _component("slider")(
        key=key,
        data={
            "label": label,
            "value": value,
            "low": min(low, value),
            "high": max(high, value),
            "step": step,
            "stops": sorted({*stops, value}) if stops else None,
            "limits": [least, most],
            "unit": unit,
            "seen": seen[key],
        },
        on_entry_change=changed,
    )


def settled() -> None:
    """Called by a page once, where it has drawn what its sliders move: the next value of a drag may come."""
    with st.container(key="maet-settled"):
        _component("settled")(key="settled", data={"entry": max(st.session_state.get(_SEEN, {}).values(), default=0)})


def _entry(key: str) -> dict[str, Any] | None:
    """What the browser has sent last, if it can be one of our entries."""
    entry = dict(st.session_state.get(key) or {}).get("entry")
    if not isinstance(entry, dict) or type(entry.get("last")) is not bool:
        return None
    numbers = [entry.get("value"), entry.get("time")]
    if any(isinstance(number, bool) or not isinstance(number, (int, float)) for number in numbers):
        return None
    return entry | {"value": float(numbers[0])} if all(map(math.isfinite, numbers)) else None


# With names from the start: slider.js puts the number's own in their place a moment later.
_HTML = {
    "slider": '<div class="slider"><label for="range">Value</label><div class="line"><input type="range" id="range" aria-label="Value">'
    '<span class="field"><input type="number" inputmode="decimal" aria-label="Value, exact"><span class="unit" aria-hidden="true"></span></span></div></div>',
    "settled": "<span></span>",
}


@cache
def _file(name: str) -> str:
    return (Path(__file__).parent / name).read_text("utf-8")


def _component(name: str):
    return _register(name, _HTML[name], _file(f"{name}.js"), _file("slider.css") if name == "slider" else "")


@st.cache_resource(show_spinner=False)
def _register(name: str, html: str, js: str, css: str):
    """Registers once a server: Streamlit warns when a name is registered again."""
    return st.components.v2.component(f"maet_{name}", html=html, js=js, css=css)
