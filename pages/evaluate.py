"""How often models are right, in which language, whether it is more than luck, and what was lost elsewhere."""

import streamlit as st

from maet_core.evaluation import report
from maet_core.evaluation.results import Evaluation
from maet_core.search.points import Search
from maet_core.studio import asking, charts, entries, files, measured, questions, resources, searched, shell, state
from maet_core.studio.heatmap import heatmap

shell.guard()

PAGE = 10
NAMES = questions.LANGUAGE_NAMES


def choose_result(results: dict[str, str]) -> str:
    kinds = {"evaluation": "evaluation", "sweep": "sweep", "tune": "tuning"}
    return st.selectbox(
        "Result",
        width=340,
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
        f"{task}: {found.tasks[task]['protocol']['text']}. Percent right with the 95 % interval. Click a cell for its answers."
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
    if missed := report.uncounted(found, task):
        told = "; ".join(f"{model} in {', '.join(languages)}" for model, languages in missed.items())
        st.caption(f"Not above the best baseline, so that the language does not count: {told}.")
    exports(found, task, reading, name)
    reference = "recipe" if "recipe" in models else models[0]  # a tuning is about what it added to the recipe
    if len(models) > 1:
        reference = st.selectbox(
            "Compared with", width=340, **state.bound_view("evaluate-reference", models, "reference", reference)
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
        paired = report.compare(found, cell, other, reading).paired
        luck = "; inside the interval: not a result" if paired.is_luck else ""
        figures.append((f"beside {other.model}{luck}", paired.text()))
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
            width=240,
            **state.bound("evaluate-page", shown, lambda value: state.set_view("page", value)),
        )
    labels = [cell.model] + ([other.model] if other else [])
    measured.draw_answers(table.iloc[PAGE * (page - 1) : PAGE * page], labels, reading)


def exports(found: Evaluation, task: str, reading: str, name: str) -> None:
    with st.container(horizontal=True):
        files.button("CSV", lambda: report.to_csv(found), f"{name}.csv", "text/csv", "evaluate-csv")
        files.button("LaTeX", lambda: report.to_latex(found, task), f"{name}.tex", "text/plain", "evaluate-tex")
        files.button("PNG", lambda: measured.picture(found, task, reading), f"{name}.png", "image/png", "evaluate-png")


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
        entries.draw_again()
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
    st.dataframe(
        searched.table(search),
        hide_index=True,
        column_config={"setting": st.column_config.TextColumn(width="medium")},
    )
    outcome = search.head.get("outcome")
    if outcome:
        st.subheader("Once, on questions that no trial saw")
        show_evaluation(Evaluation.load(search.folder / outcome["test"]), name)


shell.title(
    "Evaluate",
    "How often each model is right, in which language, whether it is more than luck, and what was lost elsewhere.",
)
asking.ask_form()
asking.search_form()
asking.follow()
results = resources.workspace().results()
if not results:
    st.info("Nothing has been measured yet. Ask models above, or look for coefficients.")
    st.stop()
chosen = choose_result(results)
if results[chosen] == "evaluation":
    show_evaluation(Evaluation.load(resources.workspace().resolve(f"results/{chosen}")), chosen)
else:
    show_search(chosen)
