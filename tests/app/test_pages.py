"""Every page starts, and what a person sets ends up in the recipe, the URL and on the other pages."""

import json

import pytest
import streamlit as st
from page_tools import drawn, html_text, no_complaint, recipe_of, slide, widget

from maet_core.recipe import Recipe
from maet_core.studio import resources

PAGES = ("start", "models", "neurons", "tensors", "merge", "compare", "evaluate", "jobs")


@pytest.mark.parametrize("page", PAGES)
def test_page_starts_with_the_demo_recipe(app, page):
    test = app(page)
    no_complaint(test)
    assert recipe_of(test).base == "models/base"
    assert test.query_params["recipe"] == "demo" or test.query_params["recipe"] == ["demo"]


@pytest.mark.parametrize("page", PAGES)
def test_page_in_an_empty_workspace_says_what_to_do(app, page, tmp_path, monkeypatch):
    monkeypatch.setenv("MAET_WORKSPACE", str(tmp_path / "empty"))
    monkeypatch.setattr(resources, "DEMO_ASSETS", tmp_path / "nothing")
    test = app(page)
    no_complaint(test)
    assert test.info


@pytest.mark.parametrize("page", PAGES)
def test_a_workspace_that_is_a_file_is_a_calm_message(app, page, tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("MAET_WORKSPACE", str(tmp_path / "file"))
    test = app(page)
    assert not test.exception
    assert "expected a folder" in test.error[0].value
    assert all("expected a folder" in element.value for element in test.error)


@pytest.mark.parametrize("page", ["models", "tensors", "merge"])
def test_a_damaged_model_is_one_calm_message(app, workspace, page):
    (workspace / "models" / "lang-sw" / "model.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    test = app(page)
    assert not test.exception
    if page == "models":
        table = test.dataframe[0].value.set_index("name")
        assert table.loc["lang-sw", "fits"] == "unreadable"
        assert "cannot be read" in html_text(test)
        assert table.loc["lang-bn", "fits"] == "yes"
    else:
        said = " ".join(element.value for element in test.error)
        assert "sw" in said
        assert "Traceback" not in said


def test_start_answers_by_itself_and_keeps_the_answers(app):
    test = app("start")
    said = test.session_state["_answers"]["start"]["answers"]
    assert set(said) == {"Base", "Merged"}
    assert all(answer.finished in ("end", "length") for answer in said.values())
    test.run()
    assert test.session_state["_answers"]["start"]["answers"] == said


def test_k1_moves_the_key_neurons_and_the_recipe(app):
    test = app("neurons")
    before = html_text(test)
    slide(test, "neurons-k1", 20.0)
    no_complaint(test)
    assert recipe_of(test).abilities["math"].key_neurons.k1 == 20.0
    assert html_text(test) != before


def test_neurons_without_a_rule_in_the_recipe_leave_the_recipe_alone(app):
    test = app("neurons")
    widget(test.toggle, "neurons-restrict").set_value(False).run()
    assert recipe_of(test).abilities["math"].key_neurons is None
    slide(test, "neurons-k1", 10.0)
    no_complaint(test)
    assert recipe_of(test).abilities["math"].key_neurons is None
    assert "10 %" in html_text(test)
    widget(test.toggle, "neurons-restrict").set_value(True).run()
    assert recipe_of(test).abilities["math"].key_neurons.k1 == 10.0


def test_a_link_to_a_cell_shows_the_units_inside(app):
    test = app("neurons", cell=json.dumps(["down_proj", "1"]))
    no_complaint(test)
    assert "Inside layer 1 · down_proj" in [element.value for element in test.subheader]
    assert len(test.dataframe) == 1


@pytest.mark.parametrize(
    "cell", ['["down_proj", "99"]', '["<script>", "1"]', "[1", "7", "null", "[[], {}]", '{"a": 1}']
)
def test_a_link_to_a_cell_that_is_not_there_is_harmless(app, cell):
    test = app("neurons", cell=cell)
    assert not test.exception
    assert [element.value for element in test.error] == []


def test_k2_moves_the_selection(app):
    test = app("tensors")
    assert drawn(test, "tensors-k2")["value"] == 80.0
    slide(test, "tensors-k2", 0.0)
    no_complaint(test)
    assert recipe_of(test).abilities["math"].tensors.k2 == 0.0
    assert "<b>0</b>" in html_text(test)


def test_patterns_by_hand_and_undo(app):
    test = app("tensors")
    widget(test.text_area, "tensors-exclude").set_value("module:down_proj").run()
    no_complaint(test)
    assert recipe_of(test).abilities["math"].tensors.exclude == ["module:down_proj"]
    widget(test.text_area, "tensors-include").set_value("no.such.tensor").run()
    assert "matches no tensor" in test.warning[0].value
    assert recipe_of(test).abilities["math"].tensors.include == []
    test.button(key="tensors-reset").click().run()
    no_complaint(test)
    assert recipe_of(test).abilities["math"].tensors.exclude == []


def test_slider_and_number_field_are_one_value(app):
    test = app("merge")
    gamma = "merge-abilities.math.gamma"
    slide(test, gamma, 1.5)
    assert drawn(test, gamma)["value"] == 1.5
    slide(test, gamma, 7.25)
    no_complaint(test)
    assert recipe_of(test).abilities["math"].gamma == 7.25
    assert drawn(test, gamma) | {"value": 7.25, "high": 7.25} == drawn(test, gamma)
    assert "7.25" in test.latex[0].value


def test_the_link_carries_what_differs_and_only_that(app):
    test = app("merge")
    slide(test, "merge-languages.sw.mu", 0.8)
    shown = {key: value if isinstance(value, str) else value[0] for key, value in test.query_params.items()}
    assert shown == {"recipe": "demo", "languages.sw.mu": "0.8"}
    again = app("merge", **{"recipe": "demo", "languages.sw.mu": "0.8"})
    assert recipe_of(again) == recipe_of(test)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("eta", "banana"),
        ("eta", '"text"'),
        ("eta", "NaN"),
        ("base", '"../../etc"'),
        ("base", '"/etc"'),
        ("abilities.math.tensors.k2", "500"),
        ("abilities.math.nonsense", "1"),
        ("eta.deeper.still", "1"),
        ("recipe", "../../etc/passwd"),
        ("models", "{{"),
    ],
)
def test_a_link_that_cannot_be_followed_leaves_the_recipe_as_it_was(app, field, value):
    test = app("merge", **{"recipe": "demo", field: value})
    assert not test.exception
    assert test.warning
    assert recipe_of(test).base == "models/base"
    assert recipe_of(test).eta == 1.0


def test_save_and_load_a_recipe(app, workspace):
    test = app("merge")
    slide(test, "merge-eta", 0.5)
    test.text_input(key="merge-recipe-name").set_value("half").run()
    test.button(key="merge-save-recipe").click().run()
    no_complaint(test)
    saved = Recipe.load(workspace / "recipes" / "half.yaml")
    assert (saved.eta, saved.base) == (0.5, "../models/base")
    widget(test.selectbox, "merge-recipe").select("demo").run()
    assert recipe_of(test).eta == 1.0


@pytest.mark.parametrize("name", ["../outside", "/tmp/outside", "", "a/b", "..", ".hidden"])
def test_names_that_lead_out_of_the_workspace_are_refused(app, workspace, name):
    test = app("merge")
    test.text_input(key="merge-recipe-name").set_value(name).run()
    test.button(key="merge-save-recipe").click().run()
    assert not test.exception
    assert "expected a name" in test.warning[0].value
    assert [path.name for path in workspace.parent.iterdir()] == ["workspace"]
    assert [path.name for path in (workspace / "recipes").iterdir()] == ["demo.yaml"]


def test_models_choice_becomes_the_recipe(app):
    test = app("models")
    widget(test.multiselect, "models-languages").set_value(["models/lang-bn"]).run()
    no_complaint(test)
    assert list(recipe_of(test).languages) == ["bn"]
    widget(test.multiselect, "models-languages").set_value(["models/lang-bn", "models/lang-sw"]).run()
    assert recipe_of(test).languages["sw"].checkpoint == "models/lang-sw"
    widget(test.selectbox, "models-source-math").select("(none)").run()
    no_complaint(test)
    assert recipe_of(test).abilities["math"].source_language is None
    assert recipe_of(test).abilities["math"].beta == 0


def test_a_second_ability_is_added_beside_the_first_and_taken_out_again(app):
    test = app("models")
    widget(test.multiselect, "models-languages").set_value(["models/lang-sw"]).run()
    another = widget(test.selectbox, "models-another")
    assert another.options == ["lang-bn"]  # what the recipe does not have yet
    another.select("models/lang-bn").run()
    no_complaint(test)
    assert {name: one.ability for name, one in recipe_of(test).abilities.items()} == {
        "math": "models/math-en",
        "lang-bn": "models/lang-bn",
    }
    widget(test.selectbox, "models-ability-lang-bn").select("(none)").run()
    no_complaint(test)
    assert list(recipe_of(test).abilities) == ["math"]


@pytest.mark.parametrize("page", PAGES)
def test_every_page_works_with_two_abilities_and_with_none(app, workspace, page):
    second = """
  reading:
    ability: ../models/math-en
languages:"""
    demo = (workspace / "recipes" / "demo.yaml").read_text()
    (workspace / "recipes" / "two.yaml").write_text(demo.replace("\nlanguages:", second))
    (workspace / "recipes" / "none.yaml").write_text("base: ../models/base\n")
    test = app(page, recipe="two")
    no_complaint(test)
    assert list(recipe_of(test).abilities) == ["math", "reading"]
    test = app(page, recipe="none")
    no_complaint(test)
    assert recipe_of(test).abilities == {}


def test_compare_asks_all_models(app):
    test = app("compare")
    widget(test.multiselect, "compare-models").set_value(["base", "merged", "models/lang-sw"]).run()
    widget(test.number_input, "compare-length").set_value(9).run()
    test.button(key="compare-ask").click().run()
    no_complaint(test)
    said = test.session_state["_answers"]["compare"]["answers"]
    assert {label: answer.tokens for label, answer in said.items()} == {"Base": 9, "Merged": 9, "lang-sw": 9}
    assert html_text(test).count("9 tokens · ") == 3


def test_user_text_is_escaped(app):
    test = app("compare")
    widget(test.get("button_group"), "compare-language").set_value("typed").run()
    widget(test.text_area, "compare-typed").set_value("<img src=x onerror=alert(1)>").run()
    no_complaint(test)
    assert "&lt;img" in html_text(test)
    assert "<img" not in html_text(test)


def test_the_pages_are_the_files():
    assert {path.stem for path in (resources.PROJECT / "pages").glob("*.py")} == set(PAGES)
    assert st.get_option("server.address") == "127.0.0.1"
    assert st.get_option("logger.hideWelcomeMessage")  # else Streamlit advertises over the page


def test_another_method_and_back(app):
    """The menu drops what only MAET has, shows the method's own parameters, and brings everything back."""
    test = app("merge")
    before = recipe_of(test)
    widget(test.selectbox, "merge-method").set_value("ties").run()
    no_complaint(test)
    recipe = recipe_of(test)
    assert recipe.method.name == "ties"
    assert all(ability.key_neurons is None and ability.tensors.k2 == 100 for ability in recipe.abilities.values())
    widget(test.number_input, "merge-method-density").set_value(0.4).run()
    no_complaint(test)
    assert recipe_of(test).method.density == 0.4
    assert any("density" in element.value for element in test.latex)
    link = {key: value if isinstance(value, str) else value[0] for key, value in test.query_params.items()}
    assert json.loads(link["method.density"]) == 0.4
    tensors = app("tensors", **link)
    no_complaint(tensors)
    assert "ties" in tensors.info[0].value
    widget(test.selectbox, "merge-method").set_value("maet").run()
    no_complaint(test)
    assert recipe_of(test) == before
