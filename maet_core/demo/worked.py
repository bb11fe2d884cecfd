"""Reference solutions: one line of numbers and an operator, the same in every language."""

from __future__ import annotations


def solve(operator: str, a: int, b: int) -> int:
    return {"+": a + b, "-": a - b, "*": a * b, "/": a // b, "max": max(a, b), "min": min(a, b)}[operator]


def worked_line(operator: str, a: int, b: int) -> str:
    """One line of arithmetic, then the answer after `####`, as in GSM8K."""
    answer = solve(operator, a, b)
    return f"{a} {operator} {b} = {answer} #### {answer}"
