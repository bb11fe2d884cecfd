"""How the next word is chosen, the same for all models: settings that live in the link."""

from __future__ import annotations

import streamlit as st

from maet_core.conversation import Decoding
from maet_core.studio import limits, state

# name in the view: lowest, highest, default, step
_SETTINGS = {"length": (1, 1024, 96, 16), "temperature": (0.0, 2.0, 0.0, 0.1), "seed": (0, 2**31 - 1, 0, 1)}


def choose_decoding(key: str) -> Decoding:

    length, heat, seed = (_setting(name) for name in _SETTINGS)
    kind = "greedy" if heat == 0 else f"temperature {heat:g}, seed {seed}"
    with st.popover(
        f"{kind}, at most {length} tokens", icon=":material/settings:", help="The same decoding for all models"
    ):
        _number(key, "Longest answer (tokens)", "length")
        _number(key, "Temperature (0 is greedy)", "temperature")
        _number(key, "Seed (of sampling)", "seed")
    return Decoding(int(length), float(heat), seed=int(seed))


def _setting(name: str) -> float:
    low, high, default, _ = _range(name)
    value = state.view(name, default)
    return value if low <= value <= high else default


def _range(name: str) -> tuple:
    low, high, default, step = _SETTINGS[name]
    if name == "length":
        high = min(high, limits.current().max_new_tokens)
    return low, high, default, step


def _number(key: str, label: str, name: str) -> None:
    low, high, _, step = _range(name)
    bound = state.bound(f"{key}-{name}", _setting(name), lambda value: state.set_view(name, value))
    st.number_input(label, low, high, step=step, **bound)
