"""`maet jobs`, and `--job` on the commands that take long."""

import json
import shutil

import pytest
from small_workspace import build_workspace
from yard import PATIENCE_SECONDS, wait_for

from maet_core import jobs
from maet_core.jobs.record import Run


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    return build_workspace(tmp_path_factory.mktemp("built") / "workspace")


@pytest.fixture
def workspace(built, yard, monkeypatch):
    shutil.copytree(built, yard.path, dirs_exist_ok=True)
    monkeypatch.chdir(yard.path)
    monkeypatch.delenv("MAET_WORKSPACE", raising=False)
    return yard.path


def test_a_merge_in_the_background_is_the_recipe_as_it_was(workspace, maet):
    recipe = workspace / "recipes" / "demo.yaml"
    kept = recipe.read_text()
    told = json.loads(
        maet("merge", "recipes/demo.yaml", "-o", "models/made", "--device", "cpu", "--job", "--json").stdout
    )
    recipe.write_text("nothing: at all\n")
    assert told["command"] == [
        "maet", "merge", "runs/1-merge-made/recipe.yaml", "-o", "models/made", "--device", "cpu", "--json", "--relative-to", "recipes"
    ]  # fmt: skip
    ended = jobs.wait(workspace, told["number"], PATIENCE_SECONDS)
    assert ended.name == "done", ended.state.error
    shown = json.loads(maet("jobs", "show", "1", "--json").stdout)
    assert shown["state"] == "done"
    assert shown["result"]["tensors_changed"] > 0
    assert (workspace / "runs" / "1-merge-made" / "recipe.yaml").read_text() == kept
    recipe.write_text(kept)
    assert maet("merge", "recipes/demo.yaml", "-o", "models/plain", "--device", "cpu").status == 0
    for name in ("model.safetensors", "config.json"):
        assert (workspace / "models" / "made" / name).read_bytes() == (
            workspace / "models" / "plain" / name
        ).read_bytes()


def test_a_training_in_the_background_leaves_its_figures(workspace, maet):
    (workspace / "lines.txt").write_text("".join(f"Line {number} says {number * number}.\n\n" for number in range(60)))
    arguments = [
        "--base",
        "models/base",
        "--corpus",
        "lines.txt",
        "--steps",
        "3",
        "--row-tokens",
        "32",
        "--batch-rows",
        "2",
    ]
    said = maet("train", *arguments, "-o", "models/trained", "--job")
    assert said.status == 0
    assert "job 1: maet train --base models/base" in said.stdout
    ended = jobs.wait(workspace, 1, PATIENCE_SECONDS)
    assert ended.name == "done", ended.state.error
    assert (ended.state.done, ended.state.total) == (3, 3)
    from maet_core.jobs import reading

    assert [row["step"] for row in reading.figures(Run.find(workspace, 1).path / "metrics.jsonl")] == [1, 2, 3]


def test_locate_takes_job_too(workspace, maet):
    assert (
        maet(
            "locate", "--base", "models/base", "--trained", "models/math-en", "-o", "scores/s.safetensors", "--job"
        ).status
        == 0
    )
    assert jobs.wait(workspace, 1, PATIENCE_SECONDS).name == "done"
    assert (workspace / "scores" / "s.safetensors").is_file()


@pytest.mark.parametrize(
    "command",
    [
        "evaluate models/base recipes/demo.yaml --task tasks/math.jsonl",
        "sweep recipes/demo.yaml --task tasks/math.jsonl --gamma 0:1:0.5",
        "tune recipes/demo.yaml --task tasks/math.jsonl --trials 3",
        "reproduce --base models/base --ability a.txt --general b.txt --language sw=c.txt --task tasks/math.jsonl",
    ],
)
def test_measuring_takes_job_too_and_adds_to_its_folder(workspace, yard, maet, command):
    yard.start("a"), yard.start("b")  # so that the job waits
    outcome = maet(*command.split(), "-o", "results/new", "--job")
    assert outcome.status == 0, outcome.stderr
    order = jobs.cancel(workspace, 3).job
    assert order.typed == f"maet {command} -o results/new --json"
    assert (order.output, order.grows) == (str(workspace / "results" / "new"), True)


def test_the_list_and_what_can_be_done_with_a_job(workspace, yard, maet):
    assert "no jobs in" in maet("jobs").stdout
    first, second = yard.start("a", before="echo hello >&2"), yard.start("b")
    yard.started("a")
    wait_for(lambda: yard.status(first).name == "running")
    assert [one["id"] for one in json.loads(maet("jobs", "--json").stdout)["jobs"]] == ["2-sh-out-b", "1-sh-out-a"]
    assert maet("jobs", "log", "1").stdout == "hello\n"
    cancelled = maet("jobs", "cancel", "1")
    assert (cancelled.status, cancelled.stdout) == (0, "job 1: cancelled\n")
    assert "job 1: queued" in maet("jobs", "resume", "1").stdout
    refused = maet("jobs", "remove", "1")
    assert refused.status == 2
    assert "cancel it first" in refused.stderr
    yard.go("a"), yard.go("b")
    assert yard.wait(first).name == yard.wait(second).name == "done"
    lines = maet("jobs", "log", "1", "-f").stdout.splitlines()
    assert lines[0] == "hello"
    assert maet("jobs", "remove", "2").stdout == "job 2 removed\n"
    assert [line.split()[:4] for line in maet("jobs", "list").stdout.splitlines()[1:]] == [["1", "sh", "out-a", "done"]]


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["jobs", "show", "9"], "9: no such job"),
        (["merge", "recipes/none.yaml", "-o", "x", "--job"], "recipes/none.yaml: cannot be read"),
        (["merge", "recipes/demo.yaml", "-o", "models/base", "--job"], "models/base: exists already"),
        (["merge", "recipes/demo.yaml", "-o", "x", "--engine", "slurm"], "--engine is for --job"),
        (["merge", "recipes/demo.yaml", "-o", "x", "--job", "--engine", "pbs"], "'pbs' is unknown"),
        (["merge", "recipes/demo.yaml", "-o", "x", "--job", "--gpus", "5"], "5 wanted, this machine has 2"),
    ],
)
def test_wrong_input_is_one_line(workspace, maet, arguments, says):
    outcome = maet(*arguments)
    assert outcome.status == 2
    assert says in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


def test_settings_that_cannot_be_are_told(workspace, maet, yard, tmp_path):
    for text, says in (
        ("local: {cpu_jobs: 0}", "local: expected `cpu_jobs: NUMBER`"),
        ("local: [", "cannot be read"),
        ("engines: {slurm: {settings: {partion: x}}}", "partion unknown"),
        ("engines: {mine: {submit: x}}", "expected the fields"),
    ):
        (tmp_path / "jobs.yaml").write_text(text)
        engine = ["--engine", "mine" if "mine" in text else "slurm"] if "engines" in text else []
        outcome = maet("merge", "recipes/demo.yaml", "-o", "x", "--job", *engine)
        assert (outcome.status, len(outcome.stderr.splitlines())) == (2, 1), outcome
        assert says in outcome.stderr
