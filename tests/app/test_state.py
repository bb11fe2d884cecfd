"""The URL and the state: links and going back are followed, entries that overtake the browser's URL are not undone."""

from maet_core.recipe import Recipe


def eta(test) -> float:
    recipe: Recipe = test.session_state["_recipe"]
    return recipe.eta


def slider(test):
    return next(one for one in test.slider if (one.key or "").startswith("merge-eta"))


def test_going_back_is_followed(app):
    test = app("merge")
    slider(test).set_value(1.5).run()
    assert eta(test) == 1.5
    test.query_params.clear()
    test.query_params["recipe"] = "demo"
    test.run()
    assert eta(test) == 1.0
    assert slider(test).value == 1.0


def test_an_entry_that_comes_with_an_old_url_is_not_undone(app):
    test = app("merge")
    slider(test).set_value(1.5).run()
    test.query_params.clear()  # the browser has not heard of the first entry's URL yet
    test.query_params["recipe"] = "demo"
    slider(test).set_value(1.6).run()
    assert eta(test) == 1.6
    test.run()
    assert eta(test) == 1.6


def test_an_old_number_field_does_not_undo_the_slider(app):
    """With an entry that follows quickly the browser sends the replaced field's old value once more."""
    test = app("merge")
    field = next(one for one in test.number_input if one.key == "merge-eta-number")
    old = field._widget_state
    slider(test).set_value(1.5).run()
    assert "merge-eta-number" not in [one.key for one in test.number_input]
    slider(test).set_value(1.6)
    sent = test._tree.get_widget_states()
    sent.widgets.append(old)
    test._run(sent)
    assert eta(test) == 1.6
