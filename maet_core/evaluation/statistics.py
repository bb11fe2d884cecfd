"""What counts allow to claim: intervals of one share, and two models compared on the same questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass

Z95 = 1.959963984540054


def wilson(right: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of a share, in 0..1 (Wilson 1927); (0, 1) where nothing was asked."""
    if n == 0:
        return 0.0, 1.0
    share, spread = right / n, Z95 * Z95 / n
    centre = (share + spread / 2) / (1 + spread)
    half = Z95 * math.sqrt(share * (1 - share) / n + spread / (4 * n)) / (1 + spread)
    return 0.0 if right == 0 else centre - half, 1.0 if right == n else centre + half


def mcnemar(gained: int, lost: int) -> float:
    """Exact two-sided p of McNemar's test: how often chance splits the questions where two models differ so unevenly.

    `gained`, `lost`: questions that only the one, and only the other, answers right. 1 where they never differ.
    """
    n, fewer = gained + lost, min(gained, lost)
    if n == 0:
        return 1.0
    # in logarithms: a float cannot hold the binomials of a few thousand questions
    terms = (
        math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) - n * math.log(2) for k in range(fewer + 1)
    )
    return min(1.0, 2 * math.fsum(math.exp(term) for term in terms))


def paired_interval(gained: int, lost: int, n: int) -> tuple[float, float]:
    """The 95 % score interval of the paired difference (gained − lost) / n, in −1..1 (Tango 1998, Statistics in Medicine 17).

    It holds its level for the few hundred questions and the shares near 0 and 1 that benchmarks have, where the normal
    interval does not.
    """
    if n == 0:
        return -1.0, 1.0

    def statistic(delta: float) -> float:
        a, b, c = 2 * n, -gained - lost + (2 * n - gained + lost) * delta, -lost * delta * (1 - delta)
        lost_share = (math.sqrt(max(0.0, b * b - 4 * a * c)) - b) / (2 * a)
        variance = n * (2 * lost_share + delta * (1 - delta))
        distance = gained - lost - n * delta
        return distance / math.sqrt(variance) if variance > 0 else math.copysign(math.inf, distance)

    estimate = (gained - lost) / n
    return _crossing(statistic, Z95, -1.0, estimate), _crossing(statistic, -Z95, estimate, 1.0)


def _crossing(statistic, level: float, low: float, high: float) -> float:
    """Where the falling statistic passes the level."""
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if statistic(middle) > level else (low, middle)
    return (low + high) / 2


@dataclass(frozen=True)
class Share:
    """Right answers of n, with the 95 % interval."""

    right: int
    n: int

    @property
    def value(self) -> float:
        return self.right / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return wilson(self.right, self.n)

    def text(self) -> str:
        """`43.0 % (36.3–49.9), n = 200`."""
        low, high = self.interval
        return f"{100 * self.value:.1f} % ({100 * low:.1f}–{100 * high:.1f}), n = {self.n}"

    def to_json(self) -> dict[str, object]:
        return {
            "right": self.right,
            "n": self.n,
            "accuracy": self.value if self.n else None,
            "interval_95": self.interval,
        }


@dataclass(frozen=True)
class Paired:
    """A model against a reference on the same n questions. `gained`: only the model is right; `lost`: only the reference is."""

    gained: int
    lost: int
    n: int

    @classmethod
    def of(cls, model: Sequence[bool], reference: Sequence[bool]) -> Paired:
        pairs = list(zip(model, reference, strict=True))
        return cls(sum(m and not r for m, r in pairs), sum(r and not m for m, r in pairs), len(pairs))

    @property
    def difference(self) -> float:
        return (self.gained - self.lost) / self.n if self.n else float("nan")

    @property
    def interval(self) -> tuple[float, float]:
        return paired_interval(self.gained, self.lost, self.n)

    @property
    def p_value(self) -> float:
        return mcnemar(self.gained, self.lost)

    @property
    def is_luck(self) -> bool:
        """Whether chance may explain it: the interval holds 0, or the exact p is 0.05 or more."""
        low, high = self.interval
        return low <= 0 <= high or self.p_value >= 0.05

    def text(self) -> str:
        """`+8.0 points (+1.2 to +14.6), p = 0.021`."""
        low, high = self.interval
        p = f"p = {self.p_value:.3f}" if self.p_value >= 0.001 else "p < 0.001"
        return f"{100 * self.difference:+.1f} points ({100 * low:+.1f} to {100 * high:+.1f}), {p}".replace("-", "−")

    def to_json(self) -> dict[str, object]:
        found = {"difference": self.difference, "interval_95": self.interval, "p_value": self.p_value}
        return asdict(self) | found | {"is_luck": self.is_luck}
