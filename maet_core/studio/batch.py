"""Many questions down, models across: who is right where, the wrong ones first."""

from __future__ import annotations

import html

import streamlit as st

from maet_core.conversation import Answer, Decoding
from maet_core.evaluation.questions import Question
from maet_core.evaluation.statistics import wilson
from maet_core.studio import answers, charts, entries, exports, filling, limits, state
from maet_core.studio.questions import lang
from maet_core.studio.slots import Slot

QUESTIONS = 20
_NAME = "many"


def batch(key: str, slots: list[Slot], questions: list[Question], decoding: Decoding) -> None:
    """Asks the first of `questions` one after the other, each of all models at once."""
    most = min(limits.current().questions_at_once, len(questions))
    count = min(max(state.view(_NAME, QUESTIONS), 1), most)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        count = st.number_input(
            "How many questions",
            1,
            most,
            width=150,
            **state.bound(f"{key}-count", count, lambda value: state.set_view(_NAME, value)),
        )
        above = st.container(horizontal=True)
    asked = questions[:count]
    # the questions are no part of it: more of them only add to what is there
    work = filling.filling(key, (decoding, tuple(slot.signature for slot in slots)))
    cells = [(question.id, question.prompt, slot.label) for question in asked for slot in slots]
    done = sum(cell in work.answers for cell in cells)
    with above:
        filling.buttons(key, work, done, len(cells), f"Ask {count} questions")
        exports.menu(key, _records(slots, asked, decoding, work))
    head, table = st.empty(), st.empty()
    running = work.running and done < len(cells)
    _draw(head, table, slots, asked, work, running)
    if not running:
        work.running = False
        return
    for question in asked:
        missing = [slot for slot in slots if (question.id, question.prompt, slot.label) not in work.answers]
        for answer in answers.said(missing, question, decoding) if missing else ():
            if work.take((question.id, question.prompt, answer.label), answer):
                _draw(head, table, slots, asked, work, True)
    work.running = False
    entries.draw_again()


def _records(slots: list[Slot], asked: list[Question], decoding: Decoding, work: filling.Filling) -> list[dict]:
    return [
        exports.record(slot, question, decoding, answer)
        for question in asked
        for slot in slots
        if (answer := work.answers.get((question.id, question.prompt, slot.label)))
    ]


def _draw(head, table, slots: list[Slot], asked: list[Question], work: filling.Filling, running: bool) -> None:
    if not work.answers and not running:
        head.info("Each question goes to all models at once; what they get wrong comes first when all have answered.")
        table.empty()
        return
    rows = [
        (question, [work.answers.get((question.id, question.prompt, s.label)) for s in slots]) for question in asked
    ]
    done = sum(answer is not None for _, row in rows for answer in row)
    with head.container():
        if running:
            total = len(rows) * len(slots)
            st.progress(done / total, f"{done} of {total} answers")
        _scores(slots, rows)
    if not running:
        rows = sorted(rows, key=_wrong_first)
    table.html(_table(slots, rows))


def _scores(slots: list[Slot], rows: list[tuple[Question, list[Answer | None]]]) -> None:
    pairs = []
    for i, slot in enumerate(slots):
        verdicts = [answers.verdict(row[i], question) for question, row in rows if row[i] is not None]
        known = [verdict for verdict in verdicts if verdict is not None]
        if known:
            low, high = (f"{100 * end:.0f}" for end in wilson(sum(known), len(known)))
            pairs.append((f"{sum(known)} of {len(known)}", f"{slot.label} ({low}–{high} %)"))
    if pairs:
        charts.numbers(*pairs)
        st.caption("Right answers, and the 95 % interval of the share.")


def _wrong_first(row: tuple[Question, list[Answer | None]]) -> tuple[int, int]:
    question, found = row
    verdicts = [answers.verdict(answer, question) if answer else None for answer in found]
    return -verdicts.count(False), verdicts.count(None)


def _table(slots: list[Slot], rows: list[tuple[Question, list[Answer | None]]]) -> str:
    heads = "".join(f"<th scope='col'>{html.escape(slot.label)}</th>" for slot in slots)
    lines = "".join(
        f"<tr role='row'><th scope='row' role='rowheader'><span{lang(question)} dir='auto'>{html.escape(question.question)}</span>"
        f"{f'<small lang=en>{html.escape(question.gloss)}</small>' if question.gloss else ''}</th>"
        f"<td role='cell' data-of='expected'>{html.escape(question.answer)}</td>"
        f"{''.join(_cell(slot, answer, question) for slot, answer in zip(slots, found, strict=True))}</tr>"
        for question, found in rows
    )
    # the roles are said once more for a phone, where CSS makes a card of every row and takes them away
    return (
        "<div class='maet-table' tabindex='0' role='region' aria-label='Answers by question and model'><table role='table'>"
        f"<thead><tr><th scope='col'>Question</th><th scope='col'>Expected</th>{heads}</tr></thead>"
        f"<tbody role='rowgroup'>{lines}</tbody></table></div>"
    )


def _cell(slot: Slot, answer: Answer | None, question: Question) -> str:
    begin = f"<td role='cell' data-of='{html.escape(slot.label, quote=True)}'"
    if answer is None:
        return f"{begin} class='none'>…</td>"
    if answer.finished == "error":
        return f"{begin} class='wrong'>{html.escape(answer.error)}</td>"
    right = answers.verdict(answer, question)
    kind, mark, says = {True: ("right", "✓", "right"), False: ("wrong", "✗", "wrong"), None: ("", "", "")}[right]
    sign = f"<i class='{kind}' role='img' aria-label='{says}'>{mark}</i> " if mark else ""
    return f"{begin}>{sign}<span{lang(question)} dir='auto'>{answers.marked(answer.text.strip(), right) or '(no words)'}</span></td>"
