"""The final number of an answer; the oracle is a table of answers in all languages that was read by hand."""

from pathlib import Path

import pytest

from maet_core.evaluation import extract, final_answer, is_right, stated
from maet_core.evaluation.extraction import numbers

SPOKEN = [
    line.split("\t")
    for line in (Path(__file__).parent / "spoken_answers.tsv").read_text("utf-8").splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("3 + 4 = 7 #### 7", 7),
        ("৩ + ৪ = ৭ #### ৭", 7),
        ("she has 12 left.", 12),
        ("1,250 shillings", 1250),
        ("1,00,000", 100000),
        ("7-3=4", 4),
        ("7 - 3", 3),
        ("x = -3", -3),
        ("2 − 5 = −3", -3),
        ("#### 8 apples of 20", 8),
        ("#### 5\n#### 6", 6),
        ("3.50", 3.5),
    ],
)
def test_final_answer(text, number):
    assert final_answer(text) == number


@pytest.mark.parametrize("text", ["", "none", "####", "1.2.3"])
def test_no_number(text):
    assert final_answer(text) is None
    assert is_right(text, "7") is False


def test_unknown_answer_is_neither_right_nor_wrong():
    assert is_right("7", "") is None
    assert is_right("it is 7.0", "7") is True


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("45 < 62 #### A", True),
        ("45 < 62 #### A\nQ: 5, 6", True),
        ("#### (A).", True),
        ("A", True),
        ("A: 45 < 62 #### B", False),
        ("45 < 62", False),
        ("", False),
    ],
)
def test_an_answer_that_is_a_word(text, right):
    assert is_right(text, "A") is right


def test_the_final_answer_as_it_is_shown():
    assert [stated(text) for text in ("45 < 62 #### B", "12 + 5 = 17 #### 17", "it is 1,250.5", "none")] == [
        "B", "17", "1250.5", "",
    ]  # fmt: skip


@pytest.mark.parametrize(("language", "strict", "flexible", "text"), SPOKEN)
def test_answers_that_were_read_by_hand(language, strict, flexible, text):
    found = extract(text.replace("\\n", "\n"), language)
    assert ["-" if number is None else f"{number:f}" for number in (found.strict, found.flexible)] == [strict, flexible]


def test_the_table_covers_every_language_of_mgsm():
    assert len(SPOKEN) >= 200
    assert {"en", "es", "fr", "de", "ru", "zh", "ja", "th", "sw", "bn", "te"} <= {line[0] for line in SPOKEN}


def test_numbers_in_order():
    assert numbers("Asha has ৬০ balls and 1,200 beads, 1.2.3") == [60, 1200, None]
    assert numbers("80 000 $ und 1.250,5", "de") == [80000, 1250.5]
    assert numbers("80 000", "en") == [80, 0]
