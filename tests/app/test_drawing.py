"""The colours of the app's own drawings, and the script that the parts of each become. What it does is tested in a real browser."""

import re
from itertools import pairwise

import numpy as np
import pytest

from maet_core.studio.drawing import DIVERGING, INKS, SEQUENTIAL, assets

LEAST_CONTRAST = 4.5  # WCAG 2.2, 1.4.3


def luminance(rgb) -> float:
    """As WCAG 2.2 defines it, 0 to 1."""
    parts = np.asarray(rgb, float) / 255
    return float(np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4) @ (0.2126, 0.7152, 0.0722))


def contrast(first, second) -> float:
    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


def rgb(stop: str) -> list[int]:
    return [int(stop[i : i + 2], 16) for i in (1, 3, 5)]


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("palette", [SEQUENTIAL, DIVERGING], ids=["sequential", "diverging"])
def test_one_ink_is_readable_on_every_colour(palette, mode):
    ink, stops = rgb(INKS[mode]), [rgb(stop) for stop in palette[mode]]
    for before, after in pairwise(stops):
        for part in np.linspace(0, 1, 21):
            assert contrast(ink, np.add(before, part * np.subtract(after, before))) >= LEAST_CONTRAST


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_more_is_always_further_from_the_ground(mode):
    seen = [luminance(rgb(stop)) for stop in SEQUENTIAL[mode]]
    assert seen == sorted(seen, reverse=mode == "light")


@pytest.mark.parametrize("name", ["heatmap", "bars"])
def test_the_script_is_whole_and_imports_nothing(name):
    script, _ = assets(name)
    assert not re.search(r"^import ", script, re.MULTILINE)
    assert len(re.findall(r"^export ", script, re.MULTILINE)) == 1
    names = re.findall(r"^(?:async )?(?:function|class|const) (\w+)", script, re.MULTILINE)
    assert len(set(names)) == len(names)
