"""Percentages of a count, exact in the decimal number that the user wrote."""

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maet_core.counting import percent_count


@given(st.decimals(0, 100, places=4), st.integers(0, 10**12))
def test_half_up_in_rational_arithmetic(percent, total):
    share = Fraction(percent) * total / 100
    expected = share.numerator // share.denominator + (share - share.numerator // share.denominator >= Fraction(1, 2))
    assert percent_count(float(percent), total) == expected


@pytest.mark.parametrize(
    ("percent", "total", "count"),
    [
        (0.0, 10, 0),
        (100.0, 7, 7),
        (50.0, 1, 1),
        (49.9, 1, 0),
        (0.3, 1000, 3),
        # exactly one half, of which binary arithmetic sees a little less
        (0.57, 5000, 29),
        (32.3, 500, 162),
        (1.15, 3000, 35),
        (0.35, 11000, 39),
    ],
)
def test_known_counts(percent, total, count):
    assert percent_count(percent, total) == count
