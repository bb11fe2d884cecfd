"""The paper's table from one command, on a tiny model: what it says beforehand, and the whole run."""

import json
import shlex
from pathlib import Path

import pytest
from small_workspace import build_workspace

from maet_core.cli import maet as command_line
from maet_core.errors import InputError, OutputError
from maet_core.evaluation.results import Evaluation
from maet_core.recipe import Recipe
from maet_core.reproduction import run as running
from maet_core.reproduction.plan import ROWS, START_SECONDS, Order, make_plan
from maet_core.selection import measure
from maet_core.sources import Sources


@pytest.fixture(scope="module")
def workspace(tmp_path_factory):
    folder = build_workspace(tmp_path_factory.mktemp("reproduce") / "workspace")
    for name in ("math", "english", "swahili", "bengali"):
        (folder / f"{name}.txt").write_text(
            "\n\n".join(f"{name} text number {i} of the corpus, with words" for i in range(40))
        )
    return folder


def order(workspace: Path, folder: Path, **changes) -> Order:
    corpora = {"sw": str(workspace / "swahili.txt"), "bn": str(workspace / "bengali.txt")}
    settings = {
        "base": str(workspace / "models" / "base"),
        "ability": str(workspace / "math.txt"),
        "general": str(workspace / "english.txt"),
        "languages": corpora,
        "tasks": [str(workspace / "tasks" / "math.jsonl")],
        "folder": folder,
        "steps": 2,
        "batch_rows": 2,
        "row_tokens": 32,
        "k1": 20.0,
        "k2": 50.0,
        "max_new_tokens": 2,
    }
    return Order(**settings | changes)


def test_the_plan_says_what_it_costs(workspace, tmp_path):
    plan = make_plan(order(workspace, tmp_path / "r", steps=100))
    assert plan.training_tokens == sum(step.tokens for step in plan.steps[:-1])
    trained = [step for step in plan.steps if step.kind == "train"]
    assert {step.tokens for step in trained} == {100 * 2 * 32}
    assert plan.answer_tokens == 9 * 2 * (1 + 2 + 2 + 9)  # questions × tokens × models
    assert plan.nbytes > sum(step.nbytes for step in trained)
    one = trained[0]
    assert plan.seconds(one, 6 * plan.parameters * one.tokens, 1.0) == pytest.approx(START_SECONDS + 1.0)
    assert set(plan.recipes) | {"base", "f-cpt", "domain"} == set(ROWS)
    for content in plan.recipes.values():
        Recipe.from_dict(content)
    assert all(shlex.split(step.typed)[0] == "maet" for step in plan.steps)


def test_orders_that_make_no_sense(workspace, tmp_path):
    with pytest.raises(InputError, match="en is the source language"):
        order(workspace, tmp_path, languages={"en": "x"})
    with pytest.raises(InputError, match="--languages: none"):
        order(workspace, tmp_path, languages={})


def test_the_whole_table(workspace, tmp_path, monkeypatch):
    """Every step, in this process for speed; a run that was stopped goes on with what is missing."""
    done = []

    def in_here(step, progress):
        done.append(step.name)
        command_line.main([*step.command], prog_name="maet", standalone_mode=False)

    monkeypatch.setattr(running, "_run", in_here)
    plan = make_plan(order(workspace, tmp_path / "r"))
    found = running.reproduce(plan)
    assert done == [step.name for step in plan.steps]
    labels = set(found.labels)
    assert labels == {"base", "lang-sw", "lang-bn", "f-cpt", "domain", *plan.recipes}
    assert {cell.language for cell in found.cells} == {"en", "sw", "bn"}
    assert len(found.cells) == 3 * len(labels)
    assert (tmp_path / "r" / "table.csv").is_file()
    assert "maet-random-tensors" in (tmp_path / "r" / "math.tex").read_text()
    took = running.costs(tmp_path / "r")
    assert list(took) == done
    assert all(row["seconds"] >= 0 for row in took.values())
    recipes = {
        name: Recipe.load(tmp_path / "r" / "recipes" / f"{name}.yaml") for name in ("maet", "maet-random-tensors")
    }
    counts = {
        name: sum(row.selected for row in measure(Sources.open(r)).select(r)["ability"].rows)
        for name, r in recipes.items()
    }
    assert counts["maet"] == counts["maet-random-tensors"] > 0
    done.clear()
    index = tmp_path / "r" / "evaluation" / "evaluation.json"
    index.write_text(json.dumps(json.loads(index.read_text()) | {"finished": False}))
    assert running.reproduce(plan).finished
    assert done == ["evaluation"]
    with pytest.raises(OutputError, match="holds another plan"):
        running.reproduce(make_plan(order(workspace, tmp_path / "r", steps=3)))
    assert Evaluation.load(tmp_path / "r" / "evaluation").finished


def test_parts_of_a_stopped_step_are_added_up(workspace, tmp_path, monkeypatch):
    plan = make_plan(order(workspace, tmp_path / "r"))

    def stopped(step, progress):
        clock.append(clock[-1] + 2.5)
        if len(clock) < 4:
            raise KeyboardInterrupt
        step.output.write_bytes(b"")
        raise SystemExit  # so that the next step does not begin

    clock = [0.0]
    monkeypatch.setattr(running, "_run", stopped)
    monkeypatch.setattr(running.time, "monotonic", lambda: clock[-1])
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            running.reproduce(plan)
    with pytest.raises(SystemExit):
        running.reproduce(plan)
    assert running.costs(tmp_path / "r")["key neurons"]["seconds"] == 7.5


def test_too_little_room(workspace, tmp_path, monkeypatch):
    usage = running.shutil.disk_usage(tmp_path)
    monkeypatch.setattr(running.shutil, "disk_usage", lambda path: usage._replace(free=1000))
    with pytest.raises(OutputError, match="GB are free"):
        running.reproduce(make_plan(order(workspace, tmp_path / "r")))


def test_a_step_that_fails_is_told_with_its_command(workspace, tmp_path):
    plan = make_plan(order(workspace, tmp_path / "r", documents=1, ability=str(workspace / "gone.txt")))
    with pytest.raises(InputError, match=r"gone\.txt"):
        running._run(plan.steps[0], None)


def test_the_command_says_its_plan(maet, workspace, tmp_path):
    told = maet(
        "reproduce", "--base", workspace / "models" / "base", "--ability", workspace / "math.txt", "--general", workspace / "english.txt",
        "--language", f"sw={workspace / 'swahili.txt'}", "--task", workspace / "tasks" / "math.jsonl", "--plan", "-o", tmp_path / "r", "--json",
        "--device", "auto",
    )  # fmt: skip
    assert told.status == 0, told.stderr
    result = json.loads(told.stdout)
    assert result["cost"]["hours"] > 0
    assert [step["name"] for step in result["steps"]][-1] == "evaluation"
    assert not (tmp_path / "r").exists()
