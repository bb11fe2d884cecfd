"""Questions that a person brings: the three forms, and every way in which a file can be wrong."""

import json
import re

import pytest

from maet_core import question_files
from maet_core.errors import InputError
from maet_core.question_files import read_questions, to_jsonl


def test_jsonl_with_all_its_fields():
    row = {
        "id": 7,
        "language": "bn",
        "question": "কয়টি?",
        "answer": 5,
        "gloss": "How many?",
        "prompt": "Q: কয়টি?\nA:",
        "worked": "2 + 3 = 5",
    }
    (found,) = read_questions(json.dumps(row).encode(), "mine.jsonl", "sw")
    assert (found.id, found.language, found.answer, found.prompt) == ("7", "bn", "5", "Q: কয়টি?\nA:")
    assert read_questions(to_jsonl([found]).encode(), "again.jsonl") == [found]


def test_table_and_text_take_the_language_that_is_given():
    table = read_questions(b"How many?\t1,250\nWie viele?\t3\tHow many?\r\n\n", "x.TSV", "de")
    assert [(q.question, q.answer, q.gloss, q.language) for q in table] == [
        ("How many?", "1,250", "", "de"),
        ("Wie viele?", "3", "How many?", "de"),
    ]
    (headed,) = read_questions(b"gloss\tquestion\nHow many?\tWie viele?\n", "x.tsv", "de")
    assert (headed.question, headed.answer, headed.gloss) == ("Wie viele?", "", "How many?")
    text = read_questions("\ufeffEins?\n\nZwei?".encode(), "x.txt")
    assert [(q.question, q.answer, q.id) for q in text] == [("Eins?", "", "0001"), ("Zwei?", "", "0003")]


def test_steps_before_the_answer_are_kept_apart():
    (found,) = read_questions(b'{"question": "?", "answer": "2 + 3 = 5\\n#### 5"}', "gsm8k.jsonl")
    assert (found.answer, found.worked) == ("5", "2 + 3 = 5\n#### 5")


@pytest.mark.parametrize(
    ("name", "data", "message"),
    [
        ("x.pkl", b"a", r"x\.pkl: questions come as \.jsonl, \.tsv, \.txt; .*"),
        ("../../x.exe", b"a", r"x\.exe: .*"),
        ("x.txt", b"\xff\xfe", r"x\.txt: not UTF-8 text \(byte 0\); .*"),
        ("x.txt", b"a\0b", r"x\.txt: holds a NUL byte.*"),
        ("x.txt", b" \n", r"x\.txt: holds no question"),
        ("x.jsonl", b'{"question": "?"}\n{', r"x\.jsonl line 2: not valid JSON .*"),
        ("x.jsonl", b"[" * 100_000, r"x\.jsonl line 1: not valid JSON .*"),
        ("x.jsonl", b"[1]", r"x\.jsonl line 1: expected an object .*"),
        ("x.jsonl", b'{"answer": "1"}', r"x\.jsonl line 1: no question; .*"),
        ("x.jsonl", b'{"question": {"a": 1}}', r"x\.jsonl line 1: question is dict, expected text or a number"),
        ("x.tsv", b"a\tb\tc\td", r"x\.tsv line 1: 4 columns, .*"),
        ("x.txt", b"a" * 9000, r"x\.txt line 1: 9,000 characters .*"),
        ("x.txt", b"a\n" * 5001, r"x\.txt: more than 5,000 questions; .*"),
        ("x.txt", b"a" * (question_files.MOST_BYTES + 1), r"x\.txt: 2\.0 MB, expected at most 2 MB; .*"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_says_where_and_what_to_do(name, data, message):
    with pytest.raises(InputError) as error:
        read_questions(data, name)
    assert re.fullmatch(message, str(error.value)), error.value
