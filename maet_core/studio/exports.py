"""Answers to take along: to copy, as JSONL or CSV, and as a link to the same screen."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import asdict
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import streamlit as st

from maet_core.studio import answers
from maet_core.studio.slots import Slot
from maet_core.workspace import Question

if TYPE_CHECKING:
    from maet_core.generation import Answer, Decoding


def record(slot: Slot, question: Question, decoding: Decoding, answer: Answer) -> dict:
    """One answer with all that it takes to get it again."""
    return {
        "id": question.id,
        "language": question.language,
        "question": question.question,
        "gloss": question.gloss,
        "prompt": question.prompt,
        "expected": question.answer,
        "model": slot.label,
        "answer": answer.text,
        "right": answers.verdict(answer, question),
        "finished": answer.finished or "stopped",
        "tokens": answer.tokens,
        "seconds": round(answer.seconds, 3),
        "decoding": asdict(decoding),
        **slot.source(),
    }


def menu(key: str, rows: list[dict]) -> None:
    """A popover with the ways out; the link is there even where there is no answer yet."""
    with st.popover("Share", icon=":material/ios_share:", help="Copy, export, or link to this screen"):
        st.caption("Link to this screen")
        st.code(_link(), language=None, wrap_lines=True)
        if not rows:
            st.caption("Answers can be copied and exported once there are some.")
            return
        st.caption("Answers, to copy")
        st.code(_text(rows[:8]), language=None, wrap_lines=True, height=160)
        with st.container(horizontal=True):
            _download("JSONL", to_jsonl(rows), f"{key}.jsonl", "application/jsonl", key)
            _download("CSV", to_csv(rows), f"{key}.csv", "text/csv", key)


def to_jsonl(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def to_csv(rows: list[dict]) -> str:
    """A table for spreadsheets. What a spreadsheet would take for a formula gets an apostrophe in front, as text has there."""
    import pandas as pd

    flat = [
        {name: _cell(value if not isinstance(value, dict) else json.dumps(value)) for name, value in row.items()}
        for row in rows
    ]
    return pd.DataFrame(flat).to_csv(index=False)


def _cell(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def _download(label: str, text: str, name: str, mime: str, key: str) -> None:
    st.download_button(label, text, name, mime, icon=":material/download:", key=f"{key}-{label}", on_click="ignore")


def _text(rows: list[dict]) -> str:
    lines, before = [], None
    for row in rows:
        if row["question"] != before:
            lines += ["", row["question"], *([row["gloss"]] if row["gloss"] else [])]
            before = row["question"]
        mark = {True: " ✓", False: " ✗", None: ""}[row["right"]]
        lines.append(f"{row['model']}: {row['answer'].strip()}{mark}")
    return "\n".join(lines[1:])


def _link() -> str:
    query = urlencode(st.query_params.to_dict())
    return f"{(st.context.url or '').partition('?')[0]}?{query}"
