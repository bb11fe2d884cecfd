"""Percentages of a count, the same everywhere: k1 % of the neurons, k2 % of the tensors."""

from decimal import ROUND_HALF_UP, Decimal


def percent_count(percent: float, total: int) -> int:
    """`percent` of `total`, rounded half up in decimal arithmetic, so that 0.3 % means three in a thousand exactly."""
    share = Decimal(str(percent)) * total / 100
    return int(share.to_integral_value(rounding=ROUND_HALF_UP))
