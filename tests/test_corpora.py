"""Corpora of every format, row by row; what cannot be read is one clear error."""

import json

import pandas as pd
import pytest

from maet_core.corpora import read_corpus
from maet_core.errors import InputError

ROWS = [{"question": "Juma ana maembe 3?", "answer": " 3"}, {"question": "লতার কাছে কয়টি আম?", "answer": " 5"}]
PAIRS = [("Juma ana maembe 3?", " 3"), ("লতার কাছে কয়টি আম?", " 5")]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), "utf-8")
    return path


def test_text_is_cut_at_empty_lines(tmp_path):
    (tmp_path / "c.txt").write_text("one\ntwo\n\nnăm\n\n\nfour\n", "utf-8")
    assert list(read_corpus(tmp_path / "c.txt")) == [("", "one\ntwo"), ("", "năm"), ("", "four")]


def test_jsonl_and_parquet_say_the_same(tmp_path):
    pd.DataFrame(ROWS).to_parquet(tmp_path / "c.parquet")
    assert list(read_corpus(write(tmp_path / "c.jsonl", ROWS))) == PAIRS
    assert list(read_corpus(tmp_path / "c.parquet")) == PAIRS


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ({"prompt": "p", "answer": "a", "question": "q"}, ("p", "a")),
        ({"prompt": "p", "completion": "c", "text": "t"}, ("p", "c")),
        ({"instruction": "i", "response": "r"}, ("i", "r")),
        ({"text": "t", "id": "7"}, ("", "t")),
    ],
)
def test_columns_are_found_by_their_usual_names(tmp_path, row, expected):
    assert list(read_corpus(write(tmp_path / "c.jsonl", [row]))) == [expected]


def test_columns_can_be_named(tmp_path):
    path = write(tmp_path / "c.jsonl", [{"swali": "q", "jibu": "a", "text": "t"}])
    assert list(read_corpus(path, ("swali", "jibu"))) == [("q", "a")]
    assert list(read_corpus(path, ("jibu",))) == [("", "a")]


def test_empty_rows_are_no_documents(tmp_path):
    assert list(read_corpus(write(tmp_path / "c.jsonl", [{"text": " "}, {"text": "t"}]))) == [("", "t")]


def test_a_large_file_is_streamed(tmp_path):
    path = write(tmp_path / "c.jsonl", ({"text": f"row {i}" + " " * 1500} for i in range(20_000)))
    path.write_text(path.read_text() + "{broken\n")
    assert next(iter(read_corpus(path)))[1].startswith("row 0")


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.jsonl", None, "no such file"),
        ("c.jsonl", '{"text": "a"\n', "cannot be read"),
        ("c.jsonl", '{"words": "a"}\n', r"row 1 has the columns words; expected .*question and answer"),
        ("c.jsonl", '{"text": 5}\n', "row 1: text must be text, found int"),
        ("c.parquet", "no parquet", "cannot be read"),
        ("c.csv", "a,b\n", r"\.jsonl"),
    ],
)
def test_what_cannot_be_read_is_one_line(tmp_path, name, content, says):
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=says) as caught:
        list(read_corpus(tmp_path / name))
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)
