"""How often models are right, in which language, whether it is more than luck, and what was lost elsewhere."""

import shlex

import streamlit as st

from maet_core import jobs
from maet_core.evaluation import report
from maet_core.evaluation.results import Evaluation
from maet_core.search.points import Search
from maet_core.studio import background, charts, measured, questions, resources, searched, shell, state
from maet_core.studio.heatmap import heatmap
from maet_core.workspace import short_name

shell.guard()

PAGE = 10
NAMES = questions.LANGUAGE_NAMES
TASKS = ("demo-math", "demo-science")


def ask_form() -> None:
    """Starts an evaluation as a job, and says the command that does the same."""
    workspace = resources.workspace()
    models = [entry.path for entry in resources.models() if entry.kind == "checkpoint"]
    recipes = [f"recipes/{name}.yaml" for name in workspace.recipes()]
    from maet_core.evaluation.tasks import DEMO_TASKS

    tasks = [name for name in TASKS if (DEMO_TASKS / f"{name.removeprefix('demo-')}.jsonl").is_file()]
    tasks += [
        f"tasks/{path.name}"
        for path in sorted((workspace.path / "tasks").glob("*.*"))
        if path.suffix in (".jsonl", ".tsv")
    ]
    recipe = state.recipe()
    first = [
        path
        for path in (recipe.base if recipe else None, f"recipes/{state.recipe_name()}.yaml")
        if path in models + recipes
    ]
    with st.expander("Ask models", expanded=not workspace.results(), icon=":material/quiz:"):
        chosen = st.multiselect(
            "Models and recipes",
            models + recipes,
            default=first,
            format_func=_label,
            key="evaluate-models",
            on_change=state.acted,
        )
        left, middle, right = st.columns(3)
        task = left.selectbox("Task", tasks, key="evaluate-task", on_change=state.acted)
        languages = middle.text_input(
            "Languages", placeholder="all of the task, or sw,bn", key="evaluate-languages", on_change=state.acted
        )
        limit = right.number_input(
            "Questions a language (0: all)", 0, 10_000, 100, 50, key="evaluate-limit", on_change=state.acted
        )
        corpora = {
            path.stem.removeprefix("general-"): path
            for path in sorted((workspace.path / "corpora").glob("general-*.txt"))
        }
        texts = []
        if corpora:
            texts = st.multiselect(
                "General text, for what is forgotten",
                list(corpora),
                format_func=lambda code: NAMES.get(code, code),
                key="evaluate-general",
                on_change=state.acted,
            )
        name = st.text_input("Name in results/", _free_name(), key="evaluate-name", on_change=state.acted)
        command = ["maet", "evaluate", *chosen, "--task", task or "demo-math"]
        command += ["--languages", languages] if languages.strip() else []
        command += ["--limit", str(limit)] if limit else []
        for code in texts:
            command += ["--general", f"{code}=corpora/{corpora[code].name}"]
        command += ["-o", f"results/{name.strip()}"]

        def begin() -> None:
            workspace.new("results", name.strip())  # refuses names that are none, and a demonstration
            output = f"results/{name.strip()}"
            started = jobs.submit(workspace.path, [*command, "--json"], output=output, grows=True)
            st.session_state["_my_evaluation"] = started.job.id
            state.set_view("result", name.strip())

        st.button(
            "Ask", type="primary", key="evaluate-ask", disabled=not (chosen and task), on_click=shell.guarded(begin)
        )
        st.code(shlex.join(command), language="bash")
    if job := st.session_state.get("_my_evaluation"):
        follow(job)


def _label(path: str) -> str:
    return (
        f"{path.removeprefix('recipes/').removesuffix('.yaml')} (recipe)"
        if path.startswith("recipes/")
        else short_name(path)
    )


def _free_name() -> str:
    taken = resources.workspace().results()
    name = state.recipe_name() or "evaluation"
    return next(tried for i in range(1, 1000) if (tried := name if i == 1 else f"{name}-{i}") not in taken)


def follow(job: str) -> None:
    found = jobs.status(resources.workspace().path, job)
    if found.name not in jobs.ENDED:
        watch(job)
        st.button(
            "Stop", key="evaluate-stop", on_click=shell.guarded(lambda: jobs.cancel(resources.workspace().path, job))
        )
    elif found.name == "failed":
        st.error(found.state.error, icon=":material/error:")


@shell.fragment(run_every=1.0)
def watch(job: str) -> None:
    found = jobs.status(resources.workspace().path, job)
    cells = found.state.done // 1000 if found.state.total else 0
    if found.name in jobs.ENDED or cells != st.session_state.get("_my_cells", 0):
        st.session_state["_my_cells"] = cells
        st.rerun()  # a cell more is filled in
    st.progress(found.share, background.where(found))


def choose_result(results: dict[str, str]) -> str:
    kinds = {"evaluation": "evaluation", "sweep": "sweep", "tune": "tuning"}
    return st.selectbox(
        "Result",
        format_func=lambda name: f"{name} · {kinds.get(results[name], results[name])}",
        **state.bound_view("evaluate-result", list(results), "result", next(iter(results))),
    )


def show_evaluation(found: Evaluation, name: str) -> None:
    tasks = [task for task in found.tasks if found.languages(task)]
    if not tasks:
        st.info("No cell is finished yet.")
        return
    task = tasks[0]
    with st.container(horizontal=True):
        if len(tasks) > 1:
            task = st.segmented_control(
                "Task", required=True, **state.bound_view("evaluate-shown", tasks, "task", tasks[0])
            )
        reading = st.segmented_control(
            "Reading",
            required=True,
            format_func=measured.READINGS.get,
            help="Strict: the number stands where a final answer is announced. Flexible: there, else the last number of the text.",
            **state.bound_view("evaluate-reading", list(measured.READINGS), "reading", "right"),
        )
    st.caption(
        f"{found.tasks[task]['protocol']['text']}. Percent right with the 95 % interval. Click a cell for its answers."
    )
    models, baselines = measured.rows_of(found, task)
    picked = state.view("answers", [])
    heatmap(
        measured.heat(found, task, reading, NAMES),
        models + baselines,
        found.languages(task),
        measured.SCALE,
        key="evaluate-map",
        on_pick=lambda row, column: state.set_view("answers", [row, column]) if row in models else None,
        selected=tuple(picked) if len(picked) == 2 else None,
        column_title="language",
    )
    exports(found, task, reading, name)
    reference = "recipe" if "recipe" in models else models[0]  # a tuning is about what it added to the recipe
    if len(models) > 1:
        reference = st.selectbox(
            "Compared with", **state.bound_view("evaluate-reference", models, "reference", reference)
        )
    if len(picked) == 2 and (cell := found.cell(picked[0], task, picked[1])):
        show_answers(found, cell, models, reference, reading)
    if gains := measured.gain_table(found, task, reference, reading, NAMES):
        st.subheader(f"Gained and lost beside {reference}")
        st.dataframe(gains, hide_index=True)
    if found.texts:
        st.subheader("Forgotten elsewhere")
        st.dataframe(measured.losses_table(found, reference, NAMES), hide_index=True)


def show_answers(found: Evaluation, cell, models: list[str], reference: str, reading: str) -> None:
    st.subheader(f"{cell.model} in {NAMES.get(cell.language, cell.language)}")
    beside = reference if reference != cell.model else next((model for model in models if model != cell.model), None)
    other = found.cell(beside, cell.task, cell.language) if beside else None
    figures = [("right", measured.share_of(cell, reading).text())]
    if other is not None:
        figures.append((f"beside {other.model}", report.compare(found, cell, other, reading).paired.text()))
    charts.numbers(*((value, what) for what, value in figures))
    table = measured.ordered_answers(found, cell, other, reading)
    pages = -(-len(table) // PAGE)
    page = 1
    if pages > 1:
        shown = min(max(int(state.view("page", 1)), 1), pages)
        page = st.number_input(
            f"Page of {pages}, wrong answers first",
            1,
            pages,
            **state.bound("evaluate-page", shown, lambda value: state.set_view("page", value)),
        )
    labels = [cell.model] + ([other.model] if other else [])
    measured.draw_answers(table.iloc[PAGE * (page - 1) : PAGE * page], labels, reading)


def exports(found: Evaluation, task: str, reading: str, name: str) -> None:
    with st.container(horizontal=True):
        st.download_button(
            "CSV", report.to_csv(found), f"{name}.csv", "text/csv", key="evaluate-csv", on_click="ignore"
        )
        st.download_button(
            "LaTeX", report.to_latex(found, task), f"{name}.tex", "text/plain", key="evaluate-tex", on_click="ignore"
        )
        st.download_button(
            "PNG",
            lambda: measured.picture(found, task, reading),
            f"{name}.png",
            "image/png",
            key="evaluate-png",
            on_click="ignore",
        )


def show_search(name: str) -> None:
    search = Search.load(resources.workspace().resolve(f"results/{name}"))
    if search.head["finished"]:
        draw_search(name)
    else:
        filling(name)


@shell.fragment(run_every=2.0)
def filling(name: str) -> None:
    search = Search.load(resources.workspace().resolve(f"results/{name}"))
    st.caption(f"{len(search.points)} settings so far; more appear as they come.")
    if search.head["finished"]:
        st.rerun()
    draw_search(name)


def draw_search(name: str) -> None:
    search = Search.load(resources.workspace().resolve(f"results/{name}"))
    protocols = "; ".join(f"{task}: {entry['protocol']['text']}" for task, entry in search.head["tasks"].items())
    st.caption(f"{protocols}. Right: the mean over languages.")
    axes = searched.axes_of(search)
    tried = [point for point in search.points if point.settings]
    if not tried:
        st.info("No setting has been asked yet.")
        return
    if search.head["kind"] == "tune":
        st.plotly_chart(searched.progress(search), key="search-trials")
    else:
        across = axes[0]
        if len(axes) > 1:
            st.plotly_chart(searched.surface(search, axes[0], axes[1]), key="search-map")
            across = st.segmented_control(
                "Lines by", required=True, **state.bound_view("search-axis", axes, "axis", axes[0])
            )
        st.plotly_chart(searched.lines(search, across), key="search-lines")
    if any(point.forgetting is not None for point in tried):
        st.subheader("Gain against forgetting")
        st.plotly_chart(searched.front(search), key="search-front")
    st.dataframe(searched.table(search), hide_index=True)
    outcome = search.head.get("outcome")
    if outcome:
        st.subheader("Once, on questions that no trial saw")
        show_evaluation(Evaluation.load(search.folder / outcome["test"]), name)


shell.title(
    "Evaluate",
    "How often each model is right, in which language, whether it is more than luck, and what was lost elsewhere.",
)
ask_form()
results = resources.workspace().results()
if not results:
    st.info(
        "Nothing has been measured yet. Ask models above, or run a sweep on the command line: maet sweep recipes/demo.yaml --help"
    )
    st.stop()
chosen = choose_result(results)
if results[chosen] == "evaluation":
    show_evaluation(Evaluation.load(resources.workspace().resolve(f"results/{chosen}")), chosen)
else:
    show_search(chosen)
