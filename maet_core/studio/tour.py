"""The guided first visit on Start: where the ability sits, which tensors take it, and γ with the answer. It can be left at any step.

The step is in the link. The page offers it and never begins by itself; once left, it is offered quietly.
"""

from __future__ import annotations

from collections.abc import Callable

import streamlit as st

from maet_core.evaluation.questions import Question
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import answers, cells, in_memory, questions, resources, scores, shell, slots, state
from maet_core.studio.heatmap import heatmap
from maet_core.studio.slider import settled, slider

_VIEW, _LEFT = "tour", "_tour_left"
_K1 = (1.0, 2.0, 5.0, 10.0, 20.0, 50.0)


def step() -> int:
    """1 to 3 during the visit, else 0."""
    now = state.view(_VIEW, 0)
    return now if 1 <= now <= len(_STEPS) else 0


def offer(recipe: Recipe) -> None:
    """A button that begins; only a line of text for who has seen it or declined."""
    if not recipe.abilities:
        return
    seen = st.session_state.get(_LEFT, False)
    label = "Take the three steps again" if seen else "Show me how it works, in three steps"
    st.button(
        label,
        key="tour-begin",
        type="tertiary" if seen else "primary",
        icon=":material/explore:",
        on_click=state.set_view,
        args=(_VIEW, 1),
    )


def show(recipe: Recipe, question: Question | None) -> None:
    """The step that the visit is at."""
    now = step()
    title, say, draw, page, label = _STEPS[now - 1]
    with st.container(border=True, key="tour"):
        st.caption(f"Step {now} of {len(_STEPS)}")
        st.subheader(title)
        st.markdown(say)
        last = st.container()
        with st.container(horizontal=True, vertical_alignment="center"):
            if now > 1:
                st.button("Back", key="tour-back", on_click=state.set_view, args=(_VIEW, now - 1))
            if now < len(_STEPS):
                st.button("Next", key="tour-next", type="primary", on_click=state.set_view, args=(_VIEW, now + 1))
                st.button("Skip", key="tour-skip", type="tertiary", on_click=_leave)
            else:
                st.button("Done", key="tour-done", type="primary", on_click=_leave)
            shell.link(page, label)
        with last:  # last, because an answer goes on until the model has finished
            draw(recipe, next(iter(recipe.abilities)), question)


def _leave() -> None:
    st.session_state[_LEFT] = True
    state.set_view(_VIEW, None)


def _neurons(recipe: Recipe, ability: str, question: Question | None) -> None:
    if recipe.abilities[ability].pack:
        st.info("This ability comes as a pack, which holds its key neurons already. Go on to the next step.")
        return
    k1 = state.view("tour_k1", 5.0)
    k1 = k1 if k1 in _K1 else 5.0
    slider(
        "k₁: the share of all neurons that counts as key",
        k1,
        lambda value: state.set_view("tour_k1", min(_K1, key=lambda step: abs(step - value))),
        key="tour-k1",
        stops=_K1,
        unit="%",
    )
    table = scores.cell_table(scores.key_neurons(recipe, f"ability:{ability}", KeyNeuronRule(k1=k1)))
    anatomy = resources.opened(recipe).base.anatomy
    density = cells.density_cells(table)
    rows, columns = cells.axes(density, cells.order(anatomy), anatomy.layers)
    heatmap(density, rows, columns, cells.density_scale([table]), key="tour-neurons", on_pick=_look_at)
    settled()


def _tensors(recipe: Recipe, ability: str, question: Question | None) -> None:
    if recipe.method.name != "maet":
        st.info(f"The recipe's method is {recipe.method.name}: it adds to every tensor. Go on to the next step.")
        return
    field = f"abilities.{ability}.tensors.k2"
    slider(
        "k₂: the share of the tensors that take the ability, the least similar first",
        recipe.abilities[ability].tensors.k2,
        lambda value: state.change(field, value),
        key="tour-k2",
        high=100.0,
        step=5.0,
        unit="%",
    )
    measured = in_memory.measured(recipe)
    selection = measured.select(recipe)[ability]
    grid = cells.similarity_cells(cells.by_place(selection.rows))
    anatomy = measured.sources.base.anatomy
    rows, columns = cells.axes(grid, cells.order(anatomy), anatomy.layers)
    heatmap(
        grid,
        rows,
        columns,
        cells.similarity_scale(grid),
        key="tour-tensors",
        on_pick=_look_at,
        legend=[("in", "takes the ability"), ("out", "languages only")],
    )
    settled()


def _answer(recipe: Recipe, ability: str, question: Question | None) -> None:
    gamma = recipe.abilities[ability].gamma
    field = f"abilities.{ability}.gamma"
    slider(
        f"γ: how much of R({ability}) is added",
        gamma,
        lambda value: state.change(field, value),
        key="tour-gamma",
        high=2.0,
    )
    if question is None:
        st.info("The workspace has no question to ask; type one on Merge.")
        return
    questions.show_question(question)
    answers.panel_auto("tour", [slots.merged_slot(recipe)], question, settled)


def _look_at(row: str, column: str) -> None:
    state.set_view("cell", [row, column])


_STEPS: tuple[tuple[str, str, Callable, str, str], ...] = (
    (
        "Where the ability sits",
        "Training on the ability moved some neurons far and most of them hardly at all. The darker a cell, the more of its "
        "neurons are among the ones that moved most. Columns are layers, rows are the parts of a layer.",
        _neurons,
        "neurons",
        "Look inside on Neurons",
    ),
    (
        "Which tensors take it",
        "The languages moved the same weights. Where ability and languages point in different directions, they do not disturb "
        "each other, and the ability is added there; a lower k₂ leaves out the most similar tensors.",
        _tensors,
        "tensors",
        "Choose by hand on Tensors",
    ),
    (
        "Move γ and read the answer",
        "Nothing is trained here: the weights in memory follow the slider, and the question is asked again. Take γ to 0, and "
        "back.",
        _answer,
        "merge",
        "All coefficients on Merge",
    ),
)
