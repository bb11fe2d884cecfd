"""What tests of pages ask of Streamlit's harness."""

import re

from maet_core.recipe import Recipe


def html_text(app) -> str:
    """All that the page's own HTML says."""
    return " ".join(element.proto.body for element in app.get("html"))


def recipe_of(app) -> Recipe:
    return app.session_state["_recipe"]


def widget(found, key: str):
    """The widget bound to this key, however often it has been replaced."""
    return next(one for one in found if re.fullmatch(re.escape(key) + r"(-\d+)?", one.key or ""))


def no_complaint(app) -> None:
    assert not app.exception
    assert [element.value for element in app.error] == []
    assert [element.value for element in app.warning] == []
