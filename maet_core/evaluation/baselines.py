"""What needs no language at all: a model counts in a language only where it beats these on the same questions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from decimal import Decimal

from maet_core.evaluation.extraction import numbers
from maet_core.evaluation.questions import Question


def always_add(question: str, language: str) -> Decimal | None:
    """The sum of the question's first two numbers."""
    found = [number for number in numbers(question, language) if number is not None]
    return found[0] + found[1] if len(found) > 1 else None


def copy_a_number(question: str, language: str) -> Decimal | None:
    """The question's last number."""
    found = [number for number in numbers(question, language) if number is not None]
    return found[-1] if found else None


BASELINES: dict[str, Callable[[str, str], Decimal | None]] = {
    "always add": always_add,
    "copy a number": copy_a_number,
}


def baseline_verdicts(items: Sequence[Question]) -> dict[str, list[bool]]:
    """By baseline, whether it is right on each item. Items with choices, or whose answers are words, have one: the most frequent answer."""
    if items and all(item.choices or item.number is None for item in items):
        marks = [item.gold if item.choices else item.answer for item in items]
        most = max(sorted(set(marks)), key=marks.count)
        return {"most frequent choice": [mark == most for mark in marks]}
    if not any(item.number is not None for item in items):
        return {}
    return {
        name: [item.number is not None and guess(item.question, item.language) == item.number for item in items]
        for name, guess in BASELINES.items()
    }
