"""γ × η: the pinned question under every pair, on the live model, filled in as the answers come."""

from __future__ import annotations

import numpy as np
import pandas as pd
import streamlit as st

from maet_core.conversation import Answer, Decoding
from maet_core.evaluation import stated
from maet_core.evaluation.questions import Question
from maet_core.recipe import Recipe
from maet_core.studio import answers, entries, filling, limits, shell, state
from maet_core.studio.slots import merged_slot

LOWEST, HIGHEST = -10.0, 10.0
_VIEW = "grid"
# ground and text
_COLOURS = {
    "light": {True: ("#d5efe5", "#00573d"), False: ("#fbe3d6", "#8a3606")},
    "dark": {True: ("#123d31", "#8be3c3"), False: ("#4a2815", "#ffbd94")},
}


def section(recipe: Recipe, question: Question | None) -> None:
    if not recipe.abilities or not recipe.languages:
        st.caption("The grid needs an ability for γ and a language for η; choose both on the Models page.")
        return
    if question is None:
        st.caption("Choose or type a question above.")
        return
    name = shell.need_ability(recipe, "merge-grid-ability")
    gammas, etas = axes()
    field = f"abilities.{name}.gamma"
    plain = recipe.with_value(field, 0.0).with_value("eta", 1.0)
    work = filling.filling("merge-grid", (question.prompt, name, plain))
    cells = [(gamma, eta) for gamma in gammas for eta in etas]
    done = sum(cell in work.answers for cell in cells)
    _ranges()
    filling.buttons("merge-grid", work, done, len(cells), f"Fill in {len(cells)} cells")
    bar, table = st.empty(), st.container()
    running = work.running and done < len(cells)
    if not running:
        work.running = False
        with table:
            if done:
                _pick(field, gammas, etas, work.answers, question)
            else:
                st.caption(
                    "The question above under every pair of γ and η: where the answer holds, and where it breaks."
                )
        return
    with table:
        place = st.empty()
    _fill(plain, field, cells, work, question, lambda: _redraw(bar, place, gammas, etas, work, question))
    work.running = False
    entries.draw_again()


def _fill(plain: Recipe, field: str, cells: list, work: filling.Filling, question: Question, redraw) -> None:

    redraw()
    for gamma, eta in cells:
        if (gamma, eta) not in work.answers:
            slot = merged_slot(plain.with_value(field, gamma).with_value("eta", eta))
            for answer in answers.said([slot], question, Decoding(max_new_tokens=96)):
                if work.take((gamma, eta), answer):
                    redraw()


def axes() -> tuple[list[float], list[float]]:
    """The values of γ and η that the link asks for."""
    wanted = _wanted()
    return tuple(
        [round(float(value), 4) for value in np.linspace(low, high, int(count))]
        for low, high, count in (wanted[:3], wanted[3:])
    )


def _default() -> list[float]:
    """From, to, how many: γ, then η."""
    return [0.0, 2.0, min(5, limits.current().grid_steps)] * 2


def _wanted() -> list[float]:
    """What the link asks for; the default where that is more than this server allows, or makes no sense."""
    wanted = state.view(_VIEW, _default())
    fits = len(wanted) == 6 and all(type(value) in (int, float) for value in wanted)
    if not fits or not all(
        LOWEST <= low <= HIGHEST and LOWEST <= high <= HIGHEST and 1 <= count <= limits.current().grid_steps
        for low, high, count in (wanted[:3], wanted[3:])
    ):
        return _default()
    return list(wanted)


def _ranges() -> None:
    wanted = _wanted()

    def take(i: int, value: float) -> None:
        changed = _wanted()
        changed[i] = value
        state.set_view(_VIEW, changed)

    labels = ("γ from", "γ to", "γ steps", "η from", "η to", "η steps")
    rows = [
        st.container(horizontal=True, gap="small", width="content") for _ in range(2)
    ]  # three beside each other on a phone
    for i, label in enumerate(labels):
        with rows[i // 3]:
            whole = "steps" in label
            kind = int if whole else float
            low, high, step = (1, limits.current().grid_steps, 1) if whole else (LOWEST, HIGHEST, 0.25)
            bound = state.bound(f"merge-grid-{i}", kind(wanted[i]), lambda entered, i=i: take(i, entered))
            st.number_input(label, low, high, step=step, width=108, **bound)


def _redraw(bar, place, gammas: list[float], etas: list[float], work: filling.Filling, question: Question) -> None:
    total = len(gammas) * len(etas)
    done = sum((gamma, eta) in work.answers for gamma in gammas for eta in etas)
    bar.progress(done / total, f"{done} of {total} answers")
    place.dataframe(_styled(gammas, etas, work.answers, question), width="stretch")


def _pick(field: str, gammas: list[float], etas: list[float], found: dict, question: Question) -> None:
    """The table; a chosen cell becomes the setting."""

    def take() -> None:
        entries.acted()
        chosen = st.session_state["merge-grid-table"]["selection"]["cells"]
        if chosen:
            row, column = chosen[0]
            eta = float(str(column).removeprefix("η "))
            if 0 <= row < len(gammas) and eta in etas:
                state.set_recipe(state.recipe().with_value(field, gammas[row]).with_value("eta", eta))

    st.dataframe(
        _styled(gammas, etas, found, question),
        width="stretch",
        key="merge-grid-table",
        on_select=take,
        selection_mode="single-cell",
    )
    right = [answers.verdict(found[cell], question) for cell in found]
    known = [verdict for verdict in right if verdict is not None]
    note = f"{sum(known)} of {len(known)} right. " if known else ""
    st.caption(f"{note}Choose a cell to take its γ and η. One question shows a shape, not a result.")


def _styled(gammas: list[float], etas: list[float], found: dict, question: Question):
    verdicts = [[_verdict(found.get((gamma, eta)), question) for eta in etas] for gamma in gammas]
    texts = [[_text(found.get((gamma, eta)), question) for eta in etas] for gamma in gammas]
    index, columns = [f"γ {gamma:g}" for gamma in gammas], [f"η {eta:g}" for eta in etas]
    table = pd.DataFrame(texts, index=index, columns=columns)

    colours = _COLOURS["dark" if st.context.theme.type == "dark" else "light"]

    def colour(frame: pd.DataFrame) -> pd.DataFrame:
        styles = [
            ["" if verdict is None else "background-color: {}; color: {}".format(*colours[verdict]) for verdict in line]
            for line in verdicts
        ]
        return pd.DataFrame(styles, index=frame.index, columns=frame.columns)

    return table.style.apply(colour, axis=None)


def _verdict(answer: Answer | None, question: Question) -> bool | None:
    return answers.verdict(answer, question) if answer else None


def _text(answer: Answer | None, question: Question) -> str:
    """The final answer with its mark, else how the answer begins."""
    if answer is None:
        return ""
    if answer.finished == "error":
        return answer.error
    said = stated(answer.text, question.language)
    mark = {True: "✓ ", False: "✗ ", None: ""}[_verdict(answer, question)]
    return mark + (said or answer.text.strip()[:24] or "(no words)")
