"""Questions as files hold them: JSONL, JSON, TSV, CSV, Parquet or plain text. One row is one question; columns go by many names."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any

from maet_core.errors import InputError
from maet_core.evaluation.choices import find_choices
from maet_core.evaluation.extraction import final_answer

UNKNOWN_LANGUAGE = "und"  # ISO 639-2: undetermined
QUESTION = ("question", "m_query", "query", "problem", "input", "premise", "sentence")
ANSWER = ("answer_number", "answer", "response", "target", "label", "output")
SUFFIXES = (".jsonl", ".json", ".tsv", ".csv", ".parquet")
# MSVAMP's files are named by the English name of their language
MSVAMP_LANGUAGES = {
    "bn": "Bengali",
    "de": "German",
    "en": "English",
    "es": "Spanish",
    "fr": "French",
    "ja": "Japanese",
    "ru": "Russian",
    "sw": "Swahili",
    "th": "Thai",
    "zh": "Chinese",
}


@dataclass(frozen=True)
class Question:
    """One question. `prompt` is how the task itself puts it; `answer` the known one, `worked` the same with its steps; `gloss` the
    question in English.

    With `choices`, `gold` is the index of the right one. The pages show `pinned` ones first, and tell questions apart by their
    `task`: neither has a part in what a model is asked, nor in the key of an answer (see `run.Ask.key`).
    """

    id: str
    language: str
    question: str
    prompt: str = ""
    answer: str = ""
    worked: str = ""
    gloss: str = ""
    split: str = ""
    choices: tuple[str, ...] = ()
    gold: int = -1
    pinned: bool = field(default=False, repr=False)
    task: str = field(default="", repr=False)

    @property
    def problem(self) -> str:
        """The same for one question in several languages: the id without the language at its end."""
        return self.id.removesuffix(f"-{self.language}")

    @cached_property
    def number(self) -> Decimal | None:
        """The answer as a number; None where it is none. Known answers are written with thousands commas or plain."""
        return final_answer(self.answer)

    def like(self, typed: str) -> Question:
        """Another question in the form in which this one is put to the model."""
        prompt = self.prompt.replace(self.question, typed, 1) if self.question in self.prompt else typed
        return Question("typed", "", typed, prompt)


def read_questions(path: Path, language: str = "", name: str = "", answered: bool = True) -> list[Question]:
    """The questions of a file, in the language that a row names, that its name ends in, or `language`.

    With `answered`, a question without a known answer is an InputError, as is a row that cannot be read; it has the line, and the file
    as `name`, or by its path.
    """
    name = name or str(path)
    language = language or _language_of(path)
    if not path.is_file():
        raise InputError(f"{name}: no such file of questions")
    if path.suffix not in SUFFIXES:
        raise InputError(f"{name}: questions come as {', '.join(SUFFIXES)}")
    if path.suffix == ".parquet":
        import pandas as pd

        rows = enumerate(pd.read_parquet(path).to_dict("records"), 1)
        return [question_of(row, number, language, f"{name} line {number}", answered) for number, row in rows]
    text = text_of(path.read_bytes(), name)
    return [item for _, item in questions_in(text, path.suffix, name, language, answered)]


def text_of(data: bytes, name: str) -> str:
    """Raises InputError for what is no text."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{name}: holds a NUL byte, so it is no text; save it as UTF-8")
    return text


def questions_in(
    text: str, suffix: str, name: str, language: str = "", answered: bool = True
) -> Iterator[tuple[int, Question]]:
    """(line, question) one after the other. With `answered`, a question without a known answer is an InputError."""
    rows = _READERS[suffix](text, name)
    for number, row in rows:
        yield number, question_of(row, number, language, f"{name} line {number}", answered)


def question_of(row: Mapping[str, Any], number: int, language: str, where: str, answered: bool = True) -> Question:
    """One row, whatever its columns are called."""
    fields = {str(key).lower(): value for key, value in row.items()}

    def text(name: str) -> str:
        return _text(fields.get(name), name, where)

    question = next((name for name in QUESTION if text(name)), None)
    if question is None:
        raise InputError(
            f"{where}: no question; expected a column {', '.join(QUESTION[:4])}, found {', '.join(fields) or 'none'}"
        )
    shared = {name: text(name) for name in ("prompt", "worked", "gloss", "split")}
    shared |= {
        "id": text("id") or f"{number:04d}",
        "language": text("language") or text("lang") or language or UNKNOWN_LANGUAGE,
        "pinned": fields.get("pinned") is True,
    }
    if (found := find_choices(fields, where)) is not None:
        choices, gold = found
        asked = "\n".join(filter(None, (text("flores_passage"), text(question))))
        return Question(**shared, question=asked, answer=choices[gold], choices=choices, gold=gold)
    answer = next((name for name in ANSWER if text(name)), None)
    if answer is None:
        if not answered:
            return Question(**shared, question=text(question), answer="")
        raise InputError(f"{where}: no answer; expected a column {', '.join(ANSWER[:4])}, found {', '.join(fields)}")
    known = text(answer)
    if "####" in known:  # GSM8K: the steps, then the answer
        shared["worked"] = shared["worked"] or known
        known = known.rpartition("####")[2].strip()
    elif answer == "answer_number":
        shared["worked"] = shared["worked"] or text("answer")
    return Question(**shared, question=text(question), answer=known)


def _json_rows(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """A list of objects, or an object a line."""
    if text.lstrip().startswith("["):
        parts = enumerate(_json(text, f"{name} line 1"), 1)
    else:
        lines = enumerate(text.split("\n"), 1)
        parts = ((number, _json(line, f"{name} line {number}")) for number, line in lines if line.strip())
    for number, row in parts:
        if not isinstance(row, dict):
            raise InputError(f'{name} line {number}: expected an object such as {{"question": …, "answer": …}}')
        yield number, row


def _json(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error})") from None


def _tsv_rows(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Without quoting, as MGSM is."""
    return _table([line.rstrip("\r").split("\t") for line in text.split("\n")], name)


def _csv_rows(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    return _table(list(csv.reader(text.splitlines(keepends=True))), name)


def _table(lines: list[list[str]], name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """Columns without a header are question, answer and gloss."""
    header = [cell.strip().lower() for cell in lines[0]] if lines else []
    headed = bool(set(header) & set(QUESTION)) and len(set(header)) == len(header)
    for number, cells in enumerate(lines, 1):
        if not any(cell.strip() for cell in cells) or (headed and number == 1):
            continue
        if headed and len(cells) != len(header):
            raise InputError(
                f"{name} line {number}: {len(cells)} columns, expected {len(header)} ({', '.join(header)})"
            )
        if len(cells) > 3 and not headed:
            raise InputError(
                f"{name} line {number}: {len(cells)} columns, expected question, answer and at most a gloss, or a header"
            )
        yield number, dict(zip(header if headed else ("question", "answer", "gloss"), cells, strict=headed))


def _lines(text: str, name: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """A question a line."""
    return ((number, {"question": line}) for number, line in enumerate(text.split("\n"), 1) if line.strip())


_READERS = {".jsonl": _json_rows, ".json": _json_rows, ".tsv": _tsv_rows, ".csv": _csv_rows, ".txt": _lines}


def _text(value: Any, key: str, where: str) -> str:
    if isinstance(value, (Mapping, list, tuple)) or (hasattr(value, "tolist") and getattr(value, "ndim", 0)):
        raise InputError(f"{where}: {key} is {type(value).__name__}, expected text or a number")
    if value is None or value != value:  # a missing number of a table is NaN
        return ""
    return f"{value:g}" if isinstance(value, float) and value.is_integer() else str(value).strip()


def _language_of(path: Path) -> str:
    """`sw` for mgsm_sw.tsv, and for test_Swahili.json; empty where the name does not say it."""
    end = re.split(r"[_.-]", path.stem)[-1]
    by_name = {name.lower(): code for code, name in MSVAMP_LANGUAGES.items()}
    if end.lower() in by_name:
        return by_name[end.lower()]
    return end.lower() if re.fullmatch(r"[a-z]{2}", end.lower()) and end != path.stem else ""
