"""Answers without names: which is best is said before it is told whose it is. Votes are kept in the workspace."""

from __future__ import annotations

import random
import secrets
from collections import Counter
from dataclasses import asdict

import pandas as pd
import streamlit as st

from maet_core.conversation import Answer, Decoding
from maet_core.evaluation.questions import Question
from maet_core.evaluation.statistics import wilson
from maet_core.notebook import Notebook
from maet_core.studio import files, questions, resources, shell
from maet_core.studio.slots import Slot

LETTERS = "ABCD"
EQUAL, NONE = "equal", "none"
_BLIND = "_blind"


def notebook() -> Notebook:
    return Notebook(resources.workspace(), "votes")


def shuffled(slots: list[Slot], question: Question, decoding: Decoding) -> list[Slot]:
    """The slots in an order that is drawn anew for every question, and stays until the vote."""
    signature = (question.prompt, decoding, tuple(slot.signature for slot in slots))
    kept = st.session_state.get(_BLIND)
    if kept is None or kept["signature"] != signature:
        order = list(range(len(slots)))
        random.Random(secrets.token_bytes(8)).shuffle(order)
        kept = st.session_state[_BLIND] = {"signature": signature, "order": order, "vote": None}
    return [slots[i] for i in kept["order"]]


def voted() -> str | None:
    """What was said about the answers on the screen; None while they have no names."""
    return (st.session_state.get(_BLIND) or {}).get("vote")


def ballot(slots: list[Slot], rows: list[Question], decoding: Decoding, said: dict[str, Answer]) -> None:
    """The buttons under the answers; after the vote who was who, and the next question."""
    choice = voted()
    if choice is not None:
        names = ", ".join(f"{letter} is {slot.label}" for letter, slot in zip(LETTERS, slots, strict=False))
        kept = "not kept in a demonstration" if resources.workspace().read_only else "kept"
        st.success(f"Your vote is {kept}. {names}.", icon=":material/how_to_vote:")
        if len(rows) > 1:
            st.button("Next question", type="primary", key="blind-next", on_click=_next, args=(rows,))
        return
    ready = all((answer := said.get(slot.label)) and answer.finished for slot in slots)
    options = {letter: f"{letter} is best" for letter in LETTERS[: len(slots)]}
    options |= {EQUAL: "Equally good", NONE: "None is good"}
    with st.container(horizontal=True, key="blind-ballot"):
        for option, label in options.items():
            cast = shell.guarded(lambda option=option: _cast(option, slots, rows[0], decoding, said))
            st.button(label, key=f"blind-{option}", disabled=not ready, on_click=cast)


def _cast(option: str, slots: list[Slot], question: Question, decoding: Decoding, said: dict[str, Answer]) -> None:
    if voted() is not None:
        return  # a second click that overtook the page
    letters = dict(zip(LETTERS, slots, strict=False))
    vote = {
        "question": question.question,
        "question_id": question.id,
        "language": question.language,
        "decoding": asdict(decoding),
        "models": [
            {"model": slot.model, **slot.source(), "answer": said[slot.label].text} for slot in letters.values()
        ],
        "best": letters[option].model if option in letters else None,
        "vote": "best" if option in letters else option,
    }
    if not resources.workspace().read_only:
        notebook().add(vote)
    st.session_state[_BLIND]["vote"] = option


def _next(rows: list[Question]) -> None:
    questions.next_question(rows)
    st.session_state["_compare_ask"] = True


def tally(votes: list[dict]) -> pd.DataFrame:
    """By model: in how many votes it stood, how often it was the best, that share in percent with its 95 % interval (Wilson)."""
    stood, best = Counter(), Counter()
    for vote in votes:
        for model in vote.get("models", ()):
            stood[model["model"]] += 1
        if vote.get("best"):
            best[vote["best"]] += 1
    rows = []
    for model, n in stood.items():
        low, high = wilson(best[model], n)
        rows.append((model, n, best[model], 100 * best[model] / n, f"{100 * low:.0f}–{100 * high:.0f} %"))
    table = pd.DataFrame(rows, columns=["model", "votes", "best", "share", "95 % interval"])
    return table.sort_values("share", ascending=False, ignore_index=True)


def show_tally() -> None:
    votes = notebook().rows()
    if not votes:
        st.caption("Votes are kept in the workspace (notebook/votes.jsonl), and counted here.")
        return
    equal, none = (sum(vote.get("vote") == kind for vote in votes) for kind in (EQUAL, NONE))
    counted = f"{len(votes)} vote{'s' if len(votes) > 1 else ''}"
    with st.expander(f"{counted} so far, {equal} of them “equally good”, {none} “none is good”"):
        st.dataframe(
            tally(votes),
            hide_index=True,
            width="stretch",
            column_config={"share": st.column_config.NumberColumn("best in", format="%.0f %%")},
        )
        st.caption(
            "A model is the same as long as its recipe is; the short code behind its name stands for the recipe."
        )
        files.button(
            "Votes as JSONL",
            lambda: files.jsonl_text(votes),
            "votes.jsonl",
            "application/jsonl",
            "votes-jsonl",
            icon=":material/download:",
        )
