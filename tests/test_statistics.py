"""Intervals and tests against scipy and statsmodels, and Tango's interval against his likelihood, maximised numerically."""

import math

import numpy as np
import pytest
from scipy.optimize import brentq, minimize_scalar
from scipy.stats import norm
from statsmodels.stats.contingency_tables import mcnemar as statsmodels_mcnemar
from statsmodels.stats.proportion import proportion_confint

from maet_core.evaluation.statistics import Paired, Share, mcnemar, paired_interval, wilson


@pytest.mark.parametrize(("right", "n"), [(0, 1), (1, 1), (0, 250), (250, 250), (43, 100), (125, 250), (7, 1319)])
def test_wilson(right, n):
    expected = proportion_confint(right, n, alpha=0.05, method="wilson")
    np.testing.assert_allclose(wilson(right, n), np.clip(expected, 0, 1), atol=1e-12)


@pytest.mark.parametrize(
    ("gained", "lost"), [(0, 0), (1, 0), (0, 5), (8, 2), (12, 12), (31, 17), (700, 640), (3000, 100)]
)
def test_mcnemar(gained, lost):
    expected = statsmodels_mcnemar([[10, gained], [lost, 20]], exact=True).pvalue
    assert mcnemar(gained, lost) == pytest.approx(min(1.0, expected), rel=1e-9, abs=1e-300)
    assert mcnemar(lost, gained) == mcnemar(gained, lost)


def score_statistic(gained: int, lost: int, n: int, delta: float) -> float:
    """Tango's: the share of lost questions is the one that is likeliest under the difference delta."""
    low, high = max(0.0, -delta), (1 - delta) / 2

    def unlikely(share):
        chances = (share + delta, share, 1 - 2 * share - delta)
        counts = (gained, lost, n - gained - lost)
        return -sum(c * math.log(max(p, 1e-300)) for c, p in zip(counts, chances, strict=True) if c)

    share = minimize_scalar(unlikely, bounds=(low, high), method="bounded", options={"xatol": 1e-13}).x
    return (gained - lost - n * delta) / math.sqrt(n * (2 * share + delta * (1 - delta)))


@pytest.mark.parametrize(
    ("gained", "lost", "n"), [(12, 2, 50), (5, 5, 40), (0, 3, 30), (30, 12, 250), (1, 0, 20), (9, 60, 100)]
)
def test_paired_interval(gained, lost, n):
    estimate, z = (gained - lost) / n, norm.ppf(0.975)
    low = brentq(lambda d: score_statistic(gained, lost, n, d) - z, -0.9999, estimate - 1e-9, xtol=1e-10)
    high = brentq(lambda d: score_statistic(gained, lost, n, d) + z, estimate + 1e-9, 0.9999, xtol=1e-10)
    np.testing.assert_allclose(paired_interval(gained, lost, n), (low, high), atol=2e-5)


def test_paired_interval_where_nothing_differs():
    """Without a differing question it is ±z²/(n + z²), which follows from the statistic."""
    z2 = norm.ppf(0.975) ** 2
    np.testing.assert_allclose(paired_interval(0, 0, 96), (-z2 / (96 + z2), z2 / (96 + z2)), atol=1e-9)


def test_paired_interval_turns_with_the_sides():
    low, high = paired_interval(12, 2, 50)
    np.testing.assert_allclose(paired_interval(2, 12, 50), (-high, -low), atol=1e-12)


def test_pairing_counts_the_questions_that_differ():
    found = Paired.of([True, True, False, False, True], [True, False, True, False, False])
    assert (found.gained, found.lost, found.n) == (2, 1, 5)
    assert found.difference == pytest.approx(0.2)
    assert found.is_luck


def test_a_clear_difference_is_no_luck():
    assert not Paired(30, 5, 250).is_luck
    assert Paired(30, 5, 250).text().startswith("+10.0 points (+")
    assert "−" in Paired(5, 30, 250).text()


def test_share_text_and_nothing_asked():
    assert Share(86, 200).text() == "43.0 % (36.3–49.9), n = 200"
    assert wilson(0, 0) == (0.0, 1.0)
    assert Share(0, 0).to_json()["accuracy"] is None
