"""Questions that a person brings along: JSONL, TSV or plain text, as bytes from anywhere. They are data and nothing else.

What the rows mean is read as `maet evaluate` reads them; here are the limits for a stranger's file.
"""

from __future__ import annotations

import json
from pathlib import PurePath

from maet_core.errors import InputError
from maet_core.evaluation.questions import UNKNOWN_LANGUAGE, Question, questions_in, text_of

MOST_BYTES = 2_000_000
MOST_QUESTIONS = 5_000
MOST_CHARACTERS = 8_000
SUFFIXES = (".jsonl", ".tsv", ".txt")
_FIELDS = ("id", "language", "question", "prompt", "answer", "gloss", "worked", "split")


def read_questions(data: bytes, name: str, language: str = "") -> list[Question]:
    """The questions of a file called `name`, in `language` where a row does not say its own.

    JSONL: objects with `question` and, if they like, `answer`, `language`, `gloss`, `worked`, `prompt`, `id`. TSV with such a header, or
    without one: the question, its answer, its gloss. TXT: one question a line. Raises InputError with the name, the line and the mend.
    """
    suffix = PurePath(name).suffix.lower()
    name = PurePath(name).name[:80]
    if suffix not in SUFFIXES:
        raise InputError(f"{name}: questions come as {', '.join(SUFFIXES)}; save it as one of them")
    if len(data) > MOST_BYTES:
        raise InputError(
            f"{name}: {len(data) / 1e6:.1f} MB, expected at most {MOST_BYTES / 1e6:.0f} MB; take fewer questions"
        )
    questions: list[Question] = []
    for number, item in questions_in(text_of(data, name), suffix, name, language, answered=False):
        if len(questions) >= MOST_QUESTIONS:
            raise InputError(f"{name}: more than {MOST_QUESTIONS:,} questions; take fewer")
        fields = {key: getattr(item, key) for key in _FIELDS}
        if (longest := max(map(len, fields.values()))) > MOST_CHARACTERS:
            raise InputError(
                f"{name} line {number}: {longest:,} characters in a field, expected at most {MOST_CHARACTERS:,}; shorten it"
            )
        questions.append(Question(**fields | {"language": "" if item.language == UNKNOWN_LANGUAGE else item.language}))
    if not questions:
        raise InputError(f"{name}: holds no question")
    return questions


def to_jsonl(questions: list[Question]) -> str:
    """The file that a workspace keeps in tasks/."""
    rows = ({key: value for key in _FIELDS if (value := getattr(question, key))} for question in questions)
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
