"""Merge: presets and back, settings that are kept, the grid, scaling by part; and the guided visit on Start."""

import json

import pytest
from page_tools import html_text, no_complaint, recipe_of, slide, widget

from maet_core.recipe import Recipe
from maet_core.studio import formula, scaling


def test_a_preset_and_back_to_mine(app):
    test = app("merge", **{"recipe": "demo", "eta": "0.5"})
    before = recipe_of(test)
    presets = "merge-preset"
    widget(test.get("button_group"), presets).set_value("languages-only").run()
    no_complaint(test)
    assert recipe_of(test).abilities["math"].gamma == 0
    assert recipe_of(test).languages == before.languages
    widget(test.get("button_group"), presets).set_value("task-vector").run()
    assert recipe_of(test).method.name == "task-arithmetic"
    assert recipe_of(test).abilities["math"].gamma == 1.0  # of mine, not of the preset before
    widget(test.get("button_group"), presets).set_value("mine").run()
    no_complaint(test)
    assert recipe_of(test) == before


def test_a_setting_is_kept_rated_restored_and_removed(app, workspace):
    test = app("merge")
    before = recipe_of(test)
    test.text_input(key="merge-setting-name").set_value("as it came").run()
    test.button(key="merge-setting-keep").click().run()
    no_complaint(test)
    file = workspace / "notebook" / "settings.jsonl"
    row = json.loads(file.read_text())
    assert (row["name"], row["question"]) == ("as it came", "Asha ana maembe 3 na ananunua 4 zaidi. Ana mangapi?")
    assert Recipe.from_dict(row["recipe"]) == before
    slide(test, "merge-eta", 0.5)
    test.feedback(key=f"merge-rate-{row['id']}").set_value(3).run()
    assert json.loads(file.read_text().splitlines()[-1])["rating"] == 4
    test.button(key=f"merge-restore-{row['id']}").click().run()
    assert recipe_of(test) == before
    test.button(key=f"merge-forget-{row['id']}").click().run()
    no_complaint(test)
    assert "as it came" not in html_text(test)
    test.button(key="merge-setting-keep").click().run()
    assert "needs a name" in test.warning[0].value


def test_the_grid_fills_in_and_survives_a_change_of_its_own_coefficients(app):
    test = app("merge", grid="[0.0, 1.0, 2, 0.5, 1.0, 2]")
    test.button(key="merge-grid-go").click().run()
    no_complaint(test)
    work = test.session_state["_fillings"]["merge-grid"]
    assert set(work.answers) == {(0.0, 0.5), (0.0, 1.0), (1.0, 0.5), (1.0, 1.0)}
    kept = dict(work.answers)
    slide(test, "merge-eta", 0.5)
    assert test.session_state["_fillings"]["merge-grid"].answers == kept
    slide(test, "merge-languages.sw.mu", 0.9)
    no_complaint(test)
    assert test.session_state["_fillings"]["merge-grid"].answers == {}


@pytest.mark.parametrize("grid", ["[1]", "[0, 1e9, 2, 0, 1, 2]", '["a", 1, 2, 0, 1, 2]', "[0, 1, 999, 0, 1, 1]", "7"])
def test_a_link_to_a_grid_that_makes_no_sense_gets_the_usual_one(app, grid):
    test = app("merge", grid=grid)
    assert not test.exception
    assert test.button(key="merge-grid-go").label == "Fill in 25 cells"


def test_scaling_by_part_goes_into_recipe_formula_and_link(app):
    test = app("merge", expert="true")
    slide(test, "merge-scale-ability-module:down_proj", 0.5)
    no_complaint(test)
    assert recipe_of(test).to_dict()["scales"] == [{"tensors": "module:down_proj", "ability": 0.5, "languages": 1.0}]
    assert "a[t]" in test.latex[0].value
    assert "module:down\\_proj" in test.latex[0].value
    link = {key: value if isinstance(value, str) else value[0] for key, value in test.query_params.items()}
    assert recipe_of(app("merge", **link)) == recipe_of(test)
    test.button(key="merge-scales-reset").click().run()
    no_complaint(test)
    assert recipe_of(test).scales == []


def test_a_pattern_with_only_ones_goes():
    recipe = Recipe.from_dict({"base": "b"})
    once = scaling.scaled(recipe, "languages", "layer:0-1", 0.5)
    assert scaling.scaled(once, "ability", "layer:0-1", 0.0).scales[0].model_dump() == {
        "tensors": "layer:0-1",
        "ability": 0.0,
        "languages": 0.5,
    }
    assert scaling.scaled(once, "languages", "layer:0-1", 1.0) == recipe


@pytest.mark.parametrize(("layers", "expected"), [(0, []), (1, [(0, 0)]), (3, [(0, 0), (1, 1), (2, 2)])])
def test_bands_of_few_layers(layers, expected):
    assert scaling.bands(layers) == expected


def test_bands_cover_every_layer_once():
    found = scaling.bands(30)
    assert len(found) == scaling.BANDS
    assert [layer for low, high in found for layer in range(low, high + 1)] == list(range(30))


def test_the_formula_names_factors_only_where_there_are_some():
    recipe = Recipe.from_dict({"base": "b", "languages": {"sw": {"checkpoint": "c"}}})
    assert "l[t]" not in formula.equations(recipe)
    scaled = scaling.scaled(recipe, "languages", "layer:0-1", 0.5)
    assert r"l[t]\,R_{\mathrm{Lang}}[t]" in formula.equations(scaled)


def test_the_guided_visit_can_be_taken_left_and_is_not_pressed(app):
    test = app("start")
    assert "tour" not in test.query_params
    test.button(key="tour-begin").click().run()
    for title in ("Where the ability sits", "Which tensors take it", "Move γ and read the answer"):
        no_complaint(test)
        assert title in [element.value for element in test.subheader]
        if title.startswith("Which"):
            slide(test, "tour-k2", 50.0)
            assert recipe_of(test).abilities["math"].tensors.k2 == 50.0
        if not title.startswith("Move"):
            test.button(key="tour-next").click().run()
    assert test.session_state["_answers"]["tour"]["answers"]["Merged"].finished
    test.button(key="tour-done").click().run()
    no_complaint(test)
    assert "tour" not in test.query_params
    assert "again" in test.button(key="tour-begin").label
    link = app("start", tour="2")
    no_complaint(link)
    assert "Which tensors take it" in [element.value for element in link.subheader]
    link.button(key="tour-skip").click().run()
    assert "Which tensors take it" not in [element.value for element in link.subheader]
