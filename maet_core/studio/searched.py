"""Sweeps and tunings as the page shows them: lines, a map of two coefficients, the front of gain against forgetting."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from maet_core.search.points import Search
from maet_core.studio.charts import GREY, ORANGE
from maet_core.studio.drawing import INKS, SEQUENTIAL

if TYPE_CHECKING:
    import plotly.graph_objects as go

_BLUE = "#2f80b0"


def axes_of(search: Search) -> list[str]:
    return list(search.head.get("axes") or search.head.get("space") or {})


def lines(search: Search, axis: str) -> go.Figure:
    """Right answers by one coefficient, a line a language, with 95 % intervals. Other coefficients: each at its best."""
    import plotly.graph_objects as go

    figure = go.Figure()
    points = [point for point in search.points if axis in point.settings and not point.pruned]
    values = sorted({point.settings[axis] for point in points})
    best = [max((p for p in points if p.settings[axis] == value), key=lambda p: p.gain) for value in values]
    for key in best[0].right if best else ():
        shares = [point.share(key) for point in best]
        figure.add_scatter(
            x=values,
            y=[100 * share.value for share in shares],
            error_y={
                "type": "data",
                "array": [100 * (share.interval[1] - share.value) for share in shares],
                "arrayminus": [100 * (share.value - share.interval[0]) for share in shares],
                "thickness": 1,
            },
            mode="lines+markers",
            name=key.rpartition(" ")[2],
            hovertemplate=f"{axis} %{{x}}: %{{y:.1f}} % right<extra>{key}</extra>",
        )
    return _laid_out(figure, axis, "right, %")


def surface(search: Search, across: str, down: str) -> go.Figure:
    """The gain by two coefficients; others each at its best."""
    import plotly.graph_objects as go

    points = [
        point for point in search.points if across in point.settings and down in point.settings and not point.pruned
    ]
    columns = sorted({point.settings[across] for point in points})
    rows = sorted({point.settings[down] for point in points})
    grid: list[list[float | None]] = [[None] * len(columns) for _ in rows]
    for point in points:
        i, j = rows.index(point.settings[down]), columns.index(point.settings[across])
        grid[i][j] = max(grid[i][j] or 0.0, 100 * point.gain)
    mode = st.context.theme.type or "light"
    figure = go.Figure(
        go.Heatmap(
            z=grid,
            x=[_named(value) for value in columns],
            y=[_named(value) for value in rows],
            colorscale=list(SEQUENTIAL[mode]),
            texttemplate="%{z:.0f}",
            textfont={"color": INKS[mode]},
            hovertemplate=f"{across} %{{x}}, {down} %{{y}}: %{{z:.1f}} % right<extra></extra>",
            colorbar={"title": {"text": "right, %"}, "thickness": 9},
        )
    )
    figure = _laid_out(figure, across, down)
    figure.update_xaxes(type="category")  # one cell a value, however far apart they are
    figure.update_yaxes(type="category")
    return figure


def front(search: Search) -> go.Figure:
    """Every setting by what it forgets and what it gains; the ones that no other beats in both are joined."""
    import plotly.graph_objects as go

    figure = go.Figure()
    best = search.front
    chosen = {id(point) for point in best}
    others = [p for p in search.tried if p.forgetting is not None and not p.pruned and id(p) not in chosen]
    for name, points, mark, mode in (
        ("settings", others, {"color": GREY, "size": 7}, "markers"),
        ("front", best, {"color": ORANGE, "size": 9}, "lines+markers"),
        (
            "base",
            [p for p in [search.role("base")] if p and p.forgetting is not None],
            {"color": _BLUE, "size": 11, "symbol": "x"},
            "markers",
        ),
    ):
        figure.add_scatter(
            x=[point.forgetting for point in points],
            y=[100 * point.gain for point in points],
            text=[point.label or point.role for point in points],
            mode=mode,
            marker=mark,
            name=name,
            hovertemplate="%{text}<br>%{y:.1f} % right, %{x:+.3f} nats/token<extra></extra>",
        )
    return _laid_out(figure, "forgotten, nats/token", "right, %")


def progress(search: Search) -> go.Figure:
    """Trial by trial: the share that is right, the best so far, and which were given up."""
    import plotly.graph_objects as go

    points = [point for point in search.points if not point.role]
    own = search.role("recipe")
    figure = go.Figure()
    for name, chosen, colour in (("asked everything", False, _BLUE), ("given up early", True, GREY)):
        found = [(i, point) for i, point in enumerate(points, 1) if point.pruned is chosen]
        figure.add_scatter(
            x=[i for i, _ in found],
            y=[100 * point.gain for _, point in found],
            text=[point.label for _, point in found],
            mode="markers",
            marker={"color": colour, "size": 7, "symbol": "circle-open" if chosen else "circle"},
            name=name,
            hovertemplate="%{text}<br>%{y:.1f} % right<extra></extra>",
        )
    best, highest = [], own.gain if own else 0.0
    for point in points:
        highest = highest if point.pruned else max(highest, point.gain)
        best.append(100 * highest)
    figure.add_scatter(
        x=list(range(1, len(best) + 1)),
        y=best,
        mode="lines",
        line={"color": ORANGE},
        name="best so far",
        hoverinfo="skip",
    )
    return _laid_out(figure, "trial", "right on the development questions, %")


def table(search: Search) -> list[dict[str, Any]]:
    """One row a setting, the highest gain first."""
    own = search.role("recipe")
    rows = []
    for point in sorted(search.points, key=lambda point: -point.gain):
        row: dict[str, Any] = {}
        row["setting"] = {"base": "base", "recipe": "the recipe as it stands"}.get(point.role, "")
        row["right, %"] = round(100 * point.gain, 1)
        if point.forgetting is not None:
            row["forgotten, nats/token"] = point.forgetting
        row["against the recipe"] = point.beside(own)
        row |= {name: _named(point.settings[name]) if name in point.settings else "" for name in axes_of(search)}
        if point.pruned:
            row["setting"] = f"given up after {sum(map(len, point.right.values()))} answers"
        rows.append(row)
    return rows


def _named(value: float | str) -> str:
    return value if isinstance(value, str) else f"{value:g}"


def _laid_out(figure: go.Figure, across: str, up: str) -> go.Figure:
    figure.update_layout(
        height=330,
        margin={"l": 0, "r": 0, "t": 8, "b": 0},
        xaxis={"title": {"text": across}, "showgrid": False},
        yaxis={"title": {"text": up}, "nticks": 6},
        legend={"orientation": "h", "y": 1.08, "x": 0},
    )
    return figure
