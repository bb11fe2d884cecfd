"""Where an ability sits: key neurons by layer and module, beside as many random ones, and the units inside a cell."""

import streamlit as st
from pydantic import ValidationError

from maet_core.importance import LOCATORS
from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import cells, charts, resources, shell, state
from maet_core.studio.heatmap import heatmap

shell.guard()

K1_STEPS = (0.1, 0.2, 0.5, 1.0, 2.0, 3.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 50.0, 75.0, 100.0)
TOP_UNITS = 25
GRANULARITIES = {"parameter": "single parameters", "unit": "hidden units"}
SCOPES = {"global": "the whole model", "per-tensor": "each tensor"}


def current_rule(recipe: Recipe, ability: str) -> KeyNeuronRule:
    """The recipe's rule; where it has none, what this page was last set to."""
    rule = recipe.abilities[ability].key_neurons
    try:
        return rule or KeyNeuronRule.model_validate(state.view("rule", {}))
    except ValidationError:  # a link with a rule that makes no sense
        return KeyNeuronRule()


def set_rule(ability: str, field: str, value) -> None:
    """Changes one field of the rule: in the recipe if it has one, else for this page only."""
    recipe = state.recipe()
    rule = current_rule(recipe, ability).model_copy(update={field: value}).model_dump(exclude_none=True)
    if recipe.abilities[ability].key_neurons is None:
        state.set_view("rule", rule)
    else:
        state.change(f"abilities.{ability}.key_neurons", rule)


def controls(recipe: Recipe, ability: str) -> KeyNeuronRule:
    rule = current_rule(recipe, ability)

    def bound(field: str) -> dict:
        return state.bound(f"neurons-{field}", getattr(rule, field), lambda value: set_rule(ability, field, value))

    left, middle, right = st.columns([5, 3, 3])
    left.select_slider(
        "k1: the share of all neurons that counts as key",
        sorted({*K1_STEPS, rule.k1}),
        format_func=lambda value: f"{value:g} %",
        **bound("k1"),
    )
    middle.selectbox("A neuron is one of", list(GRANULARITIES), format_func=GRANULARITIES.get, **bound("granularity"))
    right.selectbox("The top k1 % of", list(SCOPES), format_func=SCOPES.get, **bound("scope"))
    return rule


def restrict_switch(recipe: Recipe, ability: str) -> None:
    def take(on: bool) -> None:
        rule = current_rule(state.recipe(), ability).model_dump(exclude_none=True)
        state.set_view("rule", None if on else rule)
        state.change(f"abilities.{ability}.key_neurons", rule if on else None)

    st.toggle(
        "Merge only what these neurons learned",
        help="On: R(A) keeps the differences of key neurons and drops all others. Off: R(A) keeps every difference.",
        **state.bound("neurons-restrict", recipe.abilities[ability].key_neurons is not None, take),
    )


def draw_map(table, rows, columns, scale, key: str, heading: str, with_shares: bool) -> None:
    st.markdown(heading)
    modules, layers = cells.density_shares(table, rows, columns) if with_shares else (None, None)
    heatmap(
        cells.density_cells(table),
        rows,
        columns,
        scale,
        key=key,
        on_pick=lambda module, layer: state.set_view("cell", [module, layer]),
        selected=state.cell(),
        row_shares=modules,
        column_shares=layers,
        shares_title="share of all key",
    )


def inside(keys, place: cells.Place) -> None:
    units = resources.unit_table(keys, place[0], cells.layer_of(place[1]))
    if units.empty:
        return
    st.subheader(f"Inside {cells.place_name(place)}")
    total, key_count = int(units["neurons"].sum()), int(units["key_neurons"].sum())
    held = int((units["key_neurons"] > 0).sum())
    charts.numbers(
        (f"{key_count:,}", f"of {total:,} neurons are key ({100 * key_count / total:.1f} %)"),
        (f"{held:,}", f"of {len(units):,} units hold one or more"),
        (
            f"{100 * _top_share(units):.0f} %",
            f"of the cell's key neurons lie in its {_tenth(units)} most important units",
        ),
    )
    chart, table = st.columns([3, 2], gap="medium")
    with chart:
        figure, size = charts.unit_bars(units)
        st.plotly_chart(figure, key="neurons-units", config={"displayModeBar": False})
        if size > 1:
            st.caption(f"Each bar is the highest of {size} neighbouring units.")
    with table:
        show_units(units)


def show_units(units) -> None:
    top = units.nlargest(TOP_UNITS, "importance")
    names = ["unit", "importance", "key_neurons", "neurons"]
    if units["expert"].notna().any():
        names = ["expert", *names]
    if units["tensor"].nunique() > 1:
        names = ["tensor", *names]
    st.dataframe(
        top[names],
        hide_index=True,
        height=212,
        column_config={
            "importance": st.column_config.ProgressColumn(
                "importance", format="%.3g", min_value=0.0, max_value=float(top["importance"].max()) or 1.0
            ),
            "key_neurons": st.column_config.NumberColumn("key", help="how many of the unit's neurons are key"),
            "neurons": st.column_config.NumberColumn("of", help="neurons in the unit"),
        },
    )
    st.caption(f"The {len(top)} most important of {len(units):,} units.")


def _tenth(units) -> int:
    return max(1, round(len(units) / 10))


def _top_share(units) -> float:
    total = units["key_neurons"].sum()
    return float(units.nlargest(_tenth(units), "importance")["key_neurons"].sum() / total) if total else 0.0


shell.title(
    "Neurons",
    "A neuron is key for an ability when training on the ability moved it most. Click a cell to see the units inside.",
)
recipe = shell.need_recipe()
ability = shell.need_ability(recipe, "neurons-ability")

rule = controls(recipe, ability)
keys = resources.key_neurons(recipe, ability, rule)
control = resources.key_neurons(recipe, ability, rule.model_copy(update={"method": "random", "scores": None}))
table, control_table = resources.cell_table(keys), resources.cell_table(control)
anatomy = keys.scores.base.anatomy
density = cells.density_cells(table)
rows, columns = cells.axes(density, cells.order(anatomy), anatomy.layers)
scale = cells.density_scale([table, control_table])

charts.numbers(
    (f"{keys.count:,}", f"key of {keys.total:,} neurons ({100 * keys.count / max(keys.total, 1):.3g} %)"),
    (
        f"{100 * table['density'].max():.1f} %",
        f"in the densest cell; random: {100 * control_table['density'].max():.1f} %",
    ),
)
restrict_switch(recipe, ability)
wide = len(columns) > 12
left, right = (st.container(), st.container()) if wide else st.columns([5, 4], gap="medium")
with left:
    draw_map(
        table, rows, columns, scale, "neurons-map", f"**{ability}** · {LOCATORS[rule.method].title}", with_shares=True
    )
with right:
    draw_map(
        control_table,
        rows,
        columns,
        scale,
        "neurons-control",
        f"**Control** · {control.count:,} random neurons, same colours",
        with_shares=True,
    )
place = state.cell()
if place in density:
    inside(keys, place)
else:
    st.caption("Click a cell of the map, or reach it with Tab and the arrow keys and press Enter.")
