"""Files that a person takes along."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    import pandas as pd


def button(label: str, make: Callable[[], str | bytes], name: str, mime: str, key: str, **looks) -> None:
    """A button that saves a file. `make` runs when it is pressed: nothing is prepared, or kept, that nobody asks for."""
    st.download_button(label, make, name, mime, key=key, on_click="ignore", **looks)


def csv_button(table: Callable[[], pd.DataFrame], name: str) -> None:
    """The table behind a view."""
    button(
        "Table as CSV",
        lambda: csv_text(table()).encode("utf-8-sig"),  # the mark lets a spreadsheet read every script
        f"{name}.csv",
        "text/csv",
        f"{name}-csv",
        type="tertiary",
        icon=":material/download:",
    )


def csv_text(table: pd.DataFrame) -> str:
    """A text that begins like a formula gets an apostrophe, so that no spreadsheet runs it."""
    return table.map(_safe).to_csv(index=False)


def jsonl_text(rows: Iterable[dict]) -> str:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _safe(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value
