"""The workspace: what is in it, what fits what, and that nothing outside is touched."""

import json
import os
import shutil
from dataclasses import replace

import pytest
from models import save_adapter
from small_workspace import build_workspace

from maet_core.errors import InputError, WorkspaceError
from maet_core.evaluation.questions import read_questions
from maet_core.recipe import Recipe
from maet_core.sources import Sources
from maet_core.weights.packs import write_pack
from maet_core.workspace import FOLDERS, Workspace, map_sources, misfit


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return build_workspace(tmp_path_factory.mktemp("small") / "workspace")


@pytest.fixture
def workspace(small, tmp_path) -> Workspace:
    shutil.copytree(small, tmp_path / "workspace")
    return Workspace.open(tmp_path / "workspace")


@pytest.mark.parametrize(
    "path",
    [
        "..",
        "../x",
        "models/../../x",
        "/etc/passwd",
        "models/base/../../../x",
        "",
        ".",
        "a\0b",
        "link",
        "link/x",
        "~/../..",
    ],
)
def test_paths_outside_are_refused(workspace, tmp_path, path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (workspace.path / "link").symlink_to(outside)
    if path == "~/../..":
        assert workspace.resolve("~/x").is_relative_to(workspace.path)  # `~` is a name like any other
        return
    with pytest.raises(WorkspaceError, match="outside the workspace"):
        workspace.resolve(path)


@pytest.mark.parametrize("path", ["models/base", "models/not/there/yet", "models/../recipes/demo.yaml", "inner/base"])
def test_paths_inside_are_resolved(workspace, path):
    (workspace.path / "inner").symlink_to(workspace.path / "models")
    assert workspace.resolve(path).is_relative_to(workspace.path)


def test_a_new_workspace_gets_the_demo_once(small, tmp_path):
    path = tmp_path / "new"
    opened = Workspace.open(path, demo_assets=small)
    assert [entry.name for entry in opened.models()] == ["base", "general-en", "lang-bn", "lang-sw", "math-en"]
    shutil.rmtree(path / "models" / "base")
    assert not Workspace.open(path, demo_assets=small).resolve("models/base").exists()


def test_a_new_workspace_without_demo_is_empty(tmp_path):
    opened = Workspace.open(tmp_path / "new", demo_assets=tmp_path / "nothing")
    assert sorted(path.name for path in opened.path.iterdir()) == sorted(FOLDERS)
    assert (opened.models(), opened.recipes(), opened.questions()) == ([], [], [])


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(WorkspaceError, match="expected a folder"):
        Workspace.open(tmp_path / "file")


def test_in_a_demonstration_nothing_is_written(small, tmp_path):
    workspace = Workspace.open(tmp_path / "shown", small, read_only=True)
    assert workspace.recipes() == ["demo"]
    before = {path: path.stat().st_mtime_ns for path in workspace.path.rglob("*")}
    recipe = workspace.load_recipe("demo")
    for write in (
        lambda: workspace.save_recipe(recipe, "mine"),
        lambda: workspace.save_recipe(recipe, "demo", overwrite=True),
        lambda: workspace.new("models", "mine"),
    ):
        with pytest.raises(WorkspaceError, match="nothing is written"):
            write()
    assert {path: path.stat().st_mtime_ns for path in workspace.path.rglob("*")} == before


def test_entries_describe_the_models(workspace):
    entry = workspace.entry("models/base")
    assert (entry.kind, entry.architecture, entry.layers, entry.dtype) == (
        "checkpoint",
        "LlamaForCausalLM",
        3,
        "bfloat16",
    )
    assert entry.nbytes == 2 * entry.parameters
    assert entry.problem == ""


def test_a_damaged_model_is_listed_with_its_problem(workspace):
    weights = workspace.path / "models" / "lang-sw" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-10])
    entry = next(entry for entry in workspace.models() if entry.name == "lang-sw")
    assert "cut short" in entry.problem
    assert str(workspace.path) not in entry.problem
    assert misfit(workspace.entry("models/base"), entry) == entry.problem


def test_misfit_names_tensor_and_reason(workspace):
    folder = workspace.path / "models" / "other"
    shutil.copytree(workspace.path / "models" / "base", folder)
    from safetensors.torch import load_file, save_file

    tensors = load_file(folder / "model.safetensors")
    tensors["model.embed_tokens.weight"] = tensors["model.embed_tokens.weight"][:-3].clone()
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    reason = misfit(workspace.entry("models/base"), workspace.entry("models/other"))
    assert "model.embed_tokens.weight" in reason
    assert "vocabulary" in reason
    assert misfit(workspace.entry("models/base"), workspace.entry("models/lang-sw")) == ""


def test_adapters_and_packs_are_listed_and_checked_against_the_base(workspace):
    base = workspace.path / "models" / "base"
    save_adapter(workspace.path / "models" / "lora", base)
    sources = Sources.open(workspace.load_recipe("demo"), workspace.path)
    write_pack("language", sources.languages["sw"], sources.base, workspace.path / "packs" / "sw.safetensors", {})
    write_pack("ability", sources.abilities["math"], sources.base, workspace.path / "packs" / "math.safetensors", {})
    (workspace.path / "packs" / "bad.safetensors").write_bytes(b"no pack")
    entries = {entry.name: entry for entry in workspace.models()}
    kinds = {name: entry.kind for name, entry in entries.items()}
    assert kinds["lora"] == "adapter"
    assert (kinds["sw"], kinds["math"]) == ("language pack", "ability pack")
    assert entries["bad"].problem
    for name in ("lora", "sw", "math"):
        assert misfit(entries["base"], entries[name]) == ""
    assert "identity" in misfit(entries["lang-bn"], entries["sw"])
    config = workspace.path / "models" / "lora" / "adapter_config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"r": 0}))
    assert "adapter_config.json" in misfit(entries["base"], workspace.entry("models/lora"))


def test_recipe_paths_follow_the_file(workspace):
    recipe = workspace.load_recipe("demo")
    assert recipe.base == "models/base"
    assert recipe.languages["sw"].checkpoint == "models/lang-sw"
    Sources.open(recipe, workspace.path)
    path = workspace.save_recipe(recipe, "copy")
    assert Recipe.load(path) == Recipe.load(workspace.path / "recipes" / "demo.yaml")
    assert Recipe.load(path).base == "../models/base"


def test_hub_ids_stay_as_they_are(workspace):
    recipe = Recipe(base="meta-llama/Llama-3.2-1B@main")
    assert workspace.adopt(recipe, "recipes") == recipe


@pytest.mark.parametrize("base", ["../../secret", "/etc", "../models/../../x", "../link/model"])
def test_a_recipe_that_leads_outside_is_refused(workspace, tmp_path, base):
    (workspace.path / "link").symlink_to(tmp_path)
    (workspace.path / "recipes" / "bad.yaml").write_text(f"base: {json.dumps(base)}\n")
    with pytest.raises(WorkspaceError, match="outside the workspace"):
        workspace.load_recipe("bad")


def test_names_are_not_overwritten(workspace):
    recipe = workspace.load_recipe("demo")
    with pytest.raises(WorkspaceError, match="exists already"):
        workspace.save_recipe(recipe, "demo")
    changed = recipe.with_value("eta", 0.25)
    workspace.save_recipe(changed, "demo", overwrite=True)
    assert workspace.load_recipe("demo") == changed


@pytest.mark.parametrize("name", ["", "..", "a/b", "../x", ".x", "x" * 200, "a\nb", "-x"])
def test_names_that_are_no_file_names_are_refused(workspace, name):
    with pytest.raises(InputError):
        workspace.new("models", name)
    assert not os.path.exists(workspace.path.parent / "x")


def test_map_sources_reaches_every_path(workspace):
    text = (workspace.path / "recipes" / "demo.yaml").read_text().replace("scope: global", "scope: global, scores: s")
    found = []
    map_sources(Recipe.from_yaml(text), lambda source: found.append(source) or source)
    assert len(found) == 6  # base, ability, source language, scores, two languages


def test_questions_and_what_is_wrong_with_them(workspace):
    questions = workspace.questions()
    swahili = next(question for question in questions if question.language == "sw")
    assert swahili.problem == "test-000"
    assert {question.language for question in questions if question.problem == swahili.problem} == {"en", "sw", "bn"}
    assert swahili.gloss == questions[0].question
    assert swahili.like("Habari?").prompt == "Q: Habari?\nA:"
    (workspace.path / "tasks" / "math.jsonl").write_text('{"id": "1", "language": "sw", "question": "?"}\n[1, 2]\n')
    with pytest.raises(InputError, match=r"^tasks/math\.jsonl line 2"):
        workspace.questions()


def test_questions_come_in_every_form_that_is_evaluated(workspace):
    """What the pages show and what `maet evaluate` asks is read in one way; the pages take questions without an answer as well."""
    tasks = workspace.path / "tasks"
    (tasks / "mgsm_te.tsv").write_text("ఎన్ని?\t1,250\n", "utf-8")
    (tasks / "open.jsonl").write_text('{"question": "Why?", "language": "en", "pinned": true}\n')
    (tasks / "notes.md").write_text("no questions\n")
    (tasks / ".half.jsonl").write_text("{")
    found = {question.task: question for question in workspace.questions()}
    assert set(found) == {"math", "mgsm_te", "open"}
    table = found["mgsm_te"]
    assert (table.language, table.number, table.prompt) == ("te", 1250, "ఎన్ని?")
    assert (found["open"].answer, found["open"].pinned) == ("", True)
    assert table == replace(read_questions(tasks / "mgsm_te.tsv")[0], task="mgsm_te", prompt=table.question)
