"""Charts beside the heatmap. They take tables of the core and return Plotly figures, or draw small HTML."""

from __future__ import annotations

import html
from typing import TYPE_CHECKING

import streamlit as st

from maet_core.studio import state

if TYPE_CHECKING:
    import pandas as pd
    import plotly.graph_objects as go

ORANGE, BLUE, GREY = "#e08a2e", "#3b82c4", "#93a1a8"  # readable on light and on dark ground


def numbers(*pairs: tuple[str, str]) -> None:
    """A line of figures, each with what it counts."""
    items = "".join(f"<div><b>{html.escape(value)}</b> <span>{html.escape(what)}</span></div>" for value, what in pairs)
    st.html(f"<div class='maet-numbers'>{items}</div>")


def plot(figure: go.Figure, key: str, **options) -> None:
    """A figure of the page, with one button: save as a picture, in the format that the person chose."""
    kind = picture_format()
    st.plotly_chart(
        figure,
        key=key,
        config={
            "displaylogo": False,
            "modeBarButtons": [["toImage"]],
            "toImageButtonOptions": {"format": kind, "filename": key, "scale": 1 if kind == "svg" else 2},
        },
        **options,
    )


def picture_format() -> str:
    """`svg` or `png`."""
    return "png" if state.view("pictures", "svg") == "png" else "svg"


def choose_picture_format(key: str) -> None:
    st.segmented_control(
        "Charts are saved as",
        format_func=str.upper,
        required=True,
        help="The camera at a chart's corner saves it. Heatmaps have buttons of their own.",
        **state.bound_view(f"{key}-pictures", ["svg", "png"], "pictures", "svg"),
    )


def share_bars(table: pd.DataFrame, by: str, height: int = 260) -> go.Figure:
    """Columns `by`, share, random (both in percent): what part of all key neurons lies where, beside what chance would put there."""
    import plotly.graph_objects as go

    figure = go.Figure()
    names = table[by].astype(str)
    figure.add_bar(x=names, y=table["share"], name="key neurons", marker={"color": BLUE})
    figure.add_bar(x=names, y=table["random"], name="random neurons", marker={"color": GREY, "pattern": {"shape": "/"}})
    figure.update_traces(hovertemplate="%{x}: %{y:.2f} %<extra>%{fullData.name}</extra>")
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 28, "b": 0},
        barmode="group",
        dragmode=False,
        legend={"orientation": "h", "y": 1.12},
        xaxis={"title": {"text": by}, "type": "category"},
        yaxis={"title": {"text": "% of all"}, "rangemode": "tozero", "nticks": 5},
    )
    return figure


def loss_curves(table: pd.DataFrame, as_is: float, height: int = 260) -> go.Figure:
    """Columns neurons, factor, loss, interval: the loss over the factor, with its 95 % intervals."""
    import plotly.graph_objects as go

    figure = go.Figure()
    styles = {"key": (ORANGE, "circle", "solid"), "random": (GREY, "square", "dash")}
    for kind, (colour, symbol, dash) in styles.items():
        points = table[table["neurons"] == kind].sort_values("factor")
        figure.add_scatter(
            x=points["factor"],
            y=points["loss"],
            error_y={"array": points["interval"], "thickness": 1},
            name=f"{kind} neurons",
            mode="lines+markers",
            marker={"color": colour, "symbol": symbol, "size": 8},
            line={"color": colour, "dash": dash},
            hovertemplate="× %{x:g}: %{y:.3f} nats/token<extra>%{fullData.name}</extra>",
        )
    figure.add_hline(as_is, line={"width": 1, "dash": "dot"}, annotation_text="as is")
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 28, "b": 0},
        dragmode=False,
        legend={"orientation": "h", "y": 1.12},
        xaxis={"title": {"text": "factor"}, "range": [-0.05, 2.05], "tickvals": [0, 0.5, 1, 1.5, 2]},
        yaxis={"title": {"text": "loss (nats/token)"}, "nticks": 5},
    )
    return figure
