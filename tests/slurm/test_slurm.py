"""Jobs on a real Slurm: through sbatch, squeue and scancel alone, without accounting."""

import json
import os
import signal
import subprocess
from pathlib import Path

import pytest
import torch
from cluster import PATIENCE_SECONDS, wait_for
from safetensors.torch import load_file
from small_workspace import build_workspace

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs import reading
from maet_core.jobs.processes import processes_of
from maet_core.jobs.record import ENDED, Run

LINES = "".join(f"Line {number} of the text says {number * number}.\n\n" for number in range(120))


@pytest.fixture(scope="session")
def workspace(tmp_path_factory):
    path = build_workspace(tmp_path_factory.mktemp("cluster") / "workspace")
    (path / "lines.txt").write_text(LINES)
    return path


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch, slurm):
    """`settings(partition=…)` writes the person's configuration."""
    monkeypatch.setenv("MAET_JOBS_CONFIG", str(tmp_path / "jobs.yaml"))

    def write(**told) -> None:
        (tmp_path / "jobs.yaml").write_text(json.dumps({"engines": {"slurm": {"settings": told}}}))

    write(memory="200M")
    return write


@pytest.fixture
def submit(workspace):
    """Submits to Slurm; what still runs at the end is cancelled."""
    runs: list[Run] = []

    def start(command: list[str], **told) -> Run:
        runs.append(Run.find(workspace, jobs.submit(workspace, command, engine="slurm", **told).job.id))
        return runs[-1]

    yield start
    for run in runs:
        jobs.cancel(workspace, run.id)
    for run in runs:
        jobs.wait(workspace, run.id, PATIENCE_SECONDS)


def name(run: Run) -> str:
    return jobs.status(run.path.parents[1], run.id).name


def becomes(run: Run, wanted: str) -> None:
    """Waits until the run is in this state; one that ends otherwise says so at once, with its log."""

    def there() -> bool:
        found = jobs.status(run.path.parents[1], run.id)
        if found.name in ENDED - {wanted}:
            log = (run.path / "log.txt").read_text() + (run.path / "engine.txt").read_text()
            raise AssertionError(f"{found.name}, not {wanted}: {found.state.error}\n{log[-3000:]}")
        return found.name == wanted

    wait_for(there)


def ended(run: Run) -> jobs.Status:
    return jobs.wait(run.path.parents[1], run.id, PATIENCE_SECONDS)


def until_go(mark: str) -> list[str]:
    """A script that waits for the file `mark`-go."""
    return ["sh", "-c", f"touch {mark}-up; while [ ! -e {mark}-go ]; do sleep 0.1; done"]


def test_a_merge_on_the_cluster_is_the_merge_here(workspace, submit):
    command = ["maet", "merge", "recipes/demo.yaml", "--device", "cpu", "--json", "-o"]
    run = submit([*command, "models/there"], output="models/there")
    here = jobs.submit(workspace, [*command, "models/here"], output="models/here")
    assert ended(run).name == "done", ended(run).state.error
    assert jobs.wait(workspace, here.job.id, PATIENCE_SECONDS).name == "done"
    for file in ("model.safetensors", "config.json"):
        assert (workspace / "models/there" / file).read_bytes() == (workspace / "models/here" / file).read_bytes()
    assert ended(run).state.exit_status == 0
    assert ended(run).state.seconds > 0
    assert reading.result(run.path / "result.json")["tensors_changed"] > 0


def test_what_the_template_asks_for_is_what_the_job_gets(workspace, submit, settings, slurm):
    settings(
        partition="urgent", memory="300M", time="0:30:00", lines=["--comment=ours"], setup=["export GREETING=hello"]
    )
    run = submit(
        ["sh", "-c", 'echo "$GREETING $CUDA_VISIBLE_DEVICES $SLURM_JOB_PARTITION"; scontrol show job $SLURM_JOB_ID'],
        gpus=2,
    )
    assert ended(run).name == "done"
    said = (run.path / "result.json").read_text()
    assert said.startswith("hello 0,1 urgent\n")
    for asked in (
        "TimeLimit=00:30:00",
        "MinMemoryNode=300M",
        "Comment=ours",
        "Requeue=1",
        f"JobName={run.engine_name}",
    ):
        assert asked in said


def test_waiting_running_and_cancelled(workspace, submit, settings):
    settings(cpus=2, memory="200M")
    runs = [submit(until_go(f"w{number}")) for number in range(3)]  # two nodes
    wait_for(lambda: sorted(map(name, runs)) == ["queued", "running", "running"])
    waiting = next(run for run in runs if name(run) == "queued")
    jobs.cancel(workspace, waiting.id)
    assert ended(waiting).name == "cancelled"
    first, second = (run for run in runs if run is not waiting)
    jobs.cancel(workspace, first.id)
    assert ended(first).name == "cancelled"
    assert name(second) == "running"
    (workspace / f"w{runs.index(second)}-go").touch()
    assert ended(second).name == "done"


def test_an_error_is_told_and_the_job_resumed(workspace, submit):
    run = submit(
        ["sh", "-c", "if [ -e mended ]; then touch mended-out; else echo 'maet: not yet' >&2; exit 2; fi"],
        output="mended-out",
    )
    assert (ended(run).name, ended(run).state.exit_status, ended(run).state.error) == ("failed", 2, "maet: not yet")
    (workspace / "mended").touch()
    jobs.resume(workspace, run.id)
    assert (ended(run).name, ended(run).state.attempt) == ("done", 2)


def test_somebody_else_s_scancel_is_an_interruption(workspace, submit, slurm):
    run = submit(until_go("s"))
    wait_for((workspace / "s-up").exists)
    slurm("scancel", f"--name={run.engine_name}")
    assert ended(run).name == "interrupted"


def test_a_cluster_that_does_not_answer_has_not_lost_the_job(workspace, submit, slurm):
    run = submit(until_go("q"))
    wait_for((workspace / "q-up").exists)
    waiting = submit(["sh", "-c", "true"], nodes=2)
    slurm.stop("slurmctld")
    try:
        now = jobs.status(workspace, waiting.id)
        assert now.name == "queued"
        assert "squeue" in now.note
        assert name(run) == "running"
    finally:
        slurm.start_controller()
    (workspace / "q-go").touch()
    assert ended(run).name == "done"
    assert ended(waiting).name == "done"


def test_a_submission_that_is_refused_says_why(workspace, settings):
    settings(partition="nowhere")
    with pytest.raises(JobError, match=r"sbatch.*partition"):
        jobs.submit(workspace, ["true"], engine="slurm")
    found = jobs.listed(workspace)[0]
    assert found.name == "failed"
    assert "partition" in found.state.error


def train(output: str, steps: int = 12) -> list[str]:
    command = ["maet", "train", "--base", "models/base", "--corpus", "lines.txt", "-o", output, "--save-every", "1"]
    return [*command, "--steps", str(steps), "--row-tokens", "48", "--batch-rows", "2"]


def freeze(run: Run) -> None:
    """Stops the training where it is; what Slurm sends before SIGTERM lets it go on."""
    for process in processes_of(run.path):
        words = [word for word in Path(f"/proc/{process}/cmdline").read_bytes().split(b"\0") if word != b"-u"]
        if words[1:4] == [b"-m", b"maet_core", b"train"]:
            os.kill(process, signal.SIGSTOP)
            return  # of several, the others wait for this one
    raise AssertionError("no training runs")


def start_again(run: Run, slurm) -> None:
    """A job that is queued again would wait two minutes."""
    number = wait_for(lambda: slurm("squeue", "--noheader", f"--name={run.engine_name}", "--format=%i"))
    subprocess.run(["scontrol", "update", f"jobid={number}", "StartTime=now"], check=True)


def weights(path) -> bytes:
    return (path / "model.safetensors").read_bytes()


@pytest.mark.parametrize("nodes", [1, 2])
def test_preempted_and_requeued_it_goes_on_from_its_state(workspace, submit, settings, slurm, nodes):
    """With two nodes there is a torchrun on each, and all of it is told to stop."""
    settings(cpus=2, memory="2000M")
    steps = 400 // nodes  # enough of them that it is still training when its state is seen
    told = [*train(f"models/preempted-{nodes}", steps), "--accumulate", str(nodes)]
    run = submit(told, output=f"models/preempted-{nodes}", nodes=nodes)
    state = workspace / "models" / f".preempted-{nodes}.training" / "state.json"
    wait_for(state.exists)
    freeze(run)  # it must not finish before it is preempted
    settings(cpus=2, memory="2000M", partition="urgent")
    go = workspace / f"urgent-go-{nodes}"
    urgent = submit(["sh", "-c", f"while [ ! -e {go} ]; do sleep 0.1; done"], nodes=2)
    becomes(urgent, "running")
    becomes(run, "queued")
    assert state.exists()
    go.touch()
    assert ended(urgent).name == "done"
    start_again(run, slurm)
    assert ended(run).name == "done", ended(run).state.error
    assert ended(run).state.attempt == 2
    again = (run.path / "log.txt").read_text().split("--- attempt 2")[1]
    assert f"progress {steps} {steps}" in again
    assert f"progress 1 {steps}" not in again
    settings(cpus=2, memory="2000M")
    told[told.index("-o") + 1] = f"models/calm-{nodes}"
    calm = submit(told, output=f"models/calm-{nodes}", nodes=nodes)
    assert ended(calm).name == "done", ended(calm).state.error
    assert weights(workspace / f"models/preempted-{nodes}") == weights(workspace / f"models/calm-{nodes}")


def test_killed_when_its_node_is_taken_back_it_is_queued_again(workspace, submit, settings, slurm):
    """Slurm kills what doesn't end in time, or whose neighbour has ended first; that is no failure of the job."""
    settings(cpus=2, memory="2000M")
    run = submit(["sh", "-c", "trap 'kill -KILL $$' TERM; touch t-up; while [ ! -e t-go ]; do sleep 0.1; done"])
    wait_for((workspace / "t-up").exists)
    settings(cpus=2, memory="2000M", partition="urgent")
    urgent = submit(until_go("t-urgent"), nodes=2)
    becomes(urgent, "running")
    becomes(run, "queued")
    for go in ("t-go", "t-urgent-go"):
        (workspace / go).touch()
    assert ended(urgent).name == "done"
    start_again(run, slurm)
    assert ended(run).name == "done", ended(run).state.error
    assert ended(run).state.attempt == 2


def test_two_nodes_train_what_one_process_trains(workspace, submit):
    run = submit([*train("models/two", steps=4), "--accumulate", "2"], output="models/two", nodes=2)
    one = jobs.submit(workspace, [*train("models/one", steps=4), "--accumulate", "2"], output="models/one")
    assert ended(run).name == "done", ended(run).state.error
    assert jobs.wait(workspace, one.job.id, PATIENCE_SECONDS).name == "done"
    assert [row["step"] for row in reading.figures(run.path / "metrics.jsonl")] == [1, 2, 3, 4]
    two, alone = (load_file(workspace / "models" / name / "model.safetensors") for name in ("two", "one"))
    start = load_file(workspace / "models" / "base" / "model.safetensors")
    for name, tensor in alone.items():
        torch.testing.assert_close(two[name].float(), tensor.float(), rtol=0.02, atol=2e-4, msg=name)
    assert any((tensor != start[name]).any() for name, tensor in alone.items())


def test_supervisor_killed_on_its_node(workspace, submit):
    """Slurm ends what a batch script leaves behind, so nothing goes on unseen."""
    run = submit(until_go("k"))
    wait_for((workspace / "k-up").exists)
    wait_for(lambda: run.state().supervisor and name(run) == "running")
    os.kill(run.state().supervisor, signal.SIGKILL)
    assert ended(run).name == "interrupted"
    (workspace / "k-go").touch()
    jobs.resume(workspace, run.id)
    assert ended(run).name == "done"
