"""Which tensors the ability is added to: the similarity of R(A) and R_Lang, the k2 rule, and changes by hand."""

import functools

import streamlit as st

from maet_core.recipe import Recipe
from maet_core.studio import cells, charts, resources, shell, state
from maet_core.studio.heatmap import heatmap

shell.guard()

LEGEND = (
    ("in", "kept"),
    ("out", "left out"),
    ("part", "some kept"),
    ("hand-in", "added by hand"),
    ("hand-out", "removed by hand"),
)


def k2_slider(recipe: Recipe, ability: str) -> None:
    field = f"abilities.{ability}.tensors.k2"
    st.slider(
        "k2: the share of the candidate tensors that the rule keeps, lowest similarity first",
        0.0,
        100.0,
        step=1.0,
        format="%g %%",
        **state.bound("tensors-k2", recipe.abilities[ability].tensors.k2, lambda k2: state.change(field, float(k2))),
    )


def totals(selection) -> None:
    rows = selection.rows
    kept = [row for row in rows if row.selected]
    parameters, all_parameters = sum(row.parameters for row in kept), sum(row.parameters for row in rows)
    power, all_power = sum(row.norm**2 for row in kept), sum(row.norm**2 for row in rows)
    added = sum(row.by == "hand" and row.selected for row in rows)
    removed = sum(row.by == "hand" and not row.selected for row in rows)
    charts.numbers(
        (f"{len(kept)}", f"of {len(rows)} tensors kept"),
        (f"{parameters:,}", f"of {all_parameters:,} parameters ({100 * parameters / max(all_parameters, 1):.0f} %)"),
        (f"{100 * power / all_power if all_power else 0:.0f} %", "of ‖R(A)‖² kept"),
        (f"{added} + {removed}", "added and removed by hand"),
    )


def hand_patterns(recipe: Recipe, ability: str) -> None:
    rule, field = recipe.abilities[ability].tensors, f"abilities.{ability}.tensors"

    def reset() -> None:
        cleared = state.recipe().abilities[ability].tensors.model_copy(update={"include": [], "exclude": []})
        state.change(field, cleared.model_dump())

    def take(side: str, text: str) -> None:
        patterns = [line.strip() for line in text.splitlines() if line.strip()]
        wanted = state.recipe().with_value(f"{field}.{side}", patterns)
        resources.measured(wanted).select(wanted)  # a pattern that matches nothing is refused here
        state.set_recipe(wanted)

    st.button(
        "Undo all changes by hand", on_click=reset, disabled=not (rule.include or rule.exclude), key="tensors-reset"
    )
    with st.expander("Changes by hand as patterns"):
        st.caption(
            "One a line: a tensor's name, a glob such as `model.layers.3.*`, `layer:2-5`, or `module:down_proj`. "
            "Removed wins over added."
        )
        for side, label, place in zip(("include", "exclude"), ("Added", "Removed"), st.columns(2), strict=True):
            text = "\n".join(getattr(rule, side))
            place.text_area(label, height=120, **state.bound(f"tensors-{side}", text, functools.partial(take, side)))


def table(selection) -> None:
    with st.expander(f"All {len(selection.rows)} candidate tensors"):
        st.dataframe(
            [
                {
                    "tensor": row.name,
                    "cosine": row.cosine,
                    "parameters": row.parameters,
                    "‖R(A)‖": row.norm,
                    "kept": row.selected,
                    "by": row.by,
                }
                for row in sorted(selection.rows, key=lambda row: (row.cosine, row.name))
            ],
            hide_index=True,
            column_config={
                "cosine": st.column_config.NumberColumn(format="%+.4f"),
                "‖R(A)‖": st.column_config.NumberColumn(format="%.4g"),
                "parameters": st.column_config.NumberColumn(format="localized"),
            },
        )


shell.title(
    "Tensors",
    "Where R(A) and R_Lang point the same way, the ability and the languages changed the same thing. "
    "The ability is added only to the tensors kept here. Click a cell to add or remove it.",
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
measured = resources.measured(recipe)
selection = measured.select(recipe)[ability]
if not selection.rows:
    st.info("R(A) is zero everywhere: there is nothing to select. Move α or β on the Merge page.")
    st.stop()
places = cells.by_place(selection.rows)
grid = cells.similarity_cells(places)
anatomy = measured.sources.base.anatomy
rows, columns = cells.axes(places, cells.order(anatomy), anatomy.layers)


def picked(module: str, layer: str) -> None:
    # the state's recipe, not this run's: a second click may come before the page has been drawn again
    state.set_recipe(cells.toggled(state.recipe(), ability, (module, layer), measured.select))


totals(selection)
heatmap(
    grid,
    rows,
    columns,
    cells.similarity_scale(grid),
    key="tensors-map",
    on_pick=picked,
    legend=[(mark, label) for mark, label in LEGEND if mark in ("in", "out", *(cell.mark for cell in grid.values()))],
)
hand_patterns(recipe, ability)
table(selection)
