"""Where an ability sits: key neurons by layer and module beside a control or another score, down to single units."""

import streamlit as st
from pydantic import ValidationError

from maet_core.recipe import KeyNeuronRule, Recipe
from maet_core.studio import (
    cells,
    charts,
    files,
    key_sets,
    knock_out,
    learning,
    scores,
    shell,
    state,
    unit_page,
    units,
)
from maet_core.studio.heatmap import heatmap
from maet_core.studio.slider import settled, slider

shell.guard()

GRANULARITIES = {"parameter": "single parameters", "unit": "hidden units"}
DRAWINGS = {"density": "key neurons", "importance": "mean importance", "difference": "difference"}
LOOKS = {"shares": "Shares", "overlap": "Overlap", "stability": "Stability", "knock": "Knock out"}
_PICKED = "_neurons_picked"
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

    left, middle, right = st.columns([5, 3, 3], vertical_alignment="bottom")
    with left:
        slider(
            "k1: the share of all neurons that counts as key",
            rule.k1,
            lambda value: set_rule(ability, "k1", value),
            key="neurons-k1",
            stops=scores.K1_STEPS,
            limits=(0.0, 100.0),
            unit="%",
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


def choose_scores(recipe: Recipe, ability: str) -> tuple[scores.Origin, scores.Origin, str]:
    """What the map shows, what stands beside it, and which figure is drawn."""
    origins = {origin.id: origin for origin in scores.origins(recipe)}
    first = f"ability:{ability}"

    def name(id: str) -> str:
        return f"{origins[id].title} · {origins[id].note}"

    if first not in origins:  # a pack: asking for its scores tells why there are none
        scores.key_neurons(recipe, first, KeyNeuronRule())
    left, middle, right = st.columns([4, 4, 5])
    chosen = left.selectbox(
        "Score", format_func=name, **state.bound_view("neurons-score", list(origins), "score", first)
    )
    beside = middle.selectbox(
        "Beside it", format_func=name, **state.bound_view("neurons-beside", list(origins), "beside", scores.RANDOM)
    )
    with right:
        drawing = st.segmented_control(
            "Draw",
            format_func=DRAWINGS.get,
            required=True,
            **state.bound_view("neurons-draw", list(DRAWINGS), "draw", "density"),
        )
    return origins[chosen], origins[beside], drawing


def pick(module: str, layer: str) -> None:
    if state.cell() != (module, layer):
        state.set_view("zoom", None)
    state.set_view("cell", [module, layer])
    st.session_state[_PICKED] = True


def draw_map(table, grid, scale, key: str, heading: str) -> None:
    """One map with the shares of its key neurons at the margins."""
    st.markdown(heading)
    modules, layers = cells.density_shares(table, rows, columns)
    heatmap(
        grid,
        rows,
        columns,
        scale,
        key=key,
        on_pick=pick,
        selected=state.cell(),
        row_shares=modules,
        column_shares=layers,
        shares_title="share of all key",
        title=heading.replace("*", ""),
        csv=files.csv_text(table.drop(columns="tensors")),
    )


def draw_maps(first, second, tables, drawing: str, beside_title: str) -> None:
    """Both maps in one scale, or the difference of the two."""
    titles = (f"**{first.title}** · {first.note}", f"**{second.title}** · {beside_title}")
    if drawing == "difference":
        grid = cells.difference_cells(*tables)
        heading = (
            f"**{first.title} − {second.title}** · orange: more key neurons in {first.title}, blue: in {second.title}"
        )
        draw_map(tables[0], grid, cells.difference_scale(grid), "neurons-map", heading)
        return
    if drawing == "importance":
        alike = first.note == second.note  # another locator's importance has another unit
        scales = [cells.importance_scale(tables if alike else [table]) for table in tables]
        grids = [cells.importance_cells(table, scale) for table, scale in zip(tables, scales, strict=True)]
    else:
        scales = [cells.density_scale(tables)] * 2
        grids = [cells.density_cells(table) for table in tables]
    wide = len(columns) > 12
    places = (st.container(), st.container()) if wide else st.columns([5, 4], gap="medium")
    for place, table, grid, scale, key, title in zip(
        places, tables, grids, scales, ("neurons-map", "neurons-control"), titles, strict=True
    ):
        with place:
            draw_map(table, grid, scale, key, title)


def look_at_sets(recipe: Recipe, rule: KeyNeuronRule, origin: scores.Origin, keys, table) -> None:
    look = st.segmented_control(
        "Look at",
        format_func=LOOKS.get,
        required=True,
        **state.bound_view("neurons-look", list(LOOKS), "look", "shares"),
    )
    with shell.calmly():
        if look == "shares":
            key_sets.shares(table, rows, columns)
        elif look == "overlap":
            key_sets.overlap_map(recipe, rule, keys.scores.granularity)
        elif look == "stability":
            key_sets.stability(recipe)
        else:
            signature = (origin.id, rule.model_dump_json(), recipe.base)
            knock_out.section(recipe, keys, origin.title, signature, settled if factor_moved else lambda: None)


shell.title(
    "Neurons",
    "A neuron is key for an ability when training on the ability moved it most. Click a cell to see the units inside.",
)
recipe = shell.need_recipe()
ability = shell.need_ability(recipe, "neurons-ability")

rule = controls(recipe, ability)
first, second, drawing = choose_scores(recipe, ability)
learning.locate_form(recipe, rule)
with st.container():  # what follows keeps its place, whether there is something to wait for or not
    keys = scores.key_neurons(recipe, first.id, rule)
    other = scores.key_neurons(recipe, second.id, rule)
    tables = [scores.cell_table(keys), scores.cell_table(other)]
anatomy = keys.scores.base.anatomy
rows, columns = cells.axes(cells.density_cells(tables[0]), cells.order(anatomy), anatomy.layers)

figures = [
    (f"{keys.count:,}", f"key of {keys.total:,} neurons ({100 * keys.count / max(keys.total, 1):.3g} %)"),
    (
        f"{100 * tables[0]['density'].max():.1f} %",
        f"in the densest cell; {second.title}: {100 * tables[1]['density'].max():.1f} %",
    ),
]
line = st.container()
# Of a large model the two sets are compared last: the maps need not wait for it.
quick = scores.is_quick(keys.scores) and scores.is_quick(other.scores)
with line:
    charts.numbers(*figures, *(key_sets.overlap_line(keys, other) if quick else ()))
restrict_switch(recipe, ability)


def maps() -> None:
    note = f"{other.count:,} neurons, same colours" if drawing == "density" else second.note
    draw_maps(first, second, tables, drawing, note)
    if not factor_moved:
        settled()


def inside() -> None:
    place = state.cell()
    if place in cells.density_cells(tables[0]):
        unit_page.show(recipe, rule, place, units.inside(keys, place))
    else:
        st.caption("Click a cell of the map, or reach it with Tab and the arrow keys and press Enter.")


def sets() -> None:
    look_at_sets(recipe, rule, first, keys, tables[0])


factor_moved = knock_out.has_moved()
parts = [(st.container(), draw) for draw in (maps, inside, sets)]
# what somebody has touched is drawn first: a click on a cell shows what is inside
wanted = inside if st.session_state.pop(_PICKED, False) else sets if factor_moved else maps
for part, draw in sorted(parts, key=lambda one: one[1] is not wanted):
    with part:
        draw()
if state.view("look", "shares") in ("shares", "knock"):  # the other views draw no charts
    charts.choose_picture_format("neurons")
if not quick:
    with line:
        charts.numbers(*key_sets.overlap_line(keys, other))
