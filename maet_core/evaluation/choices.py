"""Where a row of a multiple-choice file keeps its choices, and which of them is right.

Known layouts: `choices` or `options` with an index, letter or text as answer (also ARC's {text, label}); columns A, B, C, D with
a letter (MMMLU); mc_answer1 … with correct_answer_num (Belebele); choice1, choice2 with label (XCOPA).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from maet_core.errors import InputError

_KEYS = ("answer", "label", "answerkey", "gold", "target", "correct_answer_num")
_COLUMNS = (
    [f"mc_answer{i}" for i in range(1, 9)],
    [f"choice{i}" for i in range(1, 9)],
    [f"option_{letter}" for letter in "abcdefgh"],
    list("abcdefgh"),
)


def find_choices(fields: Mapping[str, Any], where: str) -> tuple[tuple[str, ...], int] | None:
    """(choices, index of the right one); None for a row without choices. Raises InputError for a key that fits none."""
    labels: Sequence[str] = ()
    stored = fields.get("choices", fields.get("options"))
    first = 0
    if isinstance(stored, Mapping):
        choices, labels = [str(text) for text in stored["text"]], [str(label) for label in stored["label"]]
    elif isinstance(stored, (list, tuple)) or hasattr(stored, "tolist"):
        choices = [str(text) for text in list(stored)]
    else:
        names = next((columns for columns in _COLUMNS if all(fields.get(name) for name in columns[:2])), None)
        if names is None:
            return None
        choices = [str(fields[name]) for name in names if fields.get(name) not in (None, "")]
        first = 1 if names[0] == "mc_answer1" else 0
    key = next((fields[name] for name in _KEYS if fields.get(name) not in (None, "")), None)
    index = _index(key, choices, labels, first)
    if index is None or len(choices) < 2:
        raise InputError(
            f"{where}: the answer {key!r} is none of the {len(choices)} choices; give its index, letter or text"
        )
    return tuple(choices), index


def _index(key: Any, choices: Sequence[str], labels: Sequence[str], first: int) -> int | None:
    text = str(key).strip()
    if text in labels:
        return list(labels).index(text)
    if text in choices:
        return list(choices).index(text)
    if text.isdecimal() and 0 <= int(text) - first < len(choices):
        return int(text) - first
    if len(text) == 1 and text.upper().isalpha() and 0 <= ord(text.upper()) - ord("A") < len(choices):
        return ord(text.upper()) - ord("A")
    return None
