"""The Jobs page, and a merge saved from the app: each is drawn from real jobs."""

import time

import page_tools
import pytest

from maet_core import jobs
from maet_core.jobs.record import Run
from maet_core.studio import background, resources

PATIENCE_SECONDS = 300


def wait_until(condition) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.05)


@pytest.fixture(autouse=True)
def own_limits(tmp_path, monkeypatch):
    (tmp_path / "jobs.yaml").write_text("local: {cpu_jobs: 1, gpus: []}\n")
    monkeypatch.setenv("MAET_JOBS_CONFIG", str(tmp_path / "jobs.yaml"))
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def start(workspace):
    """start(shell text) is a running or waiting job; it is cancelled at the end."""
    made = []

    def new(text: str, **told) -> jobs.Status:
        made.append(jobs.submit(workspace, ["sh", "-c", text], **told))
        return made[-1]

    yield new
    for one in made:
        if (workspace / "runs" / one.job.id).exists():
            jobs.cancel(workspace, one.job.id)
            jobs.wait(workspace, one.job.id, PATIENCE_SECONDS)


def said(test) -> str:
    return " ".join(element.proto.body for element in test.get("html")) + " ".join(one.value for one in test.caption)


def test_without_jobs_the_page_says_how_to_start_one(app):
    test = app("jobs")
    assert "--job" in test.info[0].value
    assert not test.button
    assert "maet merge recipes/demo.yaml -o models/merged --job" in test.code[0].value


def test_running_waiting_and_their_cancel(app, start, workspace):
    begin = 'for i in 1 2 3 4; do echo "{\\"step\\": $i, \\"loss\\": $i}" >> $MAET_METRICS; done; echo progress 1 4 "training, loss 4.000" >&2; echo hello >&2; sleep 600'
    first, second = start(begin, output="models/first"), start("sleep 600", output="models/second")
    wait_until(lambda: jobs.status(workspace, first.job.id).state.total == 4)
    test = app("jobs")
    assert not test.exception
    assert not test.error
    assert "first" in said(test)
    assert "waits, number 1" in said(test)
    assert "hello" in [one.value for one in test.code]
    assert test.get("plotly_chart")
    test.button(key=f"jobs-cancel-{second.job.number}").click().run()
    wait_until(lambda: jobs.status(workspace, second.job.id).name == "cancelled")
    test.run()
    assert not test.exception
    assert [one.key for one in test.button] == [f"jobs-cancel-{first.job.number}", f"jobs-open-{second.job.number}"]


def test_a_failed_job_is_looked_at_resumed_and_removed(app, workspace):
    jobs.submit(workspace, ["maet", "merge", "recipes/none.yaml", "-o", "models/x"])
    jobs.wait(workspace, 1, PATIENCE_SECONDS)
    test = app("jobs")
    assert "none.yaml" in said(test)
    test.button(key="jobs-open-1").click().run()
    assert not test.exception
    assert "exit status" in said(test)
    assert any("maet merge recipes/none.yaml" in one.value for one in test.code)
    test.button(key="jobs-resume-1").click().run()
    assert jobs.wait(workspace, 1, PATIENCE_SECONDS).state.attempt == 2
    test.run()
    test.button(key="jobs-remove-1").click().run()
    assert not test.exception
    assert jobs.listed(workspace) == []
    assert test.info


def test_a_program_that_is_not_ours_is_not_started_by_a_click(app, start, workspace):
    """The workspace, with what it says was run, may come from somebody else."""
    job = start("exit 1")
    jobs.wait(workspace, job.job.id, PATIENCE_SECONDS)
    test = app("jobs", job=f'"{job.job.id}"')
    assert "jobs-remove-1" in [one.key for one in test.button]
    assert "jobs-resume-1" not in [one.key for one in test.button]


@pytest.mark.parametrize("link", ['"1-sh"', '"../../etc"', '"99-merge-x"', "7", "[]"])
def test_a_link_to_a_job_that_is_not_there_is_harmless(app, link):
    assert not app("jobs", job=link).exception


def test_where_nothing_may_be_written_nothing_is_changed(app, start, workspace, monkeypatch):
    job = start("sleep 600")
    test = app("jobs")
    monkeypatch.setattr(resources.workspace(), "read_only", True)
    test.button(key="jobs-cancel-1").click().run()
    assert "demonstration" in test.warning[0].value
    assert not Run.find(workspace, job.job.id).cancel_wanted


def test_a_merge_saved_from_the_app_is_a_job(app, workspace):
    test = app("merge")
    test.button(key="merge-save").click().run()
    assert not test.exception
    assert jobs.wait(workspace, 1, PATIENCE_SECONDS).name == "done"
    test.run()
    assert "models/demo-merged is saved" in test.success[0].value
    assert (workspace / "models" / "demo-merged" / "model.safetensors").is_file()
    kept = Run.find(workspace, 1).path / "recipe.yaml"
    assert kept.read_text() == resources.workspace().portable(resources.workspace().load_recipe("demo")).to_yaml()
    test.button(key="merge-save").click().run()
    assert "exists already" in test.warning[0].value


def test_stop_ends_a_merge_and_its_error_is_one_line(app, workspace, start):
    start("sleep 600")  # so that the merge waits
    test = app("merge")
    test.button(key="merge-save").click().run()
    test.button(key="merge-stop").click().run()
    wait_until(lambda: jobs.status(workspace, 2).name == "cancelled")
    test.run()
    assert "can be resumed" in " ".join(one.value for one in test.info)
    jobs.cancel(workspace, 1)
    (workspace / "models" / "lang-bn" / "model.safetensors").unlink()
    jobs.resume(workspace, 2)
    assert jobs.wait(workspace, 2, PATIENCE_SECONDS).name == "failed"
    assert "lang-bn" in jobs.status(workspace, 2).state.error
    assert "\n" not in jobs.status(workspace, 2).state.error


def with_corpus(workspace) -> None:
    (workspace / "corpora").mkdir(exist_ok=True)
    (workspace / "corpora" / "general.txt").write_text("A line of text.\n\n" * 40)
    (workspace / "corpora" / "math.jsonl").write_text('{"prompt": "1 + 1 =", "answer": "2"}\n' * 40)


def test_neurons_are_located_from_the_app_and_shown(app, workspace):
    test = app("neurons")
    assert "corpora/" in " ".join(one.value for one in test.caption)  # there are no examples yet
    assert test.button(key="locate-start").disabled
    test.selectbox(key="locate-method").set_value("value-change").run()
    assert test.selectbox(key="locate-trained").value == "models/math-en"
    test.button(key="locate-start").click().run()
    assert not test.exception
    assert jobs.wait(workspace, 1, PATIENCE_SECONDS).name == "done"
    test.run()
    assert "scores/math-en-value-change.safetensors is saved" in test.success[0].value
    test.button(key="locate-stop-open").click().run()
    assert not test.exception
    assert page_tools.widget(test.selectbox, "neurons-score").value == "file:scores/math-en-value-change.safetensors"
    test = app("jobs")
    test.button(key="jobs-result-1").click().run()
    assert test.session_state["_view"]["score"] == "file:scores/math-en-value-change.safetensors"


def test_examples_and_options_of_a_location_become_its_command(app, workspace, start):
    start("sleep 600")  # so that the job waits
    with_corpus(workspace)
    test = app("neurons")
    assert test.selectbox(key="locate-corpus").value == "corpora/math.jsonl"  # the recipe's ability is called math
    test.toggle(key="locate-answers").set_value(True)
    test.toggle(key="locate-halves").set_value(True)
    test.number_input(key="locate-batches").set_value(4).run()
    test.button(key="locate-start").click().run()
    order = jobs.cancel(workspace, 2).job
    told = "--corpus corpora/math.jsonl --batches 4 --answers-only --split-half"
    assert order.typed == (
        f"maet locate --base models/base --method taylor --granularity parameter {told} -o scores/math-taylor.safetensors --json"
    )
    assert order.output == str(workspace / "scores" / "math-taylor.safetensors")
    assert any(order.typed.removesuffix(" --json") == one.value for one in test.code)


def test_a_training_is_started_from_the_app(app, workspace, start):
    start("sleep 600")
    with_corpus(workspace)
    (workspace / "scores" / "math.safetensors").touch()
    test = app("models")
    test.selectbox(key="train-corpus").set_value("corpora/math.jsonl")
    test.selectbox(key="train-general").set_value("corpora/general.txt")
    test.selectbox(key="train-scores").set_value("scores/math.safetensors").run()
    test.number_input(key="train-steps").set_value(20).run()
    test.button(key="train-start").click().run()
    assert not test.exception
    order = jobs.cancel(workspace, 2).job
    assert order.typed == (
        "maet train --base models/base --corpus corpora/math.jsonl --general corpora/general.txt --key-neurons scores/math.safetensors "
        "--k1 5 --steps 20 --learning-rate 0.0001 --batch-rows 8 -o models/math-trained --json"
    )
    test.selectbox(key="train-scores").set_value("").run()
    test.number_input(key="train-rank").set_value(16).run()
    assert any("--lora 16" in one.value and "--key-neurons" not in one.value for one in test.code)


def test_where_nothing_may_be_written_nothing_is_started(app, workspace, monkeypatch):
    with_corpus(workspace)
    test = app("models")
    monkeypatch.setattr(resources.workspace(), "read_only", True)
    test.button(key="train-start").click().run()
    assert "demonstration" in test.warning[0].value
    assert jobs.listed(workspace) == []


def test_a_cluster_that_is_installed_is_offered(app, workspace, tmp_path, monkeypatch):
    engine = "submit: sh -c true, script: '', status: sh -c true, cancel: sh -c true, waiting: [], running: []"
    settings = f"local: {{cpu_jobs: 1, gpus: [0]}}\nengines: {{near: {{{engine}}}, far: {{{engine.replace('sh -c true', 'not-here')}}}}}\n"
    (tmp_path / "jobs.yaml").write_text(settings)
    with_corpus(workspace)
    test = app("models")
    assert [one for one in test.selectbox(key="train-place").options if one != "slurm"] == [
        "one GPU of this machine",
        "this machine's processor",
        "near",
    ]
    assert any("--device cuda" in one.value for one in test.code)
    test.selectbox(key="train-place").set_value("near").run()
    test.button(key="train-start").click().run()
    assert not test.exception
    assert jobs.status(workspace, 1).job.engine == "near"
    (tmp_path / "jobs.yaml").write_text("local: 7\n")
    test = app("models")
    page_tools.no_complaint(test)
    assert "jobs.yaml" in " ".join(one.value for one in test.caption)


def test_durations_and_moments_are_for_people():
    assert [background.duration(seconds) for seconds in (0.42, 12.3, 61, 7500)] == [
        "0.4 s",
        "12 s",
        "1 min 1 s",
        "2 h 5 min",
    ]
    assert background.quantity(1_234_567) == "1.23 M"
    assert background.moment("2026-11-24T07:28:33+0000") == "24 Nov 07:28"
    assert background.moment("never") == ""


def test_an_ability_saved_as_a_pack_is_a_job_too(app, workspace):
    test = app("merge")
    test.text_input(key="merge-pack-name").set_value("mine").run()
    test.button(key="merge-save-pack").click().run()
    assert not test.exception
    job = test.session_state["_my_pack"]
    wait_until(lambda: jobs.status(workspace, job).name in jobs.ENDED)
    test.run()
    assert any("packs/mine" in element.value for element in test.success), jobs.status(workspace, job)
    assert (workspace / "packs" / "mine.safetensors").is_file()
