"""Answers to take along: to copy, as JSONL or CSV, and as a link to the same screen."""

from __future__ import annotations

import json
from dataclasses import asdict
from urllib.parse import urlencode

import streamlit as st

from maet_core.conversation import Answer, Decoding
from maet_core.evaluation.questions import Question
from maet_core.studio import answers, files
from maet_core.studio.slots import Slot


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
            icon = ":material/download:"
            files.button(
                "JSONL",
                lambda: files.jsonl_text(rows),
                f"{key}.jsonl",
                "application/jsonl",
                f"{key}-JSONL",
                icon=icon,
            )
            files.button("CSV", lambda: to_csv(rows), f"{key}.csv", "text/csv", f"{key}-CSV", icon=icon)


def to_csv(rows: list[dict]) -> str:
    """A table for spreadsheets; what is nested stands in a cell as JSON."""
    import pandas as pd

    flat = [
        {name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()} for row in rows
    ]
    return files.csv_text(pd.DataFrame(flat))


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
