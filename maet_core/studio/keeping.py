"""Ways to keep a merge: as a checkpoint or an ability pack, by a job; as a recipe; as the command that does the same."""

from __future__ import annotations

import shlex

import streamlit as st

from maet_core.recipe import Recipe
from maet_core.studio import background, entries, files, following, resources, shell, state


def tabs(recipe: Recipe) -> None:
    """Save as a checkpoint, save or load the recipe, and the command that does the same."""
    checkpoint, pack, as_recipe, command = st.tabs(["Save as checkpoint", "Ability pack", "Recipe", "Command"])
    with checkpoint:
        save_checkpoint(recipe)
    with pack:
        save_pack(recipe)
    with as_recipe:
        save_and_load(recipe)
    with command:
        show_command(recipe)


def show_command(recipe: Recipe) -> None:
    """What to paste into a terminal to get the same model; with the recipe itself where no file holds it yet."""
    name = state.recipe_name() or "mine"
    lines = [f"cd {shlex.quote(str(resources.workspace().path))}"]
    if state.is_changed():
        name = f"{name}-changed"
        lines.append(f"cat > recipes/{name}.yaml <<'END'\n{resources.workspace().portable(recipe).to_yaml()}END")
    lines.append(shlex.join(background.merge_command(f"recipes/{name}.yaml", f"models/{name}-merged")))
    st.code("\n".join(lines), language="bash")


def save_checkpoint(recipe: Recipe) -> None:
    def begin() -> None:
        saved = background.save_merge(recipe, st.session_state["merge-name"].strip())
        st.session_state["_my_save"] = saved.job.id

    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Name in models/",
            f"{state.recipe_name() or 'mine'}-merged",
            max_chars=80,
            key="merge-name",
            on_change=entries.acted,
        )
        st.button("Save", type="primary", key="merge-save", on_click=shell.guarded(begin))
    if job := st.session_state.get("_my_save"):
        following.follow(job, "merge-stop")


def save_pack(recipe: Recipe) -> None:
    """R(A) of one ability as a file that other recipes name, with α, β and key neurons in it; γ stays with the recipe."""
    names = [name for name, ability in recipe.abilities.items() if not ability.pack]
    if not names:
        st.caption("An ability of two checkpoints can become a pack; this recipe has none.")
        return

    def begin() -> None:
        saved = background.save_pack(recipe, ability, st.session_state["merge-pack-name"].strip())
        st.session_state["_my_pack"] = saved.job.id

    with st.container(horizontal=True, vertical_alignment="bottom"):
        ability = names[0]
        if len(names) > 1:
            ability = st.selectbox("Ability", width=180, **state.bound_view("merge-pack", names, "pack", names[0]))
        st.text_input("Name in packs/", ability, max_chars=80, key="merge-pack-name", on_change=entries.acted)
        st.button("Save pack", key="merge-save-pack", on_click=shell.guarded(begin))
    if job := st.session_state.get("_my_pack"):
        following.follow(job, "merge-stop-pack")


def save_and_load(recipe: Recipe) -> None:
    workspace = resources.workspace()

    def store() -> None:
        name = st.session_state["merge-recipe-name"].strip()
        workspace.save_recipe(recipe, name, overwrite=name == state.recipe_name())
        state.set_recipe(recipe, name)

    def load(name: str) -> None:
        state.set_recipe(workspace.load_recipe(name), name)

    names = workspace.recipes()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox("Load", names, **state.bound("merge-recipe", state.recipe_name(), load))
        st.button("Undo changes", key="merge-restore", disabled=not state.is_changed(), on_click=state.restore)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.text_input(
            "Save as", state.recipe_name() or "mine", max_chars=80, key="merge-recipe-name", on_change=entries.acted
        )
        st.button("Save recipe", key="merge-save-recipe", on_click=shell.guarded(store))
    text = workspace.portable(recipe).to_yaml()
    with st.expander("YAML"):
        st.code(text, language="yaml")
        name = f"{state.recipe_name() or 'mine'}.yaml"
        files.button("Download", lambda: text, name, "application/yaml", "merge-yaml")
