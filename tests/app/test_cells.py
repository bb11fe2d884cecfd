"""Cells of the heatmap: what a click on a tensor does to the recipe, axes, and marks."""

import pytest

from maet_core.selection import measure
from maet_core.sources import Sources
from maet_core.studio import cells
from maet_core.workspace import Workspace

PLACE = ("down_proj", "1")
NAME = "model.layers.1.mlp.down_proj.weight"


@pytest.fixture(scope="module")
def measured(small_workspace):
    workspace = Workspace.open(small_workspace)
    return measure(Sources.open(workspace.load_recipe("demo"), workspace.path))


@pytest.fixture
def recipe(measured):
    return measured.sources.recipe


def with_rule(recipe, **rule):
    return recipe.with_value("abilities.math.tensors", {"k2": 100.0, **rule})


def chosen(measured, recipe) -> bool:
    return NAME in measured.select(recipe)["math"].tensors


@pytest.mark.parametrize(
    "rule",
    [
        {},
        {"k2": 0.0},
        {"include": ["module:down_proj"], "k2": 0.0},
        {"exclude": ["module:down_proj"]},
        {"exclude": ["layer:0-2"], "k2": 0.0},
        {"include": ["*"], "exclude": ["layer:1"]},
        {"include": [NAME], "exclude": [NAME]},
    ],
)
def test_a_click_always_changes_the_cell_and_nothing_else(measured, recipe, rule):
    before = with_rule(recipe, **rule)
    after = cells.toggled(before, "math", [PLACE], measured.select)
    assert chosen(measured, after) != chosen(measured, before)
    others = [measured.select(one)["math"].tensors - {NAME} for one in (before, after)]
    assert others[0] == others[1]
    again = cells.toggled(after, "math", [PLACE], measured.select)
    assert measured.select(again)["math"].tensors == measured.select(before)["math"].tensors


@pytest.mark.parametrize("k2", [0.0, 100.0])
def test_two_clicks_leave_no_trace(measured, recipe, k2):
    before = with_rule(recipe, k2=k2)
    once = cells.toggled(before, "math", [PLACE], measured.select)
    assert once != before
    assert cells.toggled(once, "math", [PLACE], measured.select) == before


def test_patterns_that_are_not_in_the_way_are_kept(measured, recipe):
    before = with_rule(recipe, exclude=["layer:0"], include=["module:up_proj"])
    after = cells.toggled(before, "math", [PLACE], measured.select).abilities["math"].tensors
    assert after.exclude == ["layer:0", NAME]
    assert after.include == ["module:up_proj"]


MODULES = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


def test_whole_lines_become_patterns_and_leave_no_trace(measured, recipe):
    def hand(before, places):
        after = cells.toggled(before, "math", places, measured.select)
        return after, after.abilities["math"].tensors

    everything = cells.by_place(measured.select(recipe)["math"].rows)
    layers = [place for place in everything if place[1] in ("1", "2")]
    after, rule = hand(with_rule(recipe), layers)
    assert (rule.include, rule.exclude) == ([], ["layer:1-2"])
    assert {row.layer for row in measured.select(after)["math"].rows if row.selected}.isdisjoint({1, 2})
    assert hand(after, layers)[0] == with_rule(recipe)
    rows = [(module, str(layer)) for module in ("gate_proj", "up_proj") for layer in range(3)]
    rule = hand(with_rule(recipe, k2=0.0), rows)[1]
    assert (rule.include, rule.exclude) == (["module:gate_proj", "module:up_proj"], [])
    corner = [(module, layer) for module in ("gate_proj", "up_proj") for layer in "01"]
    rule = hand(with_rule(recipe, k2=0.0), corner)[1]
    assert rule.include == [f"model.layers.{i}.mlp.{name}_proj.weight" for i in (0, 1) for name in ("gate", "up")]


def test_an_area_changes_what_is_in_it_and_nothing_else(measured, recipe):
    before = with_rule(recipe, k2=40.0, exclude=["module:up_proj"], include=["layer:2"])
    area = [(module, layer) for module in MODULES for layer in "12"]
    chosen = [measured.select(before)["math"].tensors]
    for wanted in (False, True):
        after = cells.with_hand(before, "math", area, wanted, measured.select)
        chosen.append(measured.select(after)["math"].tensors)
    inside = {row.name for place in area for row in cells.by_place(measured.select(before)["math"].rows).get(place, ())}
    assert chosen[1] == chosen[0] - inside
    assert chosen[2] == chosen[0] | inside


def test_marks_say_what_rule_and_hand_did(measured, recipe):
    def mark(**rule) -> str:
        rows = measured.select(with_rule(recipe, **rule))["math"].rows
        return cells.similarity_cells(cells.by_place(rows))[PLACE].mark

    assert mark() == "in"
    assert mark(k2=0.0) == "out"
    assert mark(exclude=[NAME]) == "hand-out"
    assert mark(k2=0.0, include=[NAME]) == "hand-in"


def test_axes_keep_the_order_of_computation_and_every_layer():
    places = [("down_proj", "2"), ("q_proj", "0"), ("embed_tokens", cells.OUTSIDE), ("strange", "1")]
    rows, columns = cells.axes(places, ("embed_tokens", "q_proj", "k_proj", "down_proj"), 4)
    assert rows == ["embed_tokens", "q_proj", "down_proj", "strange"]
    assert columns == ["0", "1", "2", "3", cells.OUTSIDE]
