"""Charts beside the heatmap. They take tables of the core and return Plotly figures, or draw small HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

MOST_BARS = 512
BLUE, ORANGE, GREY = "#3b8fb4", "#e08a2e", "#8a979e"


def numbers(*pairs: tuple[str, str]) -> None:
    """A line of figures, each with what it counts."""
    items = "".join(f"<div><b>{html.escape(value)}</b> <span>{html.escape(what)}</span></div>" for value, what in pairs)
    st.html(f"<div class='maet-numbers'>{items}</div>")


def unit_bars(units: pd.DataFrame, height: int = 170) -> tuple[go.Figure, int]:
    """Importance by unit index; wider modules are max-pooled to `MOST_BARS` bars. Returns the figure and the units a bar."""
    import plotly.graph_objects as go

    size = -(-len(units) // MOST_BARS)
    importance, keys = (
        _pool(units["importance"].to_numpy(float), size),
        _pool(units["key_neurons"].to_numpy(), size) > 0,
    )
    index = np.arange(len(importance)) * size
    figure = go.Figure()
    for chosen, name, colour in ((keys, "holds key neurons", ORANGE), (~keys, "holds none", GREY)):
        figure.add_bar(
            x=index[chosen],
            y=importance[chosen],
            name=name,
            marker={"color": colour, "line": {"width": 0}},
            hovertemplate="unit %{x}<br>importance %{y:.3g}<extra></extra>",
        )
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 4, "b": 0},
        bargap=0.15,
        barmode="overlay",
        legend={"orientation": "h", "y": 1.12, "x": 1, "xanchor": "right", "yanchor": "bottom"},
        xaxis={"title": {"text": "unit"}, "showgrid": False},
        yaxis={"title": {"text": "importance"}, "rangemode": "tozero", "nticks": 4},
    )
    return figure, size


def _pool(values: np.ndarray, size: int) -> np.ndarray:
    """The largest of every `size` values."""
    padded = np.pad(values, (0, -len(values) % size), constant_values=0)
    return padded.reshape(-1, size).max(axis=1)
