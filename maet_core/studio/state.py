"""The one home of what a person has set: the working recipe, and what each page looks at. Both are mirrored in the URL.

The URL names the saved recipe it starts from and holds only what differs, so that a link stays short and reload, back, a
second tab and a shared link give the same screen. Paths in the working recipe are relative to the workspace.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

import streamlit as st

from maet_core.errors import MaetError, RecipeError
from maet_core.recipe import Recipe
from maet_core.studio import entries, resources

_RECIPE, _NAME, _SAVED, _VIEW, _URL, _NOTICE = "_recipe", "_recipe_name", "_recipe_saved", "_view", "_url", "_notice"
_AGES, _MOVING = "_ages", "_moving"
_FIELDS = ("base", "method", "abilities.", "languages.", "eta", "scales", "output.")


def begin() -> None:
    """Called by the shell before a page runs: takes in a URL that the person opened or went back to."""
    first = _URL not in st.session_state
    shown = st.query_params.to_dict()
    if first:
        st.session_state[_VIEW] = {}
        _start(shown.get("recipe"))
    if not entries.caused() and shown and shown != st.session_state.get(_URL):
        _take_in(shown)
    mirror()
    st.session_state.pop(_MOVING, None)


def recipe() -> Recipe | None:
    """The working recipe; None in a workspace that has none yet."""
    return st.session_state.get(_RECIPE)


def recipe_name() -> str | None:
    """The saved recipe that the working one started from."""
    return st.session_state.get(_NAME)


def saved_recipe() -> Recipe:
    """The recipe as it was loaded or saved last."""
    return st.session_state[_SAVED]


def is_changed() -> bool:
    """Whether the working recipe differs from the saved one."""
    return st.session_state.get(_RECIPE) != st.session_state.get(_SAVED)


def set_recipe(new: Recipe, name: str | None = None) -> None:
    """Replaces the working recipe; `name` says that it has been loaded from, or saved under, this name.

    A path outside the workspace is refused with a notice: what a widget sends need not be what it offered.
    """
    try:
        new = resources.workspace().adopt(new)
    except MaetError as error:
        notice(str(error))
        return
    entries.acted()
    st.session_state[_RECIPE] = new
    if name is not None:
        st.session_state[_NAME], st.session_state[_SAVED] = name, new
    mirror()


def change(field: str, value: Any) -> None:
    """Sets one field of the recipe (`abilities.math.gamma`). A value that does not fit is refused with a notice."""
    try:
        set_recipe(recipe().with_value(field, value))
    except MaetError as error:
        notice(str(error))


def restore() -> None:
    """Back to the saved recipe."""
    set_recipe(st.session_state[_SAVED])


def view(key: str, default: Any = None) -> Any:
    """What a page looks at (a cell, a question), kept while the person visits other pages.

    It may come from a link that somebody wrote: a value of another type than the default's is not taken.
    """
    value = st.session_state.get(_VIEW, {}).get(key, default)
    return value if default is None or type(value) is type(default) else default


def cell() -> tuple[str, str] | None:
    """The (module, layer) that has been clicked last."""
    value = view("cell", [])
    return tuple(value) if len(value) == 2 and all(isinstance(part, str) for part in value) else None


def set_view(key: str, value: Any) -> None:
    """None forgets it."""
    entries.acted()
    settings = st.session_state[_VIEW]
    settings.pop(key, None)
    if value is not None:
        settings[key] = value
    mirror()


def moving(on: bool) -> None:
    """Called by a slider's callback: this entry is one of many that a drag makes, or the last one.

    The URL waits for the last one, so that going back undoes the whole drag and not a pixel of it.
    """
    st.session_state[_MOVING] = on


def notice(text: str) -> None:
    """One calm line at the top of the next run."""
    st.session_state[_NOTICE] = text


def take_notice() -> str | None:
    return st.session_state.pop(_NOTICE, None)


def bound(key: str, value: Any, take: Callable[[Any], None]) -> dict[str, Any]:
    """Keyword arguments that make a widget show `value`, whoever set it, and hand what the person enters to `take`.

    A MaetError of `take` becomes a notice. When the value was changed elsewhere the widget is replaced by a new one (another
    key) rather than told: a browser that is a moment behind would send the old value back, and that would look like an
    entry. So that the key stays the same otherwise, the first one has no number. `take` must read the state afresh: it
    may run before the page has been drawn again.
    """
    ages = st.session_state.setdefault(_AGES, {})
    name = _aged(key, ages.get(key, 0))
    if name in st.session_state and st.session_state[name] != value:
        ages[key] = ages.get(key, 0) + 1
        name = _aged(key, ages[key])
    if name not in st.session_state:
        st.session_state[name] = value

    def changed() -> None:
        if name != _aged(key, ages.get(key, 0)):
            return  # a widget that has been replaced: the browser sent its last value once more, nobody entered it
        try:
            take(st.session_state[name])
        except MaetError as error:
            notice(str(error))

    return {"key": name, "on_change": changed}


def bound_view(key: str, options: Sequence, name: str, default: Any) -> dict[str, Any]:
    """The same for a choice widget that shows `view(name)`."""
    value = view(name, default)
    return {
        "options": options,
        **bound(key, value if value in options else default, lambda chosen: set_view(name, chosen)),
    }


def _aged(key: str, age: int) -> str:
    return f"{key}-{age}" if age else key


def mirror() -> None:
    """Writes the state into the URL. Streamlit empties the query when the page changes, so this runs on every page."""
    if st.session_state.get(_MOVING):
        return
    settings: dict[str, str] = {}
    if name := recipe_name():
        settings["recipe"] = name
        settings |= _differences(st.session_state[_SAVED].to_dict(), recipe().to_dict())
    settings |= {key: json.dumps(value, ensure_ascii=False) for key, value in st.session_state[_VIEW].items()}
    if st.query_params.to_dict() != settings:
        st.query_params.from_dict(settings)
    st.session_state[_URL] = settings


def _start(wanted: str | None) -> None:
    """The first recipe: the one that the URL names, else the demo's, else any."""
    workspace = resources.workspace()
    names = workspace.recipes()
    for name in dict.fromkeys([wanted, "demo", *names]):
        if name not in names:
            continue
        try:
            loaded = workspace.load_recipe(name)
        except MaetError as error:
            notice(f"recipes/{name}.yaml: {error}")
            continue
        st.session_state[_RECIPE] = st.session_state[_SAVED] = loaded
        st.session_state[_NAME] = name
        return


def _take_in(shown: dict[str, str]) -> None:
    """Follows a URL. What cannot be read is left out with a notice: a link is only text from somewhere."""
    try:
        workspace = resources.workspace()
        name = shown.get("recipe", recipe_name())
        if name in workspace.recipes():
            saved = workspace.load_recipe(name)
            content = saved.to_dict()
            for field, text in shown.items():
                if field.startswith(_FIELDS):
                    _put(content, field.split("."), json.loads(text) if text else None)
            taken = workspace.adopt(Recipe.from_dict(content, "link"))
            st.session_state[_NAME], st.session_state[_SAVED], st.session_state[_RECIPE] = name, saved, taken
        elif "recipe" in shown:
            notice(f"This link is about the recipe “{name}”, which this workspace does not have.")
        st.session_state[_VIEW] = {
            key: json.loads(text) for key, text in shown.items() if key != "recipe" and not key.startswith(_FIELDS)
        }
    except (MaetError, ValueError, TypeError, AttributeError, KeyError) as error:
        reason = str(error) if isinstance(error, RecipeError) else "part of it cannot be read"
        notice(f"This link could not be followed whole: {reason}.")


def _differences(saved: dict, now: dict) -> dict[str, str]:
    before, after = dict(_leaves(saved)), dict(_leaves(now))
    changed = {
        field: json.dumps(value, ensure_ascii=False) for field, value in after.items() if before.get(field) != value
    }
    return changed | {field: "" for field in before if field not in after}


def _leaves(content: dict, prefix: str = ""):
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _put(content: dict, path: list[str], value: Any) -> None:
    """Sets a field; None takes it out, and what is empty then goes as well (a recipe without key neurons has no such field)."""
    first, *rest = path
    if not rest and value is not None:
        content[first] = value
    elif not rest:
        content.pop(first, None)
    elif not isinstance(below := content.setdefault(first, {}), dict):
        if value is not None:
            raise TypeError(f"{first} has nothing below it")  # taking out is fine: the method may be a single word now
    else:
        _put(below, rest, value)
        if not below:
            del content[first]
