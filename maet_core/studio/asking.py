"""What the page Evaluate starts: models that are asked, and coefficients that are looked for. Each is a job and a command to copy."""

from __future__ import annotations

import shlex
from pathlib import Path

import streamlit as st

from maet_core import jobs
from maet_core.studio import background, entries, questions, resources, shell, state
from maet_core.workspace import short_name

_JOB, _SEEN = "_my_evaluation", "_my_cells"
WAYS = {"tune": "Find the best", "sweep": "Try every value"}
PROMPTS = {
    "": "The task's own, else direct",
    "direct": "Answer at once",
    "cot-en": "Steps in English",
    "cot-native": "Steps in the language",
}
HUB_TASKS = ("mgsm", "msvamp", "gsm8k")
# what the form offers to sweep, with values that show the whole curve
SWEPT = {"gamma": ("γ", "0:2:0.25"), "eta": ("η", ""), "k2": ("k₂, %", "")}


def ask_form() -> None:
    """Models and recipes on a task."""
    models = [entry.path for entry in resources.models() if entry.kind == "checkpoint"]
    recipes = _recipes()
    recipe = state.recipe()
    first = [
        path
        for path in (recipe.base if recipe else None, f"recipes/{state.recipe_name()}.yaml")
        if path in models + recipes
    ]
    with st.expander("Ask models", expanded=not resources.workspace().results(), icon=":material/quiz:"):
        chosen = st.multiselect(
            "Models and recipes",
            models + recipes,
            default=first,
            format_func=_label,
            key="evaluate-models",
            on_change=entries.acted,
        )
        asked = _asked("evaluate", 100)
        _start(
            ["maet", "evaluate", *chosen, *asked],
            "evaluate",
            "Ask",
            state.recipe_name() or "evaluation",
            bool(chosen and asked),
        )


def search_form() -> None:
    """Coefficients of a recipe on the live model: all of some values, or the best of many."""
    recipes = _recipes()
    if not recipes:
        return
    with st.expander("Look for coefficients", icon=":material/tune:"):
        own = f"recipes/{state.recipe_name()}.yaml"
        left, right = st.columns(2, vertical_alignment="bottom")
        recipe = left.selectbox(
            "Recipe",
            recipes,
            index=recipes.index(own) if own in recipes else 0,
            format_func=_label,
            key="search-recipe",
            on_change=entries.acted,
        )
        with right:
            way = st.segmented_control(
                "How",
                list(WAYS),
                default="tune",
                required=True,
                format_func=WAYS.get,
                key="search-way",
                on_change=entries.acted,
            )
        if way == "tune":
            trials = st.number_input("Trials", 1, 10_000, 100, 50, key="search-trials-wanted", on_change=entries.acted)
            st.caption(
                "γ, β, k₂ and every μ are tuned on development questions; base, recipe and tuned recipe are then asked the test questions once."
            )
            wanted = ["--trials", str(trials)]
        else:
            wanted = []
            for column, (name, (title, values)) in zip(st.columns(len(SWEPT)), SWEPT.items(), strict=True):
                text = column.text_input(
                    title,
                    values,
                    placeholder="first:last:step, or 0.5,1",
                    key=f"search-{name}",
                    on_change=entries.acted,
                )
                wanted += [f"--{name}", text.strip()] if text.strip() else []
        asked = _asked("search", 0)
        forgetting = way == "tune" and "--general" in asked
        if forgetting and st.checkbox("Forget little, too: two goals", key="search-two-goals", on_change=entries.acted):
            wanted += ["--two-goals"]
        _start(
            ["maet", way, recipe, *asked, *wanted],
            "search",
            "Start",
            "coefficients",
            bool(asked and wanted),
        )


def follow() -> None:
    """How far the job is that was started last on this page."""
    if not (job := st.session_state.get(_JOB)):
        return
    found = jobs.status(resources.workspace().path, job)
    if found.name not in jobs.ENDED:
        _watch(job)
        st.button(
            "Stop", key="evaluate-stop", on_click=shell.guarded(lambda: jobs.cancel(resources.workspace().path, job))
        )
    elif found.name == "failed":
        st.error(found.state.error, icon=":material/error:")


@shell.fragment(run_every=1.0)
def _watch(job: str) -> None:
    found = jobs.status(resources.workspace().path, job)
    # an evaluation tells a thousand steps a cell; a search draws itself again once it is there
    filled = found.state.done // 1000 if found.job.kind == "evaluate" else min(found.state.done, 1)
    if found.name in jobs.ENDED or filled != st.session_state.get(_SEEN, 0):
        st.session_state[_SEEN] = filled
        entries.draw_again()
    st.progress(found.share, background.where(found))


def _asked(form: str, limit: int) -> list[str]:
    """The words of the command about task, languages, prompts and general text; none where no task is there."""
    tasks = _tasks()
    left, middle, right = st.columns(3)
    task = left.selectbox("Task", tasks, key=f"{form}-task", on_change=entries.acted)
    languages = middle.text_input(
        "Languages", placeholder="all of the task, or sw,bn", key=f"{form}-languages", on_change=entries.acted
    )
    most = right.number_input(
        "Questions a language (0: all)", 0, 10_000, limit, 50, key=f"{form}-limit", on_change=entries.acted
    )
    style = left.selectbox("Prompt", PROMPTS, format_func=PROMPTS.get, key=f"{form}-prompt", on_change=entries.acted)
    shots = middle.number_input(
        "Exemplars before each",
        0,
        64,
        key=f"{form}-shots",
        help="Taken from the task's other splits.",
        on_change=entries.acted,
    )
    corpora = {
        path.stem.removeprefix("general-"): path
        for path in sorted((resources.workspace().path / "corpora").glob("general-*.txt"))
    }
    texts = []
    if corpora:
        texts = st.multiselect(
            "General text, for what is forgotten",
            list(corpora),
            format_func=lambda code: questions.LANGUAGE_NAMES.get(code, code),
            key=f"{form}-general",
            on_change=entries.acted,
        )
    if task is None:
        return []
    words = ["--task", task]
    words += ["--languages", languages.strip()] if languages.strip() else []
    words += ["--limit", str(most)] if most else []
    words += ["--prompt", style] if style else []
    words += ["--shots", str(shots)] if shots else []
    for code in texts:
        words += ["--general", f"{code}=corpora/{corpora[code].name}"]
    return words


def _start(command: list[str], form: str, label: str, name: str, ready: bool) -> None:
    """The name of the result, the button and the command."""
    name = st.text_input("Name in results/", _free(name), key=f"{form}-name", on_change=entries.acted).strip()
    output = f"results/{name}"
    command += ["-o", output]

    def begin() -> None:
        workspace = resources.workspace()
        workspace.new("results", name)  # refuses names that are none, and a demonstration
        started = jobs.submit(workspace.path, [*command, "--json"], output=output, grows=True)
        st.session_state[_JOB] = started.job.id
        st.session_state.pop(_SEEN, None)
        state.set_view("result", name)

    st.button(label, type="primary", key=f"{form}-ask", disabled=not ready, on_click=shell.guarded(begin))
    st.code(shlex.join(command), language="bash")


def _recipes() -> list[str]:
    return [f"recipes/{name}.yaml" for name in resources.workspace().recipes()]


def _tasks() -> list[str]:
    """Those of the demo, the workspace's files and folders of questions, and those that the hub has."""
    from maet_core.evaluation.questions import SUFFIXES
    from maet_core.evaluation.tasks import DEMO_TASKS

    there = sorted((resources.workspace().path / "tasks").iterdir())
    own = [path.name for path in there if path.name[0] != "." and (path.suffix in SUFFIXES or path.is_dir())]
    bundled = [f"demo-{path.stem}" for path in sorted(DEMO_TASKS.glob("*.jsonl"))]
    return [*bundled, *(f"tasks/{name}" for name in own), *HUB_TASKS]


def _label(path: str) -> str:
    return f"{Path(path).stem} (recipe)" if path.startswith("recipes/") else short_name(path)


def _free(name: str) -> str:
    taken = resources.workspace().results()
    return next(tried for i in range(1, 1000) if (tried := name if i == 1 else f"{name}-{i}") not in taken)
