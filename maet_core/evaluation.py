"""Whether an answer is right: the final number in a text, in the digits of any script."""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal, InvalidOperation

# A sign counts only where it cannot be a minus between two numbers.
_NUMBER = re.compile(r"(?<![\d.,)])[-−]?\d+(?:[,.٫]\d+)*|\d+(?:[,.٫]\d+)*")


def final_answer(text: str) -> Decimal | None:
    """The number after the last `####` (the mark of GSM8K), else the last number of the text; None if there is none.

    Thousands commas are read as such: `1,250.5` is 1250.5.
    """
    text, mark, marked = _ascii_digits(text).rpartition("####")
    found = _NUMBER.findall(marked)
    return _value(found[0 if mark else -1]) if found else None


def is_right(text: str, answer: str) -> bool | None:
    """Whether the text's final number is the known answer; None where no answer is known."""
    expected = final_answer(answer)
    return None if expected is None else final_answer(text) == expected


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in text)


def _value(number: str) -> Decimal | None:
    number = number.replace("−", "-").replace("٫", ".")
    if re.fullmatch(r"-?\d{1,3}(,\d{2,3})*,\d{3}(\.\d+)?", number):
        number = number.replace(",", "")
    try:
        return Decimal(number.replace(",", ".")).normalize()
    except InvalidOperation:
        return None
