"""The final number of an answer, in the digits of any script, and whether it is the right one.

Strict: the number stands where a final answer is announced. Flexible: there, else it is the last number of the text. Both
are reported, for a model that reasons well and ends badly differs from one that is wrong.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from functools import cache

from maet_core.evaluation.languages import DOT_GROUPS, SPACE_GROUPS, words

MARK = "####"  # what GSM8K puts before the final answer
_BOXED = re.compile(r"\\boxed\s*\{((?:[^{}]|\{[^{}]*\})*)\}")
# what may stand around a number that is the whole answer, or between "the answer is" and its number
_DRESS = r"[\s*_$€£¥₹฿৳₽\"'“”«»:：=(（\[~≈]*"
_UNITS = {"千": 10**3, "万": 10**4, "萬": 10**4, "億": 10**8, "亿": 10**8}


@dataclass(frozen=True)
class Extraction:
    """The two readings of a text; None where there is no number, or none that was announced."""

    strict: Decimal | None
    flexible: Decimal | None


def extract(text: str, language: str = "") -> Extraction:
    """Both readings. `language` says how thousands are grouped and how answers are announced; English always counts too."""
    text = _ascii_digits(text)
    strict = _announced(text, language)
    if strict is None:
        found = numbers(text, language)
        return Extraction(None, found[-1] if found else None)
    return Extraction(strict, strict)


def final_answer(text: str, language: str = "") -> Decimal | None:
    """The flexible reading: `1,250.5` is 1250.5, `৭` is 7; None if there is no number."""
    return extract(text, language).flexible


def words_said(text: str) -> tuple[str, str]:
    """An answer that is no number: what stands after the mark (strict), and there or else the last line that is not empty (flexible)."""
    marked = text.rpartition(MARK)[2].strip() if MARK in text else ""
    lines = [line for line in text.splitlines() if line.strip()]
    return marked.splitlines()[0] if marked else "", (marked or (lines[-1] if lines else "")).strip()


def same_words(one: str, other: str) -> bool:
    """Case and punctuation left aside."""
    return _bare(one) == _bare(other)


def stated(text: str, language: str = "") -> str:
    """The final answer of a text, as it is shown: a plain number, else the words after the mark, else nothing."""
    found, marked = extract(text, language), words_said(text)[0]
    if found.flexible is None or (marked and found.strict is None):
        return marked
    return f"{found.flexible:f}"


def is_right(text: str, answer: str, language: str = "") -> bool | None:
    """Whether the text's final number is the known answer, or its words, where the answer is no number; None where no answer is known."""
    if not answer.strip():
        return None
    expected = final_answer(answer)
    if expected is None:
        return any(same_words(said, answer) for said in words_said(text))
    return final_answer(text, language) == expected


def numbers(text: str, language: str = "") -> list[Decimal | None]:
    """All numbers of a text in order; None for what looks like one and is none (`1.2.3`)."""
    return [_value(found, language) for found in _number(language).finditer(_ascii_digits(text))]


def _announced(text: str, language: str) -> Decimal | None:
    """The number after the last `####`, in the last `\\boxed{}`, after the last "the answer is", or alone in the text."""
    if MARK in text:
        return _first(text.rpartition(MARK)[2], language)
    if boxes := _BOXED.findall(text):
        return _first(boxes[-1], language)
    if found := list(_announcement(language).finditer(text)):
        return _value(_number(language).match(text, found[-1].end()), language)
    if alone := _number(language).search(text):
        around = text[: alone.start()] + text[alone.end() :]
        if not re.search(r"\w", around):
            return _value(alone, language)
    return None


def _first(text: str, language: str) -> Decimal | None:
    found = _number(language).search(text)
    return _value(found, language) if found else None


@cache
def _number(language: str) -> re.Pattern:
    """A number with its separators. A sign counts only where it cannot be a minus between two numbers."""
    space = " " if language in SPACE_GROUPS else ""
    grouped = rf"\d{{1,3}}(?:[{space}\u00a0\u202f\u2009'’]\d{{3}})+(?!\d)(?:[.,٫]\d+)?"
    plain = r"\d+(?:[,.٫٬،，]\d+)*"
    body = rf"(?:{grouped}|{plain})"
    return re.compile(rf"(?P<number>(?<![\d.,)])[-−][$€£¥]?(?=\d){body}|{body})(?:\s?(?P<unit>[千万萬億亿]))?")


@cache
def _announcement(language: str) -> re.Pattern:
    phrases = sorted({*words(language).announce, *words("en").announce}, key=len, reverse=True)
    either = "|".join(re.escape(phrase).replace(r"\ ", r"\s+") for phrase in phrases)
    return re.compile(rf"(?:{either}){_DRESS}(?=[-−]?[$€£¥]?\d)", re.IGNORECASE)


def _value(found: re.Match, language: str) -> Decimal | None:
    number = re.sub(r"[\s$€£¥\u00a0\u202f\u2009'’]", "", found["number"]).replace("−", "-")
    number = number.replace("٬", ",").replace("،", ",").replace("，", ",").replace("٫", ".")
    if language in DOT_GROUPS and re.fullmatch(r"-?\d{1,3}(\.\d{3})+(,\d+)?", number):
        number = number.replace(".", "").replace(",", ".")
    elif re.fullmatch(r"-?\d{1,3}(,\d{2,3})*,\d{3}(\.\d+)?", number):
        number = number.replace(",", "")
    try:
        return (Decimal(number.replace(",", ".")) * _UNITS.get(found["unit"] or "", 1)).normalize()
    except InvalidOperation:
        return None


def _ascii_digits(text: str) -> str:
    return "".join(str(unicodedata.decimal(letter, letter)) for letter in text)


def _bare(text: str) -> str:
    kept = "".join(" " if unicodedata.category(letter)[0] in "PS" else letter for letter in text.casefold())
    return " ".join(kept.split())
