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
ORANGE, GREY = "#e08a2e", "#93a1a8"  # both readable on light and on dark ground


def numbers(*pairs: tuple[str, str]) -> None:
    """A line of figures, each with what it counts."""
    items = "".join(f"<div><b>{html.escape(value)}</b> <span>{html.escape(what)}</span></div>" for value, what in pairs)
    st.html(f"<div class='maet-numbers'>{items}</div>")


def unit_bars(units: pd.DataFrame, height: int = 190) -> tuple[go.Figure, int]:
    """Importance by unit index, coloured by the share of the unit's neurons that are key.

    Modules of more than `MOST_BARS` units are max-pooled. Returns the figure and the number of units a bar.
    """
    import plotly.graph_objects as go

    size = -(-len(units) // MOST_BARS)
    importance = _pool(units["importance"].to_numpy(float), size)
    share = 100 * _pool((units["key_neurons"] / units["neurons"]).to_numpy(float), size)
    figure = go.Figure()
    figure.add_bar(
        x=np.arange(len(importance)) * size,
        y=importance,
        customdata=share,
        marker={
            "color": share,
            "cmin": 0,
            "cmax": 100,
            "colorscale": [[0, GREY], [1, ORANGE]],
            "line": {"width": 0},
            "colorbar": {"title": {"text": "% key"}, "thickness": 9, "len": 1, "tickvals": [0, 50, 100]},
        },
        hovertemplate="unit %{x}<br>importance %{y:.3g}<br>%{customdata:.0f} % of its neurons are key<extra></extra>",
    )
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 4, "b": 0},
        bargap=0.15,
        xaxis={"title": {"text": "unit"}, "showgrid": False},
        yaxis={"title": {"text": "importance"}, "rangemode": "tozero", "nticks": 4},
    )
    return figure, size


def _pool(values: np.ndarray, size: int) -> np.ndarray:
    """The largest of every `size` values."""
    padded = np.pad(values, (0, -len(values) % size), constant_values=0)
    return padded.reshape(-1, size).max(axis=1)
