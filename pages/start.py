"""What a newcomer sees first: one question, answered by the base and by the merged model, and where to go from there."""

import streamlit as st

from maet_core.recipe import Recipe
from maet_core.studio import answers, charts, questions, resources, shell, slots, state, tour

shell.guard()

_STEPS = (
    ("models", "Models", "which checkpoints are combined, and whether they fit"),
    ("neurons", "Neurons", "where the ability sits in the model"),
    ("tensors", "Tensors", "which parts of the model it is added to"),
    ("merge", "Merge", "how much of each: move a slider, read the new answer, save"),
    ("compare", "Compare", "models side by side on any question"),
    ("evaluate", "Evaluate", "how often each is right, and whether it is more than luck"),
)


def scores(recipe: Recipe, language: str) -> None:
    """One question shows how it works; this says how often it does."""
    if state.is_changed() or len(recipe.abilities) != 1:
        return
    (ability,) = recipe.abilities
    measured = resources.demo_scores(state.recipe_name(), ability)
    scored = {
        "base": "base",
        f"{ability}-en": "ability in English alone",
        "task vectors": "task vectors",
        "merge": "merged",
    }
    cells = [(label, measured.get(name, {}).get(language)) for name, label in scored.items()]
    cells = [(label, cell) for label, cell in cells if cell]
    if cells:
        st.caption(
            f"One question is an example, not a result. All {cells[0][1]['n']} test questions in {questions.language_name(language)}, "
            "right answers (95 % interval):"
        )
        charts.numbers(*((f"{100 * cell['accuracy']:.1f} %", f"{label} ({_interval(cell)})") for label, cell in cells))


def _interval(cell: dict) -> str:
    return "–".join(f"{100 * end:.1f}" for end in cell["interval_95"])


shell.title(
    "Move an ability into another language",
    "The same question before and after the merge: what one model learned about an ability in another language "
    "is added to the base, together with what others learned about these languages.",
)
recipe = shell.need_recipe()
languages = [code for code in recipe.languages if questions.default_question(code)]
language = question = None
if not languages:
    st.info("The workspace has no questions in the recipe's languages. Put a task file into tasks/, or ask on Compare.")
else:
    language = st.segmented_control(
        "Question in",
        format_func=questions.language_name,
        required=True,
        label_visibility="collapsed",
        **state.bound_view("start-language", languages, "start", languages[0]),
    )
    question = questions.default_question(language)
if tour.step() and recipe.abilities:
    tour.show(recipe, question)
    st.stop()
if question:
    questions.show_question(question)
    panel = st.container()
    scores(recipe, language)
tour.offer(recipe)
st.subheader("Look inside, then change it")
with st.container(gap="xsmall"):
    for page, label, says in _STEPS:
        shell.link(page, f"**{label}** · {says}")
if question:
    with panel:  # last, because it goes on until both models have finished
        answers.panel_auto("start", [slots.base_slot(recipe), slots.merged_slot(recipe)], question)
