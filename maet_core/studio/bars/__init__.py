"""Many bars side by side, one of which can be opened: the units inside a cell of Neurons.

The browser's half (bars.js) draws them as one picture, which costs next to nothing to replace, and answers to the mouse over the
whole height of a bar. For the keyboard and for screen readers it is a slider: the arrow keys go from bar to bar, each is read
aloud, Enter opens it. It saves what it draws as SVG and PNG.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from maet_core.studio.drawing import Scale, component, new_picks

_HTML = (
    '<div class="plot"><div class="most"></div>'
    '<div class="bars" role="slider" tabindex="0" aria-orientation="horizontal" aria-valuemin="0"></div>'
    '<div class="ticks"></div></div>'
)


def bars(
    heights: Sequence[float],
    shades: Sequence[float],
    names: Sequence[str],
    ticks: Sequence[int],
    scale: Scale,
    *,
    key: str,
    on_pick: Callable[[int], None],
    label: str,
    titles: tuple[str, str],
    picture: str,
    selected: int | None = None,
) -> None:
    """Draws one bar a height (≥ 0) in the colour that `scale` gives its shade. Each click calls `on_pick(position)` before the rerun.

    `names` says what each bar is, `ticks` the number below it; `titles` those of both axes, (across, up). `label` is for screen
    readers, `picture` the name of the file that is saved and, as this view may be replaced by another one before a click has
    arrived, what tells a click on it from one on others.
    """

    def picked() -> None:
        for pick in new_picks(key):
            position = pick.get("position")
            if pick.get("of") == picture and type(position) is int and 0 <= position < len(heights):
                on_pick(position)

    component("bars", _HTML)(
        key=key,
        data={
            "heights": [f"{height:.3g}" for height in heights],
            "shades": [round(float(shade), 1) for shade in shades],
            "names": list(names),
            "ticks": [int(tick) for tick in ticks],
            "selected": selected,
            "label": label,
            "titles": list(titles),
            "name": picture,
            "scale": scale.data(),
        },
        on_picks_change=picked,
    )
