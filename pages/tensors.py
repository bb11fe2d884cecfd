"""Which tensors the ability is added to: the similarity of R(A) and R_Lang, the k2 rule, and changes by hand."""

import functools

import pandas as pd
import streamlit as st

from maet_core.recipe import Recipe
from maet_core.studio import cells, charts, entries, files, in_memory, shell, state
from maet_core.studio.heatmap import heatmap
from maet_core.studio.slider import settled, slider

shell.guard()

MOST_STEPS = 50
LEGEND = (
    ("in", "kept"),
    ("out", "left out"),
    ("part", "some kept"),
    ("hand-in", "added by hand"),
    ("hand-out", "removed by hand"),
)


def k2_slider(recipe: Recipe, ability: str) -> None:
    field = f"abilities.{ability}.tensors.k2"
    slider(
        "k2: the share of the tensors that the rule keeps, least similar first",
        recipe.abilities[ability].tensors.k2,
        lambda k2: state.change(field, k2),
        key="tensors-k2",
        high=100.0,
        step=1.0,
        unit="%",
    )


def totals(selection) -> None:
    """What is kept and what is left out, in tensors, parameters and squared norm, beside a random choice of as many."""
    rows = selection.rows
    gone = [row for row in rows if not row.selected]
    parameters, all_parameters = sum(row.parameters for row in gone), sum(row.parameters for row in rows)
    power, all_power = sum(row.norm**2 for row in gone), sum(row.norm**2 for row in rows)
    by_rule = sum(row.selected == (row.by == "rule") for row in rows)
    added = sum(row.by == "hand" and row.selected for row in rows)
    removed = sum(row.by == "hand" and not row.selected for row in rows)
    charts.numbers(
        (
            f"{len(rows) - len(gone)}",
            f"of {len(rows)} tensors kept: {by_rule} by the rule, {added} added and {removed} removed by hand",
        ),
    )
    charts.numbers(
        (f"{len(gone)}", "tensors left out"),
        (f"{parameters:,}", f"of {all_parameters:,} parameters ({100 * parameters / max(all_parameters, 1):.1f} %)"),
        (
            f"{100 * power / all_power if all_power else 0:.1f} %",
            f"of ‖R(A)‖²; {len(gone)} random tensors: {100 * len(gone) / len(rows):.1f} % on average",
        ),
    )


def change(wanted: Recipe) -> None:
    """A change by hand that can be taken back."""
    steps = st.session_state.setdefault("_tensor_steps", [])
    now = state.recipe()
    if wanted != now:
        steps.append((ability, now.abilities[ability].tensors))
        del steps[:-MOST_STEPS]
    state.set_recipe(wanted)


def undo(steps_back: str) -> None:
    """`one`: the last change by hand here. `all`: everything that the hand has added and removed."""
    field, rule = f"abilities.{ability}.tensors", state.recipe().abilities[ability].tensors
    if steps_back == "all":
        change(state.recipe().with_value(field, rule.model_dump() | {"include": [], "exclude": []}))
        return
    steps = own_steps()
    if steps:
        st.session_state["_tensor_steps"].remove(steps[-1])
        before = {"include": steps[-1][1].include, "exclude": steps[-1][1].exclude}
        state.change(field, rule.model_dump() | before)


def own_steps() -> list:
    return [step for step in st.session_state.get("_tensor_steps", []) if step[0] == ability]


def choose_many() -> None:
    """By module type and layer range, for the keyboard and for large models; and the way back."""

    def take(wanted: bool) -> None:
        modules = st.session_state["tensors-modules"] or rows
        layers = [name for name in columns if name != cells.OUTSIDE]
        if len(layers) > 1:
            first, last = st.session_state["tensors-layers"]
            layers = layers[first : last + 1]
        if len(layers) == anatomy.layers:
            layers = columns
        chosen = [(module, layer) for module in modules for layer in layers if (module, layer) in places]
        if not chosen:
            state.notice("No candidate tensor is of these modules in these layers.")
            return
        change(cells.with_hand(state.recipe(), ability, chosen, wanted, measured.select))

    with st.container(horizontal=True, vertical_alignment="bottom", key="tensors-many"):
        st.multiselect(
            "Modules", rows, key="tensors-modules", placeholder="all modules", width=340, on_change=entries.acted
        )
        if anatomy.layers > 1:
            last = anatomy.layers - 1
            st.slider("Layers", 0, last, (0, last), key="tensors-layers", width=240, on_change=entries.acted)
        with st.container(horizontal=True, width="content"):  # side by side on a phone, too
            st.button("Add them", key="tensors-add", on_click=shell.guarded(take), args=(True,))
            st.button("Remove them", key="tensors-remove", on_click=shell.guarded(take), args=(False,))
    rule = recipe.abilities[ability].tensors
    with st.container(horizontal=True):
        st.button(
            "Undo the last change",
            key="tensors-undo",
            disabled=not own_steps(),
            on_click=shell.guarded(undo),
            args=("one",),
        )
        st.button(
            "Undo all changes by hand",
            key="tensors-reset",
            disabled=not (rule.include or rule.exclude),
            on_click=shell.guarded(undo),
            args=("all",),
        )


def hand_patterns(recipe: Recipe, ability: str) -> None:
    rule, field = recipe.abilities[ability].tensors, f"abilities.{ability}.tensors"

    def take(side: str, text: str) -> None:
        patterns = [line.strip() for line in text.splitlines() if line.strip()]
        wanted = state.recipe().with_value(f"{field}.{side}", patterns)
        in_memory.measured(wanted).select(wanted)  # a pattern that matches nothing is refused here
        change(wanted)

    with st.expander("Changes by hand as patterns"):
        st.caption(
            "One a line: a tensor's name, a glob such as `model.layers.3.*`, `layer:2-5`, or `module:down_proj`. "
            "Removed wins over added."
        )
        for side, label, place in zip(("include", "exclude"), ("Added", "Removed"), st.columns(2), strict=True):
            text = "\n".join(getattr(rule, side))
            place.text_area(label, height=120, **state.bound(f"tensors-{side}", text, functools.partial(take, side)))


def table(selection) -> None:
    found = selection_table(selection)
    with st.expander(f"All {len(found)} candidate tensors"):
        st.dataframe(
            found,
            hide_index=True,
            column_config={
                "cosine": st.column_config.NumberColumn(format="%+.4f"),
                "norm": st.column_config.NumberColumn("‖R(A)‖", format="%.4g"),
                "norm_share": st.column_config.NumberColumn("% of ‖R(A)‖²", format="%.2f"),
                "parameters": st.column_config.NumberColumn(format="localized"),
            },
        )
        files.csv_button(lambda: found, f"tensors-{ability}")


def selection_table(selection) -> pd.DataFrame:
    """One row a candidate, lowest similarity first."""
    power = sum(row.norm**2 for row in selection.rows) or 1.0
    return pd.DataFrame(
        {
            "tensor": row.name,
            "layer": cells.column(row.layer),
            "module": row.module,
            "cosine": row.cosine,
            "parameters": row.parameters,
            "norm": row.norm,
            "norm_share": 100 * row.norm**2 / power,
            "kept": row.selected,
            "by": row.by,
        }
        for row in sorted(selection.rows, key=lambda row: (row.cosine, row.name))
    )


shell.title(
    "Tensors",
    "The ability is added only to the tensors kept here: where it and the languages changed different things. Click a cell, drag "
    "over several, or click a name at the margin.",
)
recipe = shell.need_recipe()
ability = shell.need_ability(recipe, "tensors-ability")
if recipe.method.name != "maet":
    st.info(
        f"The recipe's method is {recipe.method.name}: it adds to every tensor, so there is nothing to choose here."
    )
    shell.link("merge", "Choose the method on Merge")
    st.stop()

k2_slider(recipe, ability)
with st.container():  # what follows keeps its place, whether there is something to wait for or not
    measured = in_memory.measured(recipe)
selection = measured.select(recipe)[ability]
if not selection.rows:
    st.info("R(A) is zero everywhere: there is nothing to select. Move α or β on the Merge page.")
    st.stop()
places = cells.by_place(selection.rows)
grid = cells.similarity_cells(places)
anatomy = measured.sources.base.anatomy
rows, columns = cells.axes(places, cells.order(anatomy), anatomy.layers)


def picked(chosen: list[cells.Place]) -> None:
    # the state's recipe, not this run's: a second click may come before the page has been drawn again
    change(cells.toggled(state.recipe(), ability, chosen, measured.select))


totals(selection)
modules, layers = cells.norm_shares(places, rows, columns)
heatmap(
    grid,
    rows,
    columns,
    cells.similarity_scale(grid),
    key="tensors-map",
    on_pick=lambda module, layer: picked([(module, layer)]),
    on_area=picked,
    row_shares=modules,
    column_shares=layers,
    shares_title="share of ‖R(A)‖²",
    legend=[(mark, label) for mark, label in LEGEND if mark in ("in", "out", *(cell.mark for cell in grid.values()))],
    title=f"{ability}: cosine of R(A) and R_Lang, k2 = {selection.k2:g} %",
    csv=files.csv_text(selection_table(selection)),
)
settled()
choose_many()
hand_patterns(recipe, ability)
table(selection)
