"""Neurons: any two scores, unit pages, overlaps, shares, knock-out; and a model of 32 layers with 14336 units each."""

import json

import numpy as np
import pandas as pd
import pytest
import torch
from large_workspace import LAYERS, UNITS, build_large_workspace
from page_tools import drawn, html_text, no_complaint, recipe_of, slide, widget

from maet_core import importance
from maet_core.checkpoints import Checkpoint
from maet_core.importance import locate, save_scores
from maet_core.inspection.overlap import expected_jaccard
from maet_core.live import LiveModel
from maet_core.sources import Sources
from maet_core.studio import cells, files, in_memory, key_sets, knocked, scores
from maet_core.studio.units import pooled

CELL = json.dumps(["down_proj", "1"])


def save_random(workspace, name: str, granularity: str) -> None:
    base = Checkpoint.open(workspace / "models" / "base")
    save_scores(locate("random", base, granularity=granularity, seed=7), workspace / "scores" / f"{name}.safetensors")


# --- scores -------------------------------------------------------------------------------------------------------


def test_every_score_of_recipe_and_folder_can_be_chosen(app, workspace):
    save_random(workspace, "again", "parameter")
    (workspace / "scores" / "broken.safetensors").write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    test = app("neurons")
    no_complaint(test)
    offered = [origin.id for origin in scores.origins(recipe_of(test))]
    assert offered == [
        "ability:math",
        "source:math",
        "language:sw",
        "language:bn",
        "file:scores/again.safetensors",
        "file:scores/broken.safetensors",
        "random",
    ]
    assert len(widget(test.selectbox, "neurons-score").options) == len(offered)
    for choice in offered:
        test = app("neurons", score=json.dumps(choice), beside=json.dumps("language:sw"))
        assert not test.exception
        assert [("broken" in element.value) for element in test.error] == ([True] if "broken" in choice else [])


def test_a_file_that_ranks_the_ability_is_no_score_beside_it(app, workspace):
    save_random(workspace, "math", "parameter")
    path = workspace / "recipes" / "demo.yaml"
    path.write_text(path.read_text().replace("k1: 5.0,", "k1: 5.0, scores: ../scores/math.safetensors,"))
    ids = [origin.id for origin in scores.origins(recipe_of(app("neurons")))]
    assert "ability:math" in ids
    assert "file:scores/math.safetensors" not in ids


def test_a_cell_says_every_figure_once():
    table = pd.DataFrame({"layer": [0], "module": ["q"], "mean_importance": [0.00025]})
    table = table.assign(density=0.266, key_neurons=266, neurons=1000)
    density, importance = cells.density_scale([table]), cells.importance_scale([table])
    maps = (cells.density_cells(table), density), (cells.importance_cells(table, importance), importance)
    for made, scale in maps:
        cell = made["q", "0"]
        said = " ".join((scale.text(cell.value), *cell.lines))
        assert said.count("26.6") == 1
        assert said.count("266 of 1,000") == 1


@pytest.mark.parametrize("draw", ["density", "importance", "difference"])
def test_two_scores_in_every_drawing(app, draw):
    test = app("neurons", draw=json.dumps(draw), beside=json.dumps("language:sw"))
    no_complaint(test)
    recipe = recipe_of(test)
    rule = recipe.abilities["math"].key_neurons
    sets = [scores.key_neurons(recipe, origin, rule) for origin in ("ability:math", "language:sw")]
    masks = [np.concatenate([keys.neurons(name).numpy().ravel() for name in keys.scores.shapes]) for keys in sets]
    jaccard = (masks[0] & masks[1]).sum() / (masks[0] | masks[1]).sum()
    chance = expected_jaccard(masks[0].sum(), masks[1].sum(), masks[0].size)
    assert (
        f"<b>{jaccard:.3f}</b> <span>Jaccard overlap of the two; random sets of these sizes: {chance:.3f}"
        in html_text(test)
    )


def test_the_difference_is_one_density_less_the_other():
    first = pd.DataFrame({"layer": [0, 1], "module": ["q", "q"], "density": [0.5, 0.1], "neurons": [10, 10]})
    second = pd.DataFrame({"layer": [0], "module": ["q"], "density": [0.2], "neurons": [10]})
    found = cells.difference_cells(first, second)
    assert {place: cell.value for place, cell in found.items()} == {("q", "0"): pytest.approx(30.0)}
    scale = cells.difference_scale(found)
    assert (scale.low, scale.high) == (pytest.approx(-30.0), pytest.approx(30.0))


def test_k1_moves_without_ranking_again_and_a_large_model_ranks_behind_a_bar(app, monkeypatch):
    monkeypatch.setattr(scores, "QUICK_SCORES", 0)
    ranked, original = [], importance.select_for_each
    monkeypatch.setattr(importance, "select_for_each", lambda *given: ranked.append(given[1]) or original(*given))
    test = app("neurons")
    no_complaint(test)
    assert ranked == [scores.K1_STEPS] * 2  # the ability's scores and the control's
    assert "Jaccard overlap" in html_text(test)
    before = html_text(test)
    slide(test, "neurons-k1", 20.0)
    no_complaint(test)
    assert len(ranked) == 2
    assert "(20 %)" in html_text(test)
    assert "(20 %)" not in before
    assert not any("Stop" in button.label for button in test.button)


def test_mean_importance_is_shown_in_a_power_of_ten():
    table = pd.DataFrame({"layer": [0], "module": ["q"], "mean_importance": [0.00025]})
    table = table.assign(density=0.1, key_neurons=1, neurons=10)
    scale = cells.importance_scale([table])
    assert "10⁻⁴" in scale.title
    assert cells.importance_cells(table, scale)["q", "0"].value == pytest.approx(2.5)


def test_shares_stand_beside_the_share_of_all_neurons():
    table = pd.DataFrame(
        {"layer": [0, 0, 1], "module": ["q", "k", "q"], "key_neurons": [6, 0, 2], "neurons": [10, 20, 10]}
    )
    by_module = key_sets.share_table(table, "module", ["q", "k"])
    assert by_module["share"].tolist() == [100.0, 0.0]
    assert by_module["random"].tolist() == [50.0, 50.0]
    assert key_sets.share_table(table, "layer", ["0", "1"])["share"].tolist() == [75.0, 25.0]


@pytest.mark.parametrize("look", ["shares", "overlap", "stability"])
def test_sets_of_key_neurons(app, workspace, look):
    save_random(workspace, "units", "unit")
    test = app("neurons", look=json.dumps(look))
    no_complaint(test)
    if look == "overlap":
        assert any("units: its neurons are units" in element.value for element in test.caption)
    if look == "stability":
        assert "--split-half" in test.info[0].value


def test_a_table_that_looks_like_a_formula_stays_text():
    text = files.csv_text(pd.DataFrame({"token": ["=1+1", "@x", "fine"], "value": [-1.0, 2.0, 3.0]}))
    assert text.splitlines() == ["token,value", "'=1+1,-1.0", "'@x,2.0", "fine,3.0"]


# --- units --------------------------------------------------------------------------------------------------------


def test_the_page_of_a_unit(app):
    test = app("neurons", cell=CELL, unit="[3, -1]", texts=json.dumps("task:bn"))
    no_complaint(test)
    assert "Unit 3 · layer 1 · down_proj" in [element.value for element in test.subheader]
    ranks = test.dataframe[1].value
    assert set(ranks["module"]) == {"gate_proj", "up_proj", "down_proj"}
    recipe = recipe_of(test)
    keys = scores.key_neurons(recipe, "language:sw", recipe.abilities["math"].key_neurons)
    units = scores.unit_table(keys, "up_proj", 1)
    row = ranks[(ranks["score"] == "sw") & (ranks["module"] == "up_proj")].iloc[0]
    assert row["importance"] == pytest.approx(units["importance"][3])
    assert row["rank"] == 1 + (units["importance"] > units["importance"][3]).sum()
    text = html_text(test)
    assert text.count("class='maet-chips'") == 6
    assert text.count("class='maet-example'") == 3
    assert "lang='bn'" in text
    test.button(key="neurons-unit-close").click().run()
    assert not any("Unit 3" in element.value for element in test.subheader)


@pytest.mark.parametrize("unit", ["[48, -1]", "[-1, -1]", "[1, 5]", "[1]", '["a", 1]', "7", "[1e99, 0]"])
def test_a_link_to_a_unit_that_is_not_there_is_harmless(app, unit):
    test = app("neurons", cell=CELL, unit=unit)
    assert not test.exception
    assert [element.value for element in test.error] == []


# --- knock-out ----------------------------------------------------------------------------------------------------


def test_knock_out_tells_loss_and_answers_and_leaves_the_shared_model_as_it_was(app, workspace):
    test = app("neurons", look=json.dumps("knock"), texts=json.dumps("task:en"))
    no_complaint(test)
    recipe = recipe_of(test)
    live = in_memory.live(recipe)
    assert set(test.session_state["_answers"]["neurons"]["answers"]) == {
        "As is",
        "math: key neurons",
        "Random neurons",
    }
    assert "nats per token, as is" in html_text(test)
    live.apply(recipe)
    fresh = LiveModel(Sources.open(recipe, workspace)).model.state_dict()
    assert all(torch.equal(value, fresh[name]) for name, value in live.model.state_dict().items())
    before = html_text(test)
    slide(test, "neurons-factor", 1.0, last=False)
    no_complaint(test)
    assert "<b>+0.000 ± 0.000</b> <span>key neurons × 1" in html_text(test)
    assert "key neurons × 0" in before
    assert "<b>+0.000 ± 0.000</b> <span>key neurons × 0" not in before


def test_the_one_model_in_memory_becomes_base_and_trained(workspace, app):
    recipe = recipe_of(app("neurons"))
    live = LiveModel(Sources.open(recipe, workspace))
    for model, folder in (("base", "base"), ("trained:math", "math-en")):
        live.apply(knocked.variant(recipe, model))
        other = Checkpoint.open(workspace / "models" / folder)
        for name, value in live.model.named_parameters():
            torch.testing.assert_close(value.data, other.read(name), rtol=0.01, atol=0)
    live.apply(recipe)


# --- a large model ------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def large(tmp_path_factory):
    return build_large_workspace(tmp_path_factory.mktemp("large") / "workspace")


def test_a_large_model_is_drawn_in_few_marks(app, large, monkeypatch):
    monkeypatch.setenv("MAET_WORKSPACE", str(large))
    test = app("neurons", cell=json.dumps(["down_proj", str(LAYERS - 1)]), look=json.dumps("stability"))
    no_complaint(test)
    recipe = recipe_of(test)
    keys = scores.key_neurons(recipe, "ability:math", recipe.abilities["math"].key_neurons)
    units = scores.unit_table(keys, "down_proj", LAYERS - 1)
    assert len(units) == UNITS
    assert len(drawn(test, "neurons-bars")["heights"]) == 512
    assert any("highest of 28 neighbouring units" in element.value for element in test.caption)
    # k1 = 1 and 5 %, for the ability's own scores, which are math.safetensors and said once, and for science.safetensors
    assert test.dataframe[-1].value["agree (%)"].tolist() == [60.0, 70.0] * 2
    test = app("neurons", cell=json.dumps(["down_proj", str(LAYERS - 1)]), zoom="1000")
    no_complaint(test)
    assert any("Units 1,000 to 1,511 of 14,336" in element.value for element in test.caption)
    assert drawn(test, "neurons-bars")["names"][:2] == ["unit 1000", "unit 1001"]
    test.button(key="neurons-zoom-out").click().run()
    assert any("highest of 28" in element.value for element in test.caption)
    heights, shades, size = pooled(units, 0, UNITS)
    assert size == 28
    assert heights[3] == units["importance"][84:112].max()
    assert shades[3] == 100 * units["key_neurons"][84:112].max()
