"""Texts of the workspace that a model can read: task questions with their answers, by language, and corpora."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

import streamlit as st

from maet_core.progress import Progress
from maet_core.studio import questions, resources, state, waiting

MOST_TEXTS = 2000
_CORPORA = (".txt", ".jsonl", ".parquet")


@dataclass(frozen=True)
class Texts:
    """`id` goes into links: `task:sw` or `corpus:lang-sw.txt`. `language` is empty where it is not known."""

    id: str
    title: str
    language: str = ""


def choices() -> list[Texts]:
    """Questions first, then corpora; empty in a workspace that has neither."""
    languages = dict.fromkeys(row.language for row in questions.pool())
    found = [Texts(f"task:{code}", f"Questions in {questions.language_name(code)}", code) for code in languages]
    files = sorted((resources.workspace().path / "corpora").iterdir())
    return found + [Texts(f"corpus:{file.name}", f"corpora/{file.name}") for file in files if file.suffix in _CORPORA]


def pairs(texts: Texts, count: int) -> list[tuple[str, str]]:
    """The first `count` (prompt, answer); the prompt is empty for plain text."""
    kind, _, name = texts.id.partition(":")
    if kind == "corpus":
        return _corpus(name, min(count, MOST_TEXTS))
    rows = [row for row in questions.pool() if row.language == name]
    return [(row.prompt, f" {row.worked or row.answer}") for row in rows[:count]]


def _corpus(name: str, count: int) -> list[tuple[str, str]]:
    relative = f"corpora/{name}"
    path = resources.workspace().resolve(relative)

    def work(progress: Progress) -> list[tuple[str, str]]:
        progress("starting the reader", 0, count)
        from maet_core.corpora import read_corpus

        found = []
        for text in islice(read_corpus(path), count):
            progress(f"reading {name}", len(found), count)
            found.append(text)
        return found

    return waiting.shared("corpus", (str(path), resources.stamp(relative), count), work, f"Reading {relative}", 8)


def choose(key: str, options: list[Texts]) -> Texts:
    """A menu of texts; every page that has one shows the same choice."""
    by_id = {texts.id: texts for texts in options}
    chosen = st.selectbox(
        "Texts",
        format_func=lambda id: by_id[id].title,
        width=280,
        **state.bound_view(key, list(by_id), "texts", options[0].id),
    )
    return by_id[chosen]
