"""Answers side by side: the panel that Start, Merge and Compare share, and the choice of a question."""

from __future__ import annotations

import html
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import streamlit as st

from maet_core.evaluation import is_right
from maet_core.studio import resources, state
from maet_core.workspace import Question, short_name

if TYPE_CHECKING:
    from maet_core.generation import Answer, Speaker

LANGUAGE_NAMES = {
    "en": "English",
    "sw": "Swahili",
    "bn": "Bengali",
    "te": "Telugu",
    "th": "Thai",
    "zh": "Chinese",
    "ja": "Japanese",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "ru": "Russian",
    "hi": "Hindi",
}
ENOUGH_FOR_SPEED = 8
_ENDS = {"end": "", "length": "cut at the length limit", "stopped": "stopped"}


@dataclass(frozen=True)
class Slot:
    """One column: its heading, what is in it (a signature that changes with its weights), and how to get the model."""

    label: str
    note: str
    signature: Any
    speaker: Callable[[], Speaker]


def base_slot(recipe) -> Slot:
    return checkpoint_slot(recipe.base, "Base")


def checkpoint_slot(path: str, label: str = "") -> Slot:
    label = label or short_name(path)
    return Slot(label, path, path, lambda: resources.speaker(path, label))


def merged_slot(recipe) -> Slot:
    note = " + ".join([short_name(recipe.base), *recipe.abilities, *recipe.languages])
    return Slot("Merged", note, recipe, lambda: resources.live_speaker(recipe, "Merged"))


def panel(
    key: str, slots: list[Slot], question: Question, decoding, *, ask: bool, on_done: Callable | None = None
) -> None:
    """Draws one column a slot. With `ask` the models answer now, all at once; otherwise what they said last is shown.

    What was said is kept as it comes, so that Stop, or any other interruption, loses nothing.
    """
    signature = _signature(slots, question, decoding)
    kept = st.session_state.setdefault("_answers", {})
    if ask or key not in kept or kept[key]["slots"] != [slot.label for slot in slots]:
        kept[key] = {"slots": [slot.label for slot in slots], "answers": {}, "signature": signature if ask else None}
    store = kept[key]
    current = store["signature"] == signature
    places = []
    for slot, column in zip(slots, st.columns(len(slots)), strict=True):
        with column.container(border=True):
            st.html(
                f"<div class='maet-slot'><b>{html.escape(slot.label)}</b> <span>{html.escape(slot.note)}</span></div>"
            )
            places.append(st.empty())
    drawn = dict(zip((slot.label for slot in slots), places, strict=True))
    for label, place in drawn.items():
        _draw(place, store["answers"].get(label), question, running=ask, outdated=not current)
    if not ask:
        return
    _stream(slots, question, decoding, store, drawn)
    if on_done:
        on_done()


def panel_auto(key: str, slots: list[Slot], question: Question) -> None:
    """The panel without a button: the models answer by themselves whenever question or weights are new."""
    from maet_core.generation import Decoding

    decoding = Decoding(max_new_tokens=96)
    panel(key, slots, question, decoding, ask=not is_answered(key, slots, question, decoding))


def is_answered(key: str, slots: list[Slot], question: Question, decoding) -> bool:
    """Whether all slots have finished answering exactly this, with these weights."""
    store = st.session_state.get("_answers", {}).get(key)
    if store is None or store["signature"] != _signature(slots, question, decoding):
        return False
    return all((answer := store["answers"].get(slot.label)) and answer.finished for slot in slots)


def _signature(slots: list[Slot], question: Question, decoding) -> tuple:
    return question.prompt, decoding, tuple(slot.signature for slot in slots)


def _stream(slots: list[Slot], question: Question, decoding, store: dict, drawn: dict) -> None:
    from maet_core.generation import stream

    speakers = []
    for slot in slots:
        speaker = slot.speaker()
        speakers.append(replace(speaker, label=slot.label))
    with closing(stream(speakers, question.prompt, decoding)) as answers:
        for answer in answers:
            store["answers"][answer.label] = answer
            _draw(drawn[answer.label], answer, question, running=True)


def _draw(place, answer: Answer | None, question: Question, running: bool = False, outdated: bool = False) -> None:
    if answer is None:
        text = "…" if running else "Not asked yet."
        place.html(f"<div class='maet-answer waiting'>{text}</div><div class='maet-foot'>&nbsp;</div>")
        return
    if answer.finished == "error":
        place.error(answer.error, icon=":material/error:")
        return
    speaking = running and not answer.finished
    caret = "<span class='caret'></span>" if speaking else ""
    body = html.escape(answer.text.strip()) or ("" if speaking else "<i>(no words)</i>")
    faded = " waiting" if outdated else ""
    foot = "".join(
        f"<span class='{kind}'>{html.escape(text)}</span>" for kind, text in _foot(answer, question, speaking)
    )
    place.html(f"<div class='maet-answer{faded}' dir='auto'>{body}{caret}</div><div class='maet-foot'>{foot}</div>")


def _foot(answer: Answer, question: Question, speaking: bool) -> list[tuple[str, str]]:
    lines = []
    if not speaking:
        right = is_right(answer.text, question.answer) if question.answer else None
        if right is not None:
            lines.append(
                ("right", f"✓ right: {question.answer}") if right else ("wrong", f"✗ wrong, expected {question.answer}")
            )
        end = _ENDS.get(answer.finished or "stopped", answer.finished)
        if end:
            lines.append(("end", end))
    speed = f" · {answer.tokens_per_second:.0f} tokens/s" if answer.tokens >= ENOUGH_FOR_SPEED else ""
    lines.append(("speed", f"{answer.tokens} tokens{speed}"))
    return lines


def language_name(code: str) -> str:
    return LANGUAGE_NAMES.get(code, code)


def pool() -> list[Question]:
    """Questions to choose from: the pinned ones, and the test part where a task has parts."""
    rows = resources.questions()
    return [row for row in rows if row.pinned or row.split in ("", "test")] or rows


def default_question(language: str | None = None) -> Question | None:
    """The pinned row, else the first, of the wanted language, else of one that the recipe merges in."""
    rows = pool()
    wanted = [language] if language else [*(state.recipe().languages if state.recipe() else ()), None]
    for code in wanted:
        of_language = [row for row in rows if code is None or row.language == code]
        if of_language:
            return next((row for row in of_language if row.pinned), of_language[0])
    return rows[0] if rows else None


def choose_question(key: str) -> Question | None:
    """Widgets that choose a question by language and number, or take a typed one. None while nothing is typed."""
    rows = pool()
    first = default_question()
    languages = list(dict.fromkeys(row.language for row in rows))
    row = st.container(horizontal=True, vertical_alignment="bottom")
    typed_option = "typed"
    options = [*languages, typed_option]
    with row:
        language = st.segmented_control(
            "Question in",
            format_func=lambda code: "Your own" if code == typed_option else language_name(code),
            required=True,
            **state.bound_view(f"{key}-language", options, "language", first.language if first else typed_option),
        )
    if language == typed_option or not rows:
        return _typed(key, first)
    asked = [row for row in rows if row.language == language]
    problems = [row.problem for row in asked]
    start = next((row.problem for row in asked if row.pinned), problems[0])
    problem = state.view("problem", start)
    number = problems.index(problem) + 1 if problem in problems else 1

    def move(wanted: int) -> None:
        state.set_view("problem", problems[min(max(wanted, 1), len(problems)) - 1])

    with row:
        number = st.number_input(
            f"Number (of {len(asked)})", 1, len(asked), width=150, **state.bound(f"{key}-number", number, move)
        )
    return asked[number - 1]


def show_question(question: Question) -> None:
    gloss = f"<div class='maet-gloss'>{html.escape(question.gloss)}</div>" if question.gloss else ""
    language = f" lang='{html.escape(question.language, quote=True)}'" if question.language else ""
    st.html(f"<div class='maet-question'{language} dir='auto'>{html.escape(question.question)}</div>{gloss}")


def _typed(key: str, like: Question | None) -> Question | None:
    text = st.text_area(
        "Your question",
        max_chars=2000,
        height=90,
        placeholder="Ask in any language that the models know.",
        **state.bound(
            f"{key}-typed", state.view("typed", ""), lambda entered: state.set_view("typed", entered.strip() or None)
        ),
    ).strip()
    if not text:
        return None
    return like.like(text) if like else Question("typed", "", text, text)
