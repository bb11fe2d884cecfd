"""Which question is asked: from the tasks of the workspace, from a file that the person brings, or typed."""

from __future__ import annotations

import html
from dataclasses import replace

import streamlit as st

from maet_core.errors import MaetError
from maet_core.evaluation.questions import UNKNOWN_LANGUAGE, Question
from maet_core.studio import entries, limits, resources, shell, state
from maet_core.whole_files import appearing

LANGUAGE_NAMES = {
    "en": "English",
    "sw": "Swahili",
    "bn": "Bengali",
    "te": "Telugu",
    "th": "Thai",
    "zh": "Chinese",
    "ja": "Japanese",
    "de": "German",
    "fr": "French",
    "es": "Spanish",
    "ru": "Russian",
    "hi": "Hindi",
    UNKNOWN_LANGUAGE: "Language not said",
}
TYPED, FILE = "typed", "file"
_UPLOADED = "_uploaded"


def language_name(code: str) -> str:
    return LANGUAGE_NAMES.get(code, code)


def pool() -> list[Question]:
    """Questions to choose from: the pinned ones, and the test part where a task has parts."""
    rows = resources.questions()
    return [row for row in rows if row.pinned or row.split in ("", "test")] or rows


def default_question(language: str | None = None) -> Question | None:
    """The pinned row, else the first, of the wanted language, else of one that the recipe merges in; about its abilities, if any is."""
    rows, recipe = pool(), state.recipe()
    abilities = recipe.abilities if recipe else ()
    rows = [row for row in rows if row.task in abilities] or rows
    for code in [language] if language else [*(recipe.languages if recipe else ()), None]:
        of_language = [row for row in rows if code is None or row.language == code]
        if of_language:
            return next((row for row in of_language if row.pinned), of_language[0])
    return rows[0] if rows else None


def choose_question(key: str, files: bool = False) -> Question | None:
    """Widgets that choose a question by language and number, or take a typed one. None while there is none."""
    chosen = choose_rows(key, files)
    return chosen[0] if chosen else None


def choose_rows(key: str, files: bool = False, number: str = "Number") -> list[Question]:
    """The chosen question and those that follow it in its language or file. With `files` a person can bring their own.

    `number` is what the field is called that says which one.
    """
    rows = pool()
    first = default_question()
    languages = list(dict.fromkeys(row.language for row in rows))
    options = [*languages, TYPED, *([FILE] if files else [])]
    row = st.container(horizontal=True, vertical_alignment="bottom")
    with row:
        source = st.segmented_control(
            "Question in",
            format_func=lambda code: {TYPED: "Your own", FILE: "From a file"}.get(code) or language_name(code),
            required=True,
            **state.bound_view(f"{key}-language", options, "language", first.language if first else TYPED),
        )
    if source == FILE:
        asked = _uploaded(key, languages, first)
        return _from(asked, key, row, "row", number) if asked else []
    if source == TYPED or not rows:
        question = _typed(key, first)
        return [question] if question else []
    asked = [one for one in rows if one.language == source]
    tasks = list(dict.fromkeys(one.task for one in asked))
    if len(tasks) > 1:
        default = first.task if first.task in tasks else tasks[0]
        with row:
            task = st.segmented_control(
                "About", required=True, **state.bound_view(f"{key}-task", tasks, "task", default)
            )
        asked = [one for one in asked if one.task == task]
    return _from(asked, key, row, "problem", number)


def _from(asked: list[Question], key: str, place, view: str, label: str) -> list[Question]:
    """A number field that says with which one to begin. The link holds the problem, which is the same in every language."""
    problems = [row.problem for row in asked]
    start = next((row.problem for row in asked if row.pinned), problems[0])
    problem = state.view(view, start)
    number = problems.index(problem) + 1 if problem in problems else 1

    def move(wanted: int) -> None:
        state.set_view(view, problems[min(max(wanted, 1), len(problems)) - 1])

    with place:
        number = st.number_input(
            f"{label} (of {len(asked)})", 1, len(asked), width=150, **state.bound(f"{key}-number", number, move)
        )
    return asked[number - 1 :] + asked[: number - 1]


def next_question(rows: list[Question]) -> None:
    """A callback: on to the question after the first of these rows."""
    if len(rows) > 1:
        state.set_view("row" if state.view("language", "") == FILE else "problem", rows[1].problem)


def show_question(question: Question) -> None:
    gloss = f"<div class='maet-gloss' lang='en'>{html.escape(question.gloss)}</div>" if question.gloss else ""
    st.html(f"<div class='maet-question'{lang(question)} dir='auto'>{html.escape(question.question)}</div>{gloss}")


def lang(question: Question) -> str:
    """The attribute that gives a text its language's glyphs and voice; nothing where the language is not known."""
    return f" lang='{html.escape(question.language, quote=True)}'" if question.language else ""


def _typed(key: str, like: Question | None) -> Question | None:
    text = st.text_area(
        "Your question",
        max_chars=limits.current().question_characters,
        height=90,
        placeholder="Ask in any language that the models know.",
        **state.bound(
            f"{key}-typed", state.view("typed", ""), lambda entered: state.set_view("typed", entered.strip() or None)
        ),
    ).strip()
    if not text:
        return None
    return like.like(text) if like else Question("typed", "", text, text)


def _uploaded(key: str, languages: list[str], like: Question | None) -> list[Question]:
    """The rows of the file that this person brought last; they live as long as the session, unless kept in tasks/."""
    from maet_core.question_files import MOST_BYTES, SUFFIXES, read_questions

    def take() -> None:
        file = st.session_state[f"{key}-upload"]
        if file is None:
            return
        try:
            found = read_questions(file.getvalue(), file.name)
        except MaetError as error:
            state.notice(str(error))
            return
        finally:
            entries.acted()
        st.session_state[_UPLOADED] = (file.name, found)

    st.file_uploader(
        f"Questions, at most {MOST_BYTES / 1e6:.0f} MB: JSONL with `question` and `answer`, TSV with the two as columns, or a line each",
        type=[suffix.lstrip(".") for suffix in SUFFIXES],
        key=f"{key}-upload",
        on_change=take,
    )
    if _UPLOADED not in st.session_state:
        return []
    name, rows = st.session_state[_UPLOADED]
    with st.container(horizontal=True, vertical_alignment="bottom"):
        if any(not row.language for row in rows):
            known = list(dict.fromkeys([*languages, *LANGUAGE_NAMES]))
            language = st.selectbox(
                "Language of the file",
                format_func=language_name,
                width=180,
                **state.bound_view(f"{key}-file-language", known, "file_language", known[0]),
            )
            rows = [row if row.language else replace(row, language=language) for row in rows]
        rows = [row if row.prompt else replace(row, prompt=_prompt(row, like)) for row in rows]
        st.button("Keep in tasks/", key=f"{key}-keep", on_click=shell.guarded(lambda: _keep(name, rows)))
        st.caption(f"{len(rows):,} questions from {name}")
    return rows


def _prompt(row: Question, like: Question | None) -> str:
    """The form in which the workspace's own questions are put to the models."""
    return like.like(row.question).prompt if like else row.question


def _keep(name: str, rows: list[Question]) -> None:
    from maet_core.question_files import to_jsonl

    stem = name.rpartition(".")[0] or name
    path = resources.workspace().new("tasks", stem, ".jsonl")
    with appearing(path) as part:
        part.write_text(to_jsonl(rows), "utf-8")
    state.notice(f"Kept as tasks/{path.name}: its questions are among those by language now.")
