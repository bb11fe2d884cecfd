"""The verdict on what a model said: one row of the table of answers."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from maet_core.evaluation.engine import Reply
from maet_core.evaluation.extraction import extract, same_words, words_said
from maet_core.evaluation.likelihood import Likelihood
from maet_core.evaluation.questions import Question


def judge_text(item: Question, prompt: str, reply: Reply) -> dict[str, Any]:
    """Numbers are compared as numbers; an answer that is none is compared as text, case and punctuation left aside."""
    if item.number is not None:
        found = extract(reply.text, item.language)
        strict, flexible = (_plain(number) for number in (found.strict, found.flexible))
        strict_right, right = found.strict == item.number, found.flexible == item.number
    else:
        strict, flexible = words_said(reply.text)
        strict_right = same_words(strict, item.answer)
        right = strict_right or same_words(flexible, item.answer)
    return _row(item, prompt) | {
        "text": reply.text,
        "strict": strict,
        "flexible": flexible,
        "strict_right": strict_right,
        "right": right,
        "tokens": reply.tokens,
        "finished": reply.finished,
    }


def judge_choice(item: Question, prompt: str, found: Likelihood) -> dict[str, Any]:
    """Strict: the likeliest choice. Flexible: the likeliest by byte, which does not favour short ones."""
    return _row(item, prompt) | {
        "text": item.choices[found.likeliest],
        "strict": item.choices[found.likeliest],
        "flexible": item.choices[found.likeliest_per_byte],
        "strict_right": found.likeliest == item.gold,
        "right": found.likeliest_per_byte == item.gold,
        "tokens": 0,
        "finished": "chosen",
    }


def _row(item: Question, prompt: str) -> dict[str, Any]:
    names = ("id", "problem", "language", "question", "gloss", "answer")
    return {name: getattr(item, name) for name in names} | {"prompt": prompt}


def _plain(number: Decimal | None) -> str:
    return "" if number is None else f"{number:f}"
