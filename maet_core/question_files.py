"""Questions that a person brings along: JSONL, TSV or plain text, as bytes from anywhere. They are data and nothing else."""

from __future__ import annotations

import json
from pathlib import PurePath
from typing import Any

from maet_core.errors import InputError
from maet_core.workspace import Question

MOST_BYTES = 2_000_000
MOST_QUESTIONS = 5_000
MOST_CHARACTERS = 8_000
SUFFIXES = (".jsonl", ".tsv", ".txt")


def read_questions(data: bytes, name: str, language: str = "") -> list[Question]:
    """The questions of a file called `name`, in `language` where a row does not say its own.

    JSONL: objects with `question` and, if they like, `answer`, `language`, `gloss`, `worked`, `prompt`, `id`. TSV, no header: the
    question, its answer, its gloss. TXT: one question a line. Raises InputError with the name, the line and the mend.
    """
    suffix = PurePath(name).suffix.lower()
    name = PurePath(name).name[:80]
    if suffix not in SUFFIXES:
        raise InputError(f"{name}: questions come as {', '.join(SUFFIXES)}; save it as one of them")
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{name}: {len(data) / 1e6:.1f} MB, expected at most {MOST_BYTES / 1e6:.0f} MB; take fewer questions"
        )
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{name}: not UTF-8 text (byte {error.start}); save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{name}: holds a NUL byte, so it is no text; save it as UTF-8")
    questions = []
    for number, line in enumerate(text.replace("\r\n", "\n").split("\n"), 1):
        if line.strip():
            if len(questions) >= MOST_QUESTIONS:
                raise InputError(f"{name}: more than {MOST_QUESTIONS:,} questions; take fewer")
            fields = {"language": language, "id": f"{number:04d}"} | _FIELDS[suffix](line, f"{name} line {number}")
            questions.append(_question(fields, f"{name} line {number}"))
    if not questions:
        raise InputError(f"{name}: holds no question")
    return questions


def to_jsonl(questions: list[Question]) -> str:
    """The file that a workspace keeps in tasks/."""
    keys = ("id", "language", "question", "prompt", "answer", "gloss", "worked", "split")
    rows = ({key: value for key in keys if (value := getattr(question, key))} for question in questions)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _json_fields(line: str, where: str) -> dict[str, str]:
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not valid JSON ({error})") from None
    if not isinstance(row, dict):
        raise InputError(f'{where}: expected an object such as {{"question": …, "answer": …}}')
    known = ("id", "language", "question", "prompt", "answer", "gloss", "worked", "split")
    return {key: _text(row[key], key, where) for key in known if row.get(key) not in (None, "")}


def _table_fields(line: str, where: str) -> dict[str, str]:
    cells = line.split("\t")
    if len(cells) > 3:
        raise InputError(f"{where}: {len(cells)} columns, expected question, answer and at most a gloss")
    return dict(zip(("question", "answer", "gloss"), (cell.strip() for cell in cells), strict=False))


def _question(fields: dict[str, str], where: str) -> Question:
    if not fields.get("question", "").strip():
        raise InputError(f"{where}: no question; expected a field `question`")
    if (longest := max(map(len, fields.values()))) > MOST_CHARACTERS:
        raise InputError(
            f"{where}: {longest:,} characters in a field, expected at most {MOST_CHARACTERS:,}; shorten it"
        )
    worked, mark, final = fields.get("answer", "").rpartition("####")
    if mark:  # GSM8K: the steps, then the answer
        fields |= {"answer": final.strip(), "worked": fields.get("worked") or f"{worked.strip()} #### {final.strip()}"}
    return Question(**{"prompt": "", **fields})


def _text(value: Any, key: str, where: str) -> str:
    if isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise InputError(f"{where}: {key} is {type(value).__name__}, expected text or a number")


_FIELDS = {".jsonl": _json_fields, ".tsv": _table_fields, ".txt": lambda line, where: {"question": line.strip()}}
