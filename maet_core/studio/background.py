"""Jobs as the pages show them: a merge to disk started from the app, one line that says where a job is, its curve."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from maet_core import jobs
from maet_core.jobs import Status, reading
from maet_core.jobs.record import Run
from maet_core.recipe import Recipe
from maet_core.studio import resources

if TYPE_CHECKING:
    import plotly.graph_objects as go


def merge_command(recipe_path: str, output: str, *options: str) -> list[str]:
    """`maet merge` as it is typed in the workspace folder."""
    return ["maet", "merge", recipe_path, "-o", output, *options]


def save_merge(recipe: Recipe, name: str) -> Status:
    """Starts merging into models/`name` as a job. Raises WorkspaceError or JobError for a name that is taken or impossible."""
    workspace = resources.workspace()
    output = workspace.new("models", name).relative_to(workspace.path).as_posix()
    command = merge_command("{run}/recipe.yaml", output, "--relative-to", "recipes", "--json")
    return jobs.submit(workspace.path, command, output=output, recipe=workspace.portable(recipe).to_yaml())


def save_pack(recipe: Recipe, ability: str, name: str) -> Status:
    """Starts writing R(A) of one of the recipe's abilities into packs/`name`.safetensors as a job. Raises as `save_merge` does."""
    workspace = resources.workspace()
    output = workspace.new("packs", name, ".safetensors").relative_to(workspace.path).as_posix()
    command = ["maet", "pack", "recipe", "{run}/recipe.yaml", "--name", ability, "-o", output]
    command += ["--relative-to", "recipes", "--json"]
    return jobs.submit(workspace.path, command, output=output, recipe=workspace.portable(recipe).to_yaml())


def where(found: Status) -> str:
    """`40 % · merging · 12 s left`, `waits, number 2`, `cancelled`."""
    state = found.state
    if found.name == "queued":
        return f"waits, number {found.position}" if found.position else "waits"
    if found.name != "running":
        return found.name
    parts = [f"{100 * found.share:.0f} %", state.phase] if state.total else ["starting"]
    if state.rate and not state.phase.startswith("training"):  # which says its own speed
        parts.append(f"{quantity(state.rate)}/s")
    if state.seconds_left is not None and not state.phase.endswith("left"):
        parts.append(f"{duration(state.seconds_left)} left")
    return " · ".join(filter(None, parts))


def duration(seconds: float) -> str:
    """12.3 s, 4 min 10 s, 2 h 5 min."""
    if seconds < 60:
        return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def quantity(number: float) -> str:
    for size, unit in ((1e9, " B"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return f"{number:.3g}"


def moment(stamp: str) -> str:
    """The wall clock's word for people: 24 Nov 07:28."""
    try:
        return time.strftime("%d %b %H:%M", time.strptime(stamp[:19], "%Y-%m-%dT%H:%M:%S"))
    except ValueError:
        return ""


def curve(run: Run, height: int = 190) -> go.Figure | None:
    """The loss by step where the command tells it, else how fast its progress is by time; None where there is too little to draw."""
    rows = reading.figures(run.path / "metrics.jsonl")
    if points := [
        (row["step"], row["loss"]) for row in rows if "step" in row and isinstance(row.get("loss"), (int, float))
    ]:
        names, scale = ("step", "loss, nats per token"), {}
    else:
        rates = reading.figures(run.path / "rates.jsonl")
        phase = rates[-1].get("phase", "") if rates else ""
        points = [(row["seconds"], row["rate"]) for row in rates if row.get("phase") == phase and "rate" in row]
        names, scale = ("seconds", f"{phase}, per second"), {"rangemode": "tozero", "tickformat": "~s"}
    if len(points) < 3:
        return None
    import plotly.graph_objects as go

    from maet_core.studio.charts import ORANGE

    x, y = zip(*points, strict=True)
    figure = go.Figure(
        go.Scatter(
            x=x, y=y, mode="lines", line={"color": ORANGE, "width": 2}, hovertemplate="%{x}: %{y:.4g}<extra></extra>"
        )
    )
    figure.update_layout(
        height=height,
        margin={"l": 0, "r": 0, "t": 4, "b": 0},
        xaxis={"title": {"text": names[0]}, "showgrid": False},
        yaxis={"title": {"text": names[1]}, "nticks": 4} | scale,
    )
    return figure
