"""Models side by side on the same questions, streamed at the same time, with the same decoding."""

import streamlit as st

from maet_core.studio import (
    answers,
    batch,
    blind,
    decoding,
    entries,
    exports,
    limits,
    questions,
    shell,
    slots,
    state,
    waiting,
)

shell.guard()

ONE, BLIND, MANY = "one", "blind", "many"
MODES = {ONE: "One question", BLIND: "Blind, with votes", MANY: "Many questions"}


def choose_slots(recipe) -> list[slots.Slot]:
    offered, most = slots.offered(recipe), limits.current().models_at_once
    chosen = [name for name in state.view("models", ["base", "merged"]) if name in offered][:most]
    picked = st.multiselect(
        f"Models (up to {most})",
        list(offered),
        **state.bound("compare-models", chosen, lambda names: state.set_view("models", names)),
        max_selections=most,
        format_func=lambda name: offered[name][0] if name in offered else name,
    )
    return slots.distinct([offered[name][1]() for name in picked[:most] if name in offered])


def begin() -> None:
    entries.acted()
    waiting.begin_again()
    st.session_state["_compare_ask"] = True


def one(chosen, rows, how, button, veil: bool) -> None:
    """All models on the first of the questions; with `veil` their names are hidden until the vote."""
    question = rows[0]
    if veil:
        chosen = blind.shuffled(chosen, question, how)
    hidden = [f"Answer {letter}" for letter in blind.LETTERS] if veil and blind.voted() is None else ()
    ask = st.session_state.pop("_compare_ask", False)
    # One key for both: another button would stand beside the old one until the last word. A click on Stop reruns the page, which
    # ends the stream at its next word; what was said is kept.
    with button:
        if ask:
            st.button("Stop", key="compare-ask", icon=":material/stop:", on_click=entries.acted)
        else:
            st.button("Ask all models", key="compare-ask", type="primary", icon=":material/play_arrow:", on_click=begin)
    # answers of their own, or a look at the other mode would tell whose they are
    said = answers.panel("compare-blind" if veil else "compare", chosen, question, how, ask=ask, veiled=hidden)
    if ask:
        entries.draw_again()
    if veil:
        blind.ballot(chosen, rows, how, said)
        blind.show_tally()
    found = [(slot, said[slot.label]) for slot in chosen if slot.label in said]
    with share:
        exports.menu(
            "compare", [] if hidden else [exports.record(slot, question, how, answer) for slot, answer in found]
        )


shell.title("Compare", "The same question, the same decoding, several models at once.")
recipe = shell.need_recipe()
chosen = choose_slots(recipe)
mode = st.segmented_control(
    "Ask",
    format_func=MODES.get,
    required=True,
    label_visibility="collapsed",
    **state.bound_view("compare-mode", list(MODES), "mode", ONE),
)
rows = questions.choose_rows("compare", files=True, number="From number" if mode == MANY else "Number")
if rows and mode != MANY:
    questions.show_question(rows[0])
with st.container(horizontal=True):
    button = st.container(width="content")
    how = decoding.choose_decoding("compare")
    share = st.container(width="content")
if not chosen:
    st.info("Choose at least one model above.")
elif not rows:
    st.info("Type a question or choose a file above; all models will get it at once.")
elif mode == MANY:
    batch.batch("compare-many", chosen, rows, how)
elif mode == BLIND and len(chosen) < 2:
    st.info("A vote needs two models or more; choose another one above.")
else:
    one(chosen, rows, how, button, veil=mode == BLIND)
