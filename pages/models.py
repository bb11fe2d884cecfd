"""What is in the workspace, what fits what, and which models the recipe combines."""

import html
import re
from collections.abc import Collection
from itertools import count

import streamlit as st

from maet_core.recipe import Ability, Language, Recipe
from maet_core.studio import learning, questions, resources, shell, state
from maet_core.workspace import Entry, short_name

shell.guard()

NONE = "(none)"


def size(nbytes: int) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if nbytes < 1000 or unit == "GB":
            return f"{nbytes:.0f} {unit}" if unit == "B" else f"{nbytes:.1f} {unit}"
        nbytes /= 1000


def quantity(number: int) -> str:
    for limit, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= limit:
            return f"{number / limit:.2f} {unit}"
    return str(number)


def roles(recipe: Recipe | None) -> dict[str, str]:
    """What each path is in the recipe."""
    if recipe is None:
        return {}
    found: dict[str, list[str]] = {recipe.base: ["base"]}
    for name, ability in recipe.abilities.items():
        found.setdefault(ability.pack or ability.ability, []).append(f"ability {name}")
        if ability.source_language:
            found.setdefault(ability.source_language, []).append(f"source language of {name}")
    for name, language in recipe.languages.items():
        found.setdefault(language.pack or language.checkpoint, []).append(f"language {name}")
    return {path: ", ".join(uses) for path, uses in found.items()}


def _line(row: dict[str, str]) -> str:
    """One model for a narrow screen: its name and use, and everything else below."""
    fits = {"yes": "fits", "no": "does not fit"}.get(row["fits"], row["fits"])
    layers = f"{row['layers']} layers" if row["layers"] else ""
    parameters = f"{row['parameters']} parameters" if row["parameters"] else ""
    about = (fits, row["kind"], row["architecture"], layers, parameters, row["dtype"], row["size"], row["identity"])
    head = f"<b>{html.escape(row['name'])}</b> {html.escape(row['in the recipe'])}"
    return f"<div>{head}<small>{html.escape(' · '.join(filter(None, about)))}</small></div>"


def table(entries: list[Entry], base: Entry | None, recipe: Recipe | None) -> None:
    uses = roles(recipe)
    reasons = {entry.path: entry.problem or (resources.misfit(base, entry) if base else "") for entry in entries}
    rows = [
        {
            "name": entry.name,
            "in the recipe": uses.get(entry.path, ""),
            "fits": "unreadable" if entry.problem else "no" if reasons[entry.path] else "yes",
            "kind": entry.kind,
            "architecture": entry.architecture,
            "layers": "" if entry.layers is None else str(entry.layers),
            "parameters": "" if entry.problem else quantity(entry.parameters),
            "dtype": entry.dtype,
            "size": "" if entry.problem else size(entry.nbytes),
            "identity": resources.identity(entry),
        }
        for entry in entries
    ]
    with st.container(key="models-list"):
        st.html(f"<div class='maet-models'>{''.join(map(_line, rows))}</div>")
    with st.container(key="models-table"):
        st.dataframe(
            rows,
            hide_index=True,
            column_config={
                "in the recipe": st.column_config.TextColumn(width="medium"),
                "fits": st.column_config.TextColumn(
                    help="whether it can be combined with the base; if not, the reason is below"
                ),
                "identity": st.column_config.TextColumn(help="the same for copies, another for every other content"),
            },
        )
    for entry in entries:
        if reasons[entry.path]:
            what = "cannot be read" if entry.problem else "does not fit the base"
            st.html(
                f"<div class='maet-gloss'><b>{html.escape(entry.name)}</b> {what}: {html.escape(reasons[entry.path])}</div>"
            )


def choose(recipe: Recipe | None, entries: list[Entry]) -> None:
    """The recipe's models as choices; what does not fit the base is not offered."""
    bases = [entry.path for entry in entries if entry.kind == "checkpoint" and not entry.problem]
    if not bases:
        st.info("No checkpoint here yet. Put folders of safetensors into models/ of the workspace, then reload.")
        return
    base_path = recipe.base if recipe and recipe.base in bases else bases[0]
    left, right = st.columns(2, gap="large")
    with left:
        st.selectbox(
            "Base",
            bases,
            format_func=short_name,
            help="Everything else must have come from it. Another base clears the other choices.",
            **state.bound("models-base", base_path, lambda path: state.set_recipe(Recipe(base=path))),
        )
    if recipe is None:
        st.button(
            "Start a recipe with this base",
            on_click=lambda: state.set_recipe(Recipe(base=base_path)),
            type="primary",
            key="models-begin",
        )
        return
    base = next(entry for entry in entries if entry.path == base_path)
    fitting = [entry for entry in entries if entry.path != base_path and not resources.misfit(base, entry)]
    with left:
        for name in recipe.abilities or ("math",):
            choose_ability(recipe, name, fitting)
        if recipe.abilities:
            add_ability(recipe, fitting)
    with right:
        choose_languages(recipe, fitting)


def choose_ability(recipe: Recipe, name: str, fitting: list[Entry]) -> None:
    """One ability of the recipe and what is taken away from it."""
    ability = recipe.abilities.get(name)
    whole = [entry.path for entry in fitting if entry.kind in ("checkpoint", "adapter")]
    packs = [entry.path for entry in fitting if entry.kind == "ability pack"]
    options, checkpoints = [NONE, *whole, *packs], [NONE, *whole]

    def take_ability(path: str) -> None:
        abilities = dict(state.recipe().abilities)
        if path == NONE:
            abilities.pop(name, None)
        else:
            abilities[name] = new_ability(path)
        state.set_recipe(state.recipe().model_copy(update={"abilities": abilities}))

    def take_source(path: str) -> None:
        now = state.recipe().abilities[name]
        content = now.model_dump(exclude_none=True, exclude={"source_language", "beta"})
        if path == NONE:
            state.change(f"abilities.{name}", {**content, "beta": 0.0})
        else:
            state.change(f"abilities.{name}", {**content, "source_language": path, "beta": now.beta or 1.0})

    current = (ability.pack or ability.ability) if ability else NONE
    st.selectbox(
        f"Ability ({name})",
        options,
        format_func=short_name,
        help="A checkpoint or adapter trained on the ability in the source language, or an ability pack.",
        **state.bound(f"models-ability-{name}", current if current in options else NONE, take_ability),
    )
    source = (ability.source_language if ability else None) or NONE
    st.selectbox(
        "Source language" if len(recipe.abilities) < 2 else f"Source language of {name}",
        checkpoints,
        format_func=short_name,
        disabled=ability is None or ability.pack is not None,
        help="The base trained on general text of the ability's language. β of its change is taken away from the ability.",
        **state.bound(f"models-source-{name}", source if source in checkpoints else NONE, take_source),
    )


def add_ability(recipe: Recipe, fitting: list[Entry]) -> None:
    """Another one beside those that are there."""
    used = roles(recipe)
    options = [entry.path for entry in fitting if entry.kind != "language pack" and entry.path not in used]
    if not options:
        return

    def take(path: str | None) -> None:
        now = state.recipe()
        if path is not None:
            name = ability_key(path, now.abilities)
            state.set_recipe(now.model_copy(update={"abilities": {**now.abilities, name: new_ability(path)}}))

    st.selectbox(
        "Another ability",
        options,
        format_func=short_name,
        placeholder="none",
        help="Its weights are added beside the first ability's, with a γ of their own.",
        **state.bound("models-another", None, take),
    )


def new_ability(path: str) -> Ability:
    return Ability(pack=path) if path.endswith(".safetensors") else Ability(ability=path, alpha=1.0, beta=0.0)


def ability_key(path: str, taken: Collection[str]) -> str:
    """A short name for an ability in the recipe: `science` for science-en; with a number where that is taken."""
    name = re.sub(r"\W+", "-", short_name(path).removesuffix("-en")).strip("-") or "ability"
    return next(tried for n in count(1) if (tried := name if n == 1 else f"{name}-{n}") not in taken)


def choose_languages(recipe: Recipe, fitting: list[Entry]) -> None:
    options = [entry.path for entry in fitting if entry.kind != "ability pack"]
    chosen = [
        path for language in recipe.languages.values() if (path := language.pack or language.checkpoint) in options
    ]

    def take(paths: list[str]) -> None:
        before = state.recipe().languages
        names = {(language.pack or language.checkpoint): name for name, language in before.items()}
        languages: dict[str, Language] = {}
        for path in paths:
            name = names.get(path) or language_key(path, {*languages, *before})
            kind = "pack" if path.endswith(".safetensors") else "checkpoint"
            languages[name] = before.get(name) or Language(**{kind: path})
        state.set_recipe(state.recipe().model_copy(update={"languages": languages}))

    st.multiselect(
        "Languages",
        options,
        format_func=short_name,
        help="Checkpoints, adapters or packs trained on general text of one language each.",
        **state.bound("models-languages", chosen, take),
    )
    if recipe.languages:
        named = ", ".join(f"{name} ({questions.language_name(name)})" for name in recipe.languages)
        st.caption(f"In the recipe as {named}. How much of each is set on the Merge page.")


def language_key(path: str, taken: set[str]) -> str:
    """A short name for a language in the recipe: `sw` for lang-sw; the whole name where that is taken."""
    name = short_name(path)
    short = name.rsplit("-", 1)[-1]
    return short if short in questions.LANGUAGE_NAMES and short not in taken else name


shell.title("Models", "What is in the workspace, what fits the base, and what the recipe combines.")
recipe = state.recipe()
with st.container():  # what follows keeps its place, whether there is something to wait for or not
    entries = resources.models()
choose(recipe, entries)
learning.train_form(recipe)
if entries:
    st.subheader("In the workspace")
    table(entries, resources.model_entry(recipe.base) if recipe else None, recipe)
    st.caption(
        f"{len(entries)} in {resources.workspace().path}. To add one, put its folder into models/ and reload the page."
    )
