"""The final number of an answer."""

import pytest

from maet_core.evaluation import final_answer, is_right


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
