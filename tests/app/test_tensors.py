"""Tensors: choosing by module and layer range, taking steps back, and what the selection leaves out."""

import pytest
from page_tools import html_text, no_complaint, recipe_of, slide

from maet_core.studio import in_memory


def rule(test):
    return recipe_of(test).abilities["math"].tensors


def choose(test, button: str, modules=(), layers=(0, 2)) -> None:
    test.multiselect(key="tensors-modules").set_value(list(modules))
    test.slider(key="tensors-layers").set_value(layers)
    test.button(key=f"tensors-{button}").click().run()
    no_complaint(test)


def test_by_module_and_layer_range_with_steps_back(app):
    test = app("tensors", abilities__math__tensors__k2="100.0")
    assert test.button(key="tensors-undo").disabled
    choose(test, "remove", layers=(1, 2))
    assert rule(test).exclude == ["layer:1-2"]
    choose(test, "remove", modules=["down_proj"])
    assert rule(test).exclude == ["layer:1-2", "module:down_proj"]
    choose(test, "add", modules=["q_proj"], layers=(1, 1))
    kept = in_memory.measured(recipe_of(test)).select(recipe_of(test))["math"].tensors
    assert [name for name in kept if ".layers.1." in name] == ["model.layers.1.self_attn.q_proj.weight"]
    test.button(key="tensors-undo").click().run()
    assert rule(test).exclude == ["layer:1-2", "module:down_proj"]
    test.button(key="tensors-undo").click().run()
    assert rule(test).exclude == ["layer:1-2"]
    test.button(key="tensors-reset").click().run()
    assert rule(test).exclude == []
    test.button(key="tensors-undo").click().run()
    assert rule(test).exclude == ["layer:1-2"]
    no_complaint(test)


def test_a_step_back_leaves_k2_where_it_is_now(app):
    test = app("tensors", abilities__math__tensors__k2="100.0")
    choose(test, "remove", layers=(0, 0))
    slide(test, "tensors-k2", 50.0)
    test.button(key="tensors-undo").click().run()
    no_complaint(test)
    assert (rule(test).k2, rule(test).exclude) == (50.0, [])


def test_what_is_left_out_in_parameters_and_in_norm(app):
    test = app("tensors", abilities__math__tensors__k2="40.0")
    recipe = recipe_of(test)
    rows = in_memory.measured(recipe).select(recipe)["math"].rows
    gone = [row for row in rows if not row.selected]
    text = html_text(test)
    assert f"<b>{len(gone)}</b> <span>tensors left out" in text
    assert f"<b>{sum(row.parameters for row in gone):,}</b>" in text
    share = 100 * sum(row.norm**2 for row in gone) / sum(row.norm**2 for row in rows)
    assert f"<b>{share:.1f} %</b> <span>of ‖R(A)‖²" in text
    table = test.dataframe[0].value
    assert table["norm_share"].sum() == pytest.approx(100)
    assert table["cosine"].is_monotonic_increasing
