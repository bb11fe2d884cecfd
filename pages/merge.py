"""How much of each: sliders for Eq. 2 to 4, a live answer, and ways to keep the result."""

import shlex
import time

import streamlit as st

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.recipe import Recipe
from maet_core.studio import (
    answers,
    background,
    formula,
    grid,
    kept_settings,
    method_menu,
    preset_menu,
    questions,
    resources,
    scaling,
    shell,
    slots,
    state,
)
from maet_core.workspace import Question, short_name

shell.guard()

RANGES = {"alpha": (0.0, 2.0), "beta": (0.0, 2.0), "gamma": (0.0, 3.0), "mu": (0.0, 2.0), "eta": (0.0, 2.0)}
LIMIT = 100.0
STEP = 0.05
QUICK_SECONDS = 0.5
_QUICK = "_merge_quick"


def coefficient(field: str, value: float, label: str) -> None:
    """A slider with a number field beside it, for values between its steps and beyond its ends."""
    low, high = RANGES[field.rpartition(".")[2]]

    def take(entered: float | None) -> None:
        if entered is not None and -LIMIT <= entered <= LIMIT:
            state.change(field, float(entered))

    with st.container(horizontal=True, vertical_alignment="bottom", gap="small", key=f"merge-row-{field}"):
        st.slider(label, min(low, value), max(high, value), step=STEP, **state.bound(f"merge-{field}", value, take))
        st.number_input(
            f"{label}, exact",
            -LIMIT,
            LIMIT,
            step=STEP,
            format="%.3g",
            label_visibility="collapsed",
            width=112,
            **state.bound(f"merge-{field}-number", value, take),
        )


def sliders(recipe: Recipe) -> None:
    for name, ability in recipe.abilities.items():
        field = f"abilities.{name}"
        st.markdown(f"**Ability: {name}**")
        coefficient(f"{field}.gamma", ability.gamma, f"γ · how much of R({name}) is added")
        if not ability.pack:
            coefficient(f"{field}.alpha", ability.alpha, f"α · how much of {short_name(ability.ability)} is in it")
            if ability.source_language:
                label = f"β · how much of {short_name(ability.source_language)} is taken away"
                coefficient(f"{field}.beta", ability.beta, label)
    if recipe.languages:
        st.markdown("**Languages**")
    for name, language in recipe.languages.items():
        coefficient(f"languages.{name}.mu", language.mu, f"μ · {questions.language_name(name)}")
    if recipe.languages and recipe.abilities:
        coefficient("eta", recipe.eta, "η · all languages, where the ability is added too")


def keep(recipe: Recipe) -> None:
    """Save as a checkpoint, save or load the recipe, and the command that does the same."""
    checkpoint, as_recipe, command = st.tabs(["Save as checkpoint", "Recipe", "Command"])
    with checkpoint:
        save_checkpoint(recipe)
    with as_recipe:
        save_and_load(recipe)
    with command:
        show_command(recipe)


def show_command(recipe: Recipe) -> None:
    """What to paste into a terminal to get the same model; with the recipe itself where no file holds it yet."""
    name = state.recipe_name() or "mine"
    lines = [f"cd {shlex.quote(str(resources.workspace().path))}"]
    if state.is_changed():
        name = f"{name}-changed"
        lines.append(f"cat > recipes/{name}.yaml <<'END'\n{resources.workspace().portable(recipe).to_yaml()}END")
    lines.append(shlex.join(background.merge_command(f"recipes/{name}.yaml", f"models/{name}-merged")))
    st.code("\n".join(lines), language="bash")


def save_checkpoint(recipe: Recipe) -> None:
    def begin() -> None:
        saved = background.save_merge(recipe, st.session_state["merge-name"].strip())
        st.session_state["_my_save"] = saved.job.id

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name in models/",
            f"{state.recipe_name() or 'mine'}-merged",
            max_chars=80,
            key="merge-name",
            on_change=state.acted,
        )
        st.button("Save", type="primary", key="merge-save", on_click=shell.guarded(begin))
    if job := st.session_state.get("_my_save"):
        save_progress(job)


def save_progress(job: str) -> None:
    try:
        found = jobs.status(resources.workspace().path, job)
    except JobError:
        return  # removed on the Jobs page
    if found.name not in jobs.ENDED:
        watch(job)
        # outside the fragment, so that a click is heard while it runs
        st.button(
            "Stop", key="merge-stop", on_click=shell.guarded(lambda: jobs.cancel(resources.workspace().path, job))
        )
    elif found.name == "done":
        st.success(f"models/{found.job.title} is saved, after {background.duration(found.state.seconds)}.")
        shell.link("models", "See it on Models")
    elif found.name == "cancelled":
        st.info(f"Stopped. {found.job.title} can be resumed, or removed, on Jobs.")
    else:
        st.error(found.state.error, icon=":material/error:")
    shell.link("jobs", f"Job {found.job.number} on Jobs")


@shell.fragment(run_every=0.5)
def watch(job: str) -> None:
    found = jobs.status(resources.workspace().path, job)
    if found.name in jobs.ENDED:
        st.rerun()
    st.progress(found.share, f"{found.job.title}: {background.where(found)}")


def save_and_load(recipe: Recipe) -> None:
    workspace = resources.workspace()

    def store() -> None:
        name = st.session_state["merge-recipe-name"].strip()
        workspace.save_recipe(recipe, name, overwrite=name == state.recipe_name())
        state.set_recipe(recipe, name)

    def load(name: str) -> None:
        state.set_recipe(workspace.load_recipe(name), name)

    names = workspace.recipes()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Load", names, **state.bound("merge-recipe", state.recipe_name(), load))
        st.button("Undo changes", key="merge-restore", disabled=not state.is_changed(), on_click=state.restore)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Save as", state.recipe_name() or "mine", max_chars=80, key="merge-recipe-name", on_change=state.acted
        )
        st.button("Save recipe", key="merge-save-recipe", on_click=shell.guarded(store))
    text = workspace.portable(recipe).to_yaml()
    with st.expander("YAML"):
        st.code(text, language="yaml")
        name = f"{state.recipe_name() or 'mine'}.yaml"
        st.download_button("Download", text, name, "application/yaml", on_click="ignore")


def live_answer(recipe: Recipe, question: Question | None) -> None:
    if question is None:
        st.info("Type a question, and it is answered after every change.")
        return
    questions.show_question(question)
    started = time.monotonic()
    answers.panel_auto("merge", [slots.merged_slot(recipe)], question)
    st.session_state[_QUICK] = time.monotonic() - started < QUICK_SECONDS


shell.title("Merge", "Move a slider: the weights in memory follow, and the question is answered again.")
recipe = shell.need_recipe()
preset_menu.menu(recipe)
with st.container(key="merge-desk"):
    left, right = st.columns([5, 8], gap="large")
with left:
    sliders(recipe)
    method_menu.menu(recipe)
with right:
    with st.container(key="merge-live"):
        question = questions.choose_question("merge")
        live = st.container()
    st.latex(formula.equations(recipe))
# A quick model answers before the rest of the page is drawn again; a slow one last, for nothing else would be drawn meanwhile.
quick = st.session_state.get(_QUICK, False)
if quick:
    with live:
        live_answer(recipe, question)
scaling.section(recipe)
keep(recipe)
st.subheader("Kept settings")
kept_settings.section(recipe, question)
st.subheader("γ × η")
below = st.container()
if not quick:
    with live:
        live_answer(recipe, question)
with below:
    grid.section(recipe, question)
