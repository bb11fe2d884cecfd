"""Models side by side on one question, streamed at the same time, with the same decoding."""

import functools

import streamlit as st

from maet_core.studio import answers, resources, shell, state
from maet_core.workspace import short_name

shell.guard()

MOST_MODELS = 4
BASE, MERGED = "base", "merged"
# name in the view: lowest, highest, default
DECODING = {"length": (1, 1024, 96), "temperature": (0.0, 2.0, 0.0), "seed": (0, 2**31 - 1, 0)}


def choose_slots(recipe) -> list[answers.Slot]:
    base = resources.model_entry(recipe.base)
    others = [
        entry.path
        for entry in resources.models()
        if entry.kind == "checkpoint" and entry.path != recipe.base and base and not resources.misfit(base, entry)
    ]
    options = [BASE, MERGED, *others]
    names = {BASE: f"Base ({short_name(recipe.base)})", MERGED: "Merged (live)"}
    chosen = [path for path in state.view("models", [BASE, MERGED]) if path in options]

    picked = st.multiselect(
        f"Models (up to {MOST_MODELS})",
        options,
        **state.bound("compare-models", chosen, lambda paths: state.set_view("models", paths)),
        max_selections=MOST_MODELS,
        format_func=lambda path: names.get(path, short_name(path)),
    )
    build = {BASE: lambda: answers.base_slot(recipe), MERGED: lambda: answers.merged_slot(recipe)}
    return [build[path]() if path in build else answers.checkpoint_slot(path) for path in picked]


def choose_decoding():
    from maet_core.generation import Decoding

    length, heat, seed = (setting(name) for name in DECODING)
    kind = "greedy" if heat == 0 else f"temperature {heat:g}"
    with st.popover(
        f"{kind}, at most {length} tokens", icon=":material/settings:", help="The same decoding for all models"
    ):
        number("Longest answer (tokens)", "length", 16)
        number("Temperature (0 is greedy)", "temperature", 0.1)
        number("Seed", "seed", 1)
    return Decoding(int(length), float(heat), seed=int(seed))


def setting(name: str) -> float:
    low, high, default = DECODING[name]
    value = state.view(name, default)
    return value if low <= value <= high else default


def number(label: str, name: str, step: float) -> None:
    low, high, _ = DECODING[name]
    bound = state.bound(f"compare-{name}", setting(name), lambda value: state.set_view(name, value))
    st.number_input(label, low, high, step=step, **bound)


def begin() -> None:
    state.acted()
    st.session_state["_compare_ask"] = True


shell.title("Compare", "The same question, the same decoding, several models at once.")
recipe = shell.need_recipe()
slots = choose_slots(recipe)
question = answers.choose_question("compare")
if question:
    answers.show_question(question)
with st.container(horizontal=True):
    button = st.empty()
    decoding = choose_decoding()
if not slots:
    st.info("Choose at least one model above.")
elif question is None:
    st.info("Type a question above; all models will get it at once.")
else:
    # The flag, not the button's own value: two keys stand for this button, one before and one after an answer.
    ask = st.session_state.pop("_compare_ask", False)
    ask_button = functools.partial(
        button.button,
        "Ask all models",
        type="primary",
        icon=":material/play_arrow:",
        on_click=begin,
    )
    if ask:
        # A click on Stop reruns the page, which ends the stream at its next word; what was said is kept.
        button.button("Stop", key="compare-stop", icon=":material/stop:", on_click=state.acted)
    else:
        ask_button(key="compare-ask")
    answers.panel("compare", slots, question, decoding, ask=ask)
    if ask:
        ask_button(key="compare-again")
