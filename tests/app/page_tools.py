"""What tests of pages ask of Streamlit's harness."""

import itertools
import json
import re

from streamlit.proto.WidgetStates_pb2 import WidgetState

from maet_core.recipe import Recipe

_times = itertools.count(1)


def html_text(app) -> str:
    """All that the page's own HTML says."""
    return " ".join(element.proto.body for element in app.get("html"))


def recipe_of(app) -> Recipe:
    return app.session_state["_recipe"]


def widget(found, key: str):
    """The widget bound to this key, however often it has been replaced."""
    return next(one for one in found if re.fullmatch(re.escape(key) + r"(-\d+)?", one.key or ""))


def drawn(app, key: str) -> dict:
    """What the page gives one of its own components to show: a slider, a heatmap, bars."""
    return json.loads(_component(app, key).json)


def entered(app, key: str, value, last: bool = True) -> WidgetState:
    """What the browser sends when a slider is moved to a value; see maet_core/studio/slider."""
    entry = {"value": value, "time": next(_times), "last": last}
    return WidgetState(id=_component(app, key).id, json_value=json.dumps({"entry": entry}))


def slide(app, key: str, value, last: bool = True):
    """Moves one of the app's own sliders and runs the page. `last`: it is let go there."""
    return send(app, entered(app, key, value, last))


def send(app, *entries: WidgetState):
    states = app._tree.get_widget_states()
    states.widgets.extend(entries)
    return app._run(states)


def _component(app, key: str):
    return next(one.proto for one in app.get("bidi_component") if one.proto.id.endswith(f"-{key}"))


def no_complaint(app) -> None:
    assert not app.exception
    assert [element.value for element in app.error] == []
    assert [element.value for element in app.warning] == []
