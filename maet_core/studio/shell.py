"""The frame around every page: navigation, the sidebar, fonts and styles, and how errors are shown."""

from __future__ import annotations

import functools
import html
import logging
import traceback
from collections.abc import Callable
from pathlib import Path

import streamlit as st
import streamlit.components.v1 as components

from maet_core.errors import MaetError
from maet_core.studio import entries, limits, resources, state, waiting

_INSIDE = "_inside_the_shell"
_log = logging.getLogger(__name__)
_PAGES = (
    ("start", "Start", ":material/play_arrow:"),
    ("models", "Models", ":material/dataset:"),
    ("neurons", "Neurons", ":material/grid_on:"),
    ("tensors", "Tensors", ":material/view_module:"),
    ("merge", "Merge", ":material/tune:"),
    ("compare", "Compare", ":material/compare:"),
    ("evaluate", "Evaluate", ":material/analytics:"),
    ("jobs", "Jobs", ":material/pending_actions:"),
)
_FONTS = {
    "Noto Sans Bengali": ("noto-sans-bengali.woff2", "U+0964-0965,U+0980-09FE,U+200C-200D,U+25CC"),
    "Noto Sans Telugu": ("noto-sans-telugu.woff2", "U+0964-0965,U+0C00-0C7F,U+200C-200D,U+25CC"),
    "Noto Sans Thai": ("noto-sans-thai.woff2", "U+0E01-0E5B,U+200C-200D,U+25CC"),
    "Noto Sans Devanagari": ("noto-sans-devanagari.woff2", "U+0900-097F,U+200C-200D,U+25CC"),
    "Noto Sans SC": ("noto-sans-sc.woff2", "U+3000-303F,U+4E00-9FFF,U+FF00-FFEF"),
}
# Served by Streamlit under /component/<name>/, which needs no folder of its own beside app.py.
_font_server = components.declare_component("maet_fonts", path=str(resources.PROJECT / "assets" / "fonts"))


def run() -> None:
    """What app.py does: page settings, navigation, then the page the person is on."""
    page = _navigation()
    _style()
    with calmly():
        state.begin()
        _sidebar()
    if text := state.take_notice():
        st.warning(text, icon=":material/info:")
    st.session_state[_INSIDE] = True
    try:
        with calmly():
            page.run()
    finally:
        st.session_state[_INSIDE] = False


def guard() -> None:
    """First line of every page. A cold link to a page runs it without app.py; this shows the way through app.py instead."""
    if not st.session_state.get(_INSIDE):
        _navigation()  # Streamlit remembers it for the whole process, and app.py runs first from now on
        st.rerun()


def title(text: str, say: str) -> None:
    """The page's name and one plain sentence on what it is for."""
    st.html(f'<div class="maet-title"><h1>{html.escape(text)}</h1><p>{html.escape(say)}</p></div>')


def link(page: str, label: str) -> None:
    st.page_link(_page(page), label=label, icon=":material/arrow_forward:")


def go(page: str) -> None:
    """Leaves for another page at once."""
    st.switch_page(_page(page))


def need_recipe():
    """The working recipe, or a page that says how to get one and stops."""
    recipe = state.recipe()
    if recipe is None:
        st.info(
            "There is no recipe yet. Choose a base and what to add to it on the Models page.", icon=":material/info:"
        )
        link("models", "Go to Models")
        st.stop()
    return recipe


def need_ability(recipe, key: str) -> str:
    """The ability that the page is about: chosen where there are several; without any the page says so and stops."""
    names = list(recipe.abilities)
    if not names:
        st.info("The recipe has no ability yet; choose an ability checkpoint on the Models page.")
        link("models", "Go to Models")
        st.stop()
    if len(names) == 1:
        return names[0]
    return st.segmented_control("Ability", required=True, **state.bound_view(key, names, "ability", names[0]))


class calmly:
    """An error inside becomes one calm message; what went wrong is folded away. Streamlit's own control flow passes."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind, error, trace) -> bool:
        if not isinstance(error, Exception):
            return False
        if isinstance(error, waiting.NotThere):
            return True
        if isinstance(error, MaetError):
            st.error(str(error), icon=":material/error:")
            return True
        _log.error("in the app", exc_info=error)
        st.error("Something went wrong inside the app. Your recipe is kept; try again, or reload the page.")
        with st.expander("Details for a bug report"):
            st.code("".join(traceback.format_exception(error)), language=None)
        return True


def fragment(function: Callable | None = None, *, run_every: float | None = None) -> Callable:
    """`st.fragment` that shows errors calmly when it reruns on its own."""
    if function is None:
        return functools.partial(fragment, run_every=run_every)

    @functools.wraps(function)
    def calm(*args, **kwargs):
        with calmly():
            return function(*args, **kwargs)

    return st.fragment(calm, run_every=run_every)


def guarded(callback: Callable) -> Callable:
    """A widget callback whose MaetError becomes a notice; the state stays as it was."""

    @functools.wraps(callback)
    def calm(*args, **kwargs) -> None:
        entries.acted()
        try:
            callback(*args, **kwargs)
        except MaetError as error:
            state.notice(str(error))

    return calm


def _navigation():
    # Without an icon of its own Streamlit fetches the page's symbol from the network.
    st.set_page_config("MAET Studio", page_icon=str(resources.PROJECT / "assets" / "icon.svg"), layout="wide")
    return st.navigation([_page(name) for name, _, _ in _PAGES])


def _page(name: str):
    path, label, icon = next(page for page in _PAGES if page[0] == name)
    return st.Page(
        resources.PROJECT / "pages" / f"{path}.py", title=label, icon=icon, url_path=path, default=path == _PAGES[0][0]
    )


def _sidebar() -> None:
    recipe = state.recipe()
    with st.sidebar:
        if limits.current().demo:
            st.caption("Demonstration: try everything, nothing is saved.")
        if recipe is None:
            st.caption(f"Workspace **{resources.workspace().path.name}** · no recipe yet")
            return
        lines = [("base", recipe.base)]
        for name, ability in recipe.abilities.items():
            lines.append((name, ability.pack or ability.ability))
            if ability.source_language:
                lines.append((f"{name} −", ability.source_language))
        lines += [(name, language.pack or language.checkpoint) for name, language in recipe.languages.items()]
        rows = "".join(
            f"<span>{html.escape(key)}</span><span title='{html.escape(path, quote=True)}'>{html.escape(Path(path).stem)}</span>"
            for key, path in lines
        )
        changed = " <em>· changed</em>" if state.is_changed() else ""
        st.html(
            f"<div class='maet-recipe'><h2>Recipe {html.escape(state.recipe_name() or 'unsaved')}{changed}</h2><div>{rows}</div>"
            f"<p>Workspace {html.escape(resources.workspace().path.name)}</p></div>"
        )


def _style() -> None:
    faces = "".join(
        f"@font-face{{font-family:'{family}';font-weight:100 900;font-display:swap;unicode-range:{covers};"
        f"src:url('component/{_font_server.name}/{file}') format('woff2');}}"
        for family, (file, covers) in _FONTS.items()
    )
    css = (Path(__file__).parent / "style.css").read_text("utf-8")
    st.html(f"<style>{faces}{css}</style>")
