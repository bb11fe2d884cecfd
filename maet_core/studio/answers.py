"""Answers side by side: the panel that all pages share, streamed by all models at once."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import replace

import streamlit as st

from maet_core.conversation import Answer, Decoding
from maet_core.errors import InputError
from maet_core.evaluation import is_right, stated
from maet_core.evaluation.questions import Question
from maet_core.studio import limits, waiting
from maet_core.studio.questions import lang
from maet_core.studio.slots import Slot

ENOUGH_FOR_SPEED = 8
READING_SECONDS = 0.4
MARK = "####"  # before the final answer, as in GSM8K
_ENDS = {"end": "", "length": "cut at the length limit", "stopped": "stopped"}


def panel(
    key: str,
    slots: list[Slot],
    question: Question,
    decoding: Decoding,
    *,
    ask: bool,
    veiled: Sequence[str] = (),
    to_read: Callable[[], None] | None = None,
) -> dict[str, Answer]:
    """Draws one column a slot. With `ask` the models answer now, all at once; otherwise what they said last is shown.

    What was said is kept as it comes, so that Stop, or any other interruption, loses nothing; it is returned by label. `veiled`
    are headings that stand for the slots' own; what could sway a vote or give a model away is hidden with them: whether the
    answer is right, its length and speed, and which model had to wait. So these answers come together, when all are there.
    `to_read` is called once, when there is something to read: all has been said, or the words of every slot have been growing for
    a moment.
    """
    signature = _signature(slots, question, decoding)
    kept = st.session_state.setdefault("_answers", {})
    if ask or key not in kept or kept[key]["slots"] != [slot.label for slot in slots]:
        before = _before(kept.get(key), question) if to_read else {}
        kept[key] = {
            "slots": [slot.label for slot in slots],
            "answers": {},
            "before": before,
            "signature": signature if ask else None,
        }
    store = kept[key]
    current = store["signature"] == signature
    places = {}
    for i, (slot, column) in enumerate(zip(slots, st.columns(len(slots)), strict=True)):
        label, note = (veiled[i], "") if veiled else (slot.label, slot.note)
        with column.container(border=True):
            st.html(f"<div class='maet-slot'><b>{html.escape(label)}</b> <span>{html.escape(note)}</span></div>")
            places[slot.label] = st.empty()

    def draw_all(running: bool) -> None:
        open_ = not veiled or _all_finished(store["answers"], slots)
        for label, place in places.items():
            answer = store["answers"].get(label) if open_ else None
            _draw(place, answer, question, running=running, outdated=not current, veiled=bool(veiled))

    draw_all(running=ask)
    for label in places.keys() & store["before"].keys() if ask else ():
        _draw(places[label], store["before"][label], question, outdated=True)
    try:
        for answer in said(slots, question, decoding) if ask else ():
            store["answers"][answer.label] = answer
            if veiled:
                if _all_finished(store["answers"], slots):
                    draw_all(running=False)
            elif answer.text or answer.finished or answer.waiting or answer.label not in store["before"]:
                _draw(places[answer.label], answer, question, running=True)
            if to_read and _is_to_read(store["answers"], slots):
                to_read()
                to_read = None
    except waiting.NotThere:
        draw_all(running=False)
    if to_read:
        to_read()
    return store["answers"] if current else {}


def _before(store: dict | None, question: Question) -> dict[str, Answer]:
    """What was said to this question last, faded, until there are new words: an answer that follows a slider must not flicker."""
    if store is None or not store["signature"] or store["signature"][0] != question.prompt:
        return {}
    return store["before"] | {label: answer for label, answer in store["answers"].items() if answer.text}


def _is_to_read(answers: dict[str, Answer], slots: list[Slot]) -> bool:
    found = [answers.get(slot.label) for slot in slots]
    return all(answer and (answer.finished or (answer.text and answer.seconds > READING_SECONDS)) for answer in found)


def panel_auto(key: str, slots: list[Slot], question: Question, to_read: Callable[[], None] | None = None) -> None:
    """The panel without a button: the models answer by themselves whenever question or weights are new.

    With `to_read`, for what a slider moves, the answer before stays, faded, until the new one has words.
    """

    decoding = Decoding(max_new_tokens=96)
    panel(key, slots, question, decoding, ask=not is_answered(key, slots, question, decoding), to_read=to_read)


def is_answered(key: str, slots: list[Slot], question: Question, decoding: Decoding) -> bool:
    """Whether all slots have finished answering exactly this, with these weights."""
    store = st.session_state.get("_answers", {}).get(key)
    if store is None or store["signature"] != _signature(slots, question, decoding):
        return False
    return _all_finished(store["answers"], slots)


def _all_finished(answers: dict[str, Answer], slots: list[Slot]) -> bool:
    return all((answer := answers.get(slot.label)) and answer.finished for slot in slots)


def said(slots: list[Slot], question: Question, decoding: Decoding):
    """What all slots say, as it comes; ending the iteration stops them. Raises Busy, and InputError for a question too long."""
    most = limits.current().question_characters
    if len(question.question) > most:
        raise InputError(
            f"the question has {len(question.question):,} characters, expected at most {most:,}; shorten it"
        )
    with limits.a_place():
        speakers = [replace(slot.speaker(), label=slot.label) for slot in slots]
        from maet_core.generation import stream  # torch is there by now

        with closing(stream(speakers, question.prompt, decoding)) as coming:
            yield from coming


def verdict(answer: Answer, question: Question) -> bool | None:
    """Whether a finished answer is right; None while it is not finished, and where nobody knows."""
    if not answer.finished or answer.finished == "error" or not question.answer:
        return None
    return is_right(answer.text, question.answer, question.language)


def _signature(slots: list[Slot], question: Question, decoding: Decoding) -> tuple:
    return question.prompt, decoding, tuple(slot.signature for slot in slots)


def _draw(
    place,
    answer: Answer | None,
    question: Question,
    running: bool = False,
    outdated: bool = False,
    veiled: bool = False,
) -> None:
    if answer is None or answer.waiting:
        text = "Getting ready …" if running else "Not asked yet."
        if veiled and running:
            text = "Being written. The answers are shown together."
        elif answer:  # only the merged model can be busy
            text = "This model is busy with another answer; yours comes next."
        place.html(f"<div class='maet-answer waiting'>{text}</div><div class='maet-foot'>&nbsp;</div>")
        return
    if answer.finished == "error":
        place.error("This model could not answer." if veiled else answer.error, icon=":material/error:")
        return
    speaking = running and not answer.finished
    silent = speaking or veiled
    right = None if silent else verdict(replace(answer, finished=answer.finished or "stopped"), question)
    caret = "<span class='caret'></span>" if speaking else ""
    body = marked(answer.text.strip(), right) or ("" if speaking else "<i>(no words)</i>")
    faded = " waiting" if outdated else ""
    foot = "".join(
        f"<span class='{kind}'>{html.escape(text)}</span>"
        for kind, text in _foot(answer, question, right, speaking, veiled)
    )
    place.html(
        f"<div class='maet-answer{faded}'{lang(question)} dir='auto'>{body}{caret}</div><div class='maet-foot'>{foot}</div>"
    )


def marked(text: str, right: bool | None) -> str:
    """The answer as HTML: the worked line, then the final answer in the colour of the verdict."""
    worked, mark, final = text.rpartition(MARK)
    if not mark or not final.strip():
        return html.escape(text)
    kind = {True: " right", False: " wrong", None: ""}[right]
    return f"{html.escape(worked.strip())} <b class='maet-final{kind}'>{html.escape(final.strip())}</b>"


def _foot(
    answer: Answer, question: Question, right: bool | None, speaking: bool, veiled: bool
) -> list[tuple[str, str]]:
    lines = []
    if not speaking:
        if right:
            lines.append(("right", f"✓ right: {question.answer}"))
        elif right is not None:
            instead = stated(answer.text, question.language) or "no answer"
            lines.append(("wrong", f"✗ wrong: {instead}, expected {question.answer}"))
        end = _ENDS.get(answer.finished or "stopped", answer.finished)
        if end:
            lines.append(("end", end))
    if not veiled:
        speed = f" · {answer.tokens_per_second:.0f} tokens/s" if answer.tokens >= ENOUGH_FOR_SPEED else ""
        lines.append(("speed", f"{answer.tokens} tokens{speed}"))
    return lines
