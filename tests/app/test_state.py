"""The URL and the state: links and going back are followed, entries that overtake the browser's URL are not undone."""

import pytest
from page_tools import drawn, entered, no_complaint, send, slide

from maet_core.recipe import Recipe


def eta(test) -> float:
    recipe: Recipe = test.session_state["_recipe"]
    return recipe.eta


def test_going_back_is_followed(app):
    test = app("merge")
    slide(test, "merge-eta", 1.5)
    assert eta(test) == 1.5
    test.query_params.clear()
    test.query_params["recipe"] = "demo"
    test.run()
    assert eta(test) == 1.0
    assert drawn(test, "merge-eta")["value"] == 1.0


def test_an_entry_that_comes_with_an_old_url_is_not_undone(app):
    test = app("merge")
    slide(test, "merge-eta", 1.5)
    test.query_params.clear()  # the browser has not heard of the first entry's URL yet
    test.query_params["recipe"] = "demo"
    slide(test, "merge-eta", 1.6)
    assert eta(test) == 1.6
    test.run()
    assert eta(test) == 1.6


def test_an_entry_that_is_sent_once_more_undoes_nothing(app):
    """With the next entry anywhere the browser sends the last one of every slider again."""
    test = app("merge")
    old = entered(test, "merge-eta", 1.5)
    send(test, old)
    slide(test, "merge-eta", 1.6)
    send(test, old)
    assert eta(test) == 1.6


def test_a_drag_is_one_step_of_the_url(app):
    test = app("merge")
    for value in (1.2, 1.3):
        slide(test, "merge-eta", value, last=False)
        assert eta(test) == value
        assert "eta" not in test.query_params
    slide(test, "merge-eta", 1.3)
    no_complaint(test)
    assert test.query_params["eta"] == "1.3"


def test_a_drag_whose_end_is_lost_does_not_hold_the_url_back(app):
    test = app("merge")
    slide(test, "merge-eta", 1.2, last=False)
    test.run()
    assert eta(test) == 1.2
    assert test.query_params["eta"] == "1.2"


@pytest.mark.parametrize("value", [1e9, float("nan"), "1", None, True])
def test_a_value_that_the_slider_does_not_offer_is_not_taken(app, value):
    test = app("merge")
    slide(test, "merge-eta", value)
    no_complaint(test)
    assert eta(test) == 1.0
