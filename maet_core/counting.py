"""Percentages and shares of a count, the same everywhere: k1 % of the neurons, k2 % of the tensors, the density of a trim."""

from decimal import ROUND_HALF_UP, Decimal


def percent_count(percent: float, total: int) -> int:
    """`percent` of `total`, rounded half up in decimal arithmetic, so that 0.3 % means three in a thousand exactly."""
    return _half_up(Decimal(str(percent)) * total / 100)


def share_count(share: float, total: int) -> int:
    """The `share` (0 to 1) of `total`, rounded the same way."""
    return _half_up(Decimal(str(share)) * total)


def _half_up(number: Decimal) -> int:
    return int(number.to_integral_value(rounding=ROUND_HALF_UP))
