"""Jobs from submission to end: order, tickets, progress, cancel, resume, remove, and what is refused."""

import json
import os
import subprocess
import sys

import pytest
from yard import PATIENCE_SECONDS, wait_for

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs import config, launching, reading
from maet_core.jobs.launching import fill, fill_words
from maet_core.jobs.record import Run


def test_a_job_from_its_submission_to_its_end(yard):
    run = yard.start(
        "a", before="echo hello >&2; echo progress 1 4 counting >&2", after="echo progress 4 4 counting >&2; echo '{}'"
    )
    yard.started("a")
    now = wait_for(lambda: (found := yard.status(run)).state.total and found)
    assert (now.name, now.share, now.state.phase, now.position) == ("running", 0.25, "counting", 0)
    yard.go("a")
    ended = yard.wait(run)
    assert (ended.name, ended.state.exit_status, ended.share) == ("done", 0, 1.0)
    assert ended.state.seconds > 0
    assert ended.state.started <= ended.state.ended
    assert yard.made("a")
    assert reading.said(run.path / "log.txt") == ["hello"]
    assert json.loads((run.path / "result.json").read_text()) == {}
    assert ended.job.command == yard.script(
        "a", "echo hello >&2; echo progress 1 4 counting >&2", "echo progress 4 4 counting >&2; echo '{}'"
    )


def test_the_worker_is_told_where_its_figures_go(yard):
    made = jobs.submit(yard.path, ["sh", "-c", 'echo "$MAET_PROGRESS $MAET_METRICS [$CUDA_VISIBLE_DEVICES]"; pwd'])
    yard.wait(run := Run.find(yard.path, made.job.id))
    said = (run.path / "result.json").read_text().splitlines()
    assert said == [f"lines {run.path}/metrics.jsonl []", str(yard.path)]


def test_rate_and_time_left_come_from_the_progress(yard):
    steps = "for i in 1 2 3 4 5 6; do echo progress $i 100 stepping, loss $i >&2; sleep 0.2; done"
    run = yard.start("a", before=steps)
    yard.started("a")
    now = wait_for(lambda: (found := yard.status(run)).state.done == 6 and found).state
    assert 0 < now.rate < 10
    assert now.seconds_left == pytest.approx(94 / now.rate)
    yard.go("a")
    yard.wait(run)


def test_the_last_lines_of_an_error_are_kept(yard):
    made = jobs.submit(
        yard.path, ["sh", "-c", "echo one >&2; echo 'maet: models/x: not there; choose another' >&2; exit 2"]
    )
    ended = jobs.wait(yard.path, made.job.id, PATIENCE_SECONDS)
    assert (ended.name, ended.state.exit_status, ended.state.error) == (
        "failed",
        2,
        "maet: models/x: not there; choose another",
    )
    launched = (
        "echo 'maet: mend this' >&2; echo 'srun: error: task 0: Exited' >&2; echo 'ChildFailedError:' >&2; exit 1"
    )
    made = jobs.submit(yard.path, ["sh", "-c", launched])
    assert jobs.wait(yard.path, made.job.id, PATIENCE_SECONDS).state.error == "maet: mend this"
    made = jobs.submit(yard.path, ["sh", "-c", "seq 20 >&2; exit 1"])
    assert jobs.wait(yard.path, made.job.id, PATIENCE_SECONDS).state.error == "\n".join(map(str, range(13, 21)))
    made = jobs.submit(yard.path, ["/nothing/there"])
    assert "not found" in jobs.wait(yard.path, made.job.id, PATIENCE_SECONDS).state.error


def test_a_command_that_says_it_is_done_and_has_made_nothing_has_failed(yard):
    made = jobs.submit(yard.path, ["true"], output="promised")
    ended = jobs.wait(yard.path, made.job.id, PATIENCE_SECONDS)
    assert ended.name == "failed"
    assert "promised is not there" in ended.state.error


def test_cpu_jobs_are_limited_and_start_in_the_order_of_submission(yard):
    names = ["a", "b", "c", "d", "e"]
    runs = {name: yard.start(name) for name in names}
    yard.started("a")
    yard.started("b")
    assert wait_for(lambda: [yard.status(runs[name]).position for name in names] == [0, 0, 1, 2, 3])
    for ended, next_one in (("b", "c"), ("a", "d"), ("d", "e")):
        assert next_one not in yard.order()
        yard.go(ended)
        yard.started(next_one)
    for name in names:
        yard.go(name)
    assert all(yard.wait(run).name == "done" for run in runs.values())
    assert sorted(yard.order()[:2]) == ["a", "b"]
    assert yard.order()[2:] == ["c", "d", "e"]


def test_every_gpu_has_one_job_and_a_large_one_is_not_overtaken(yard):
    runs = {
        name: yard.start(name, before=f"echo $CUDA_VISIBLE_DEVICES > gpus-{name}", gpus=gpus)
        for name, gpus in (("a", 1), ("both", 2), ("b", 1))
    }
    yard.started("a")
    cpu = yard.start("cpu")  # those without a GPU have a line of their own
    yard.started("cpu")
    assert yard.order() == ["a", "cpu"]
    assert [yard.status(runs[name]).position for name in ("both", "b")] == [1, 2]
    yard.go("a")
    yard.started("both")
    assert "b" not in yard.order()
    yard.go("both")
    yard.started("b")
    yard.go("b"), yard.go("cpu")
    assert [yard.wait(run).name for run in (*runs.values(), cpu)] == ["done"] * 4
    given = {name: (yard.path / f"gpus-{name}").read_text().strip() for name in runs}
    assert given["both"] == "0,1"
    assert given["a"] in ("0", "1")


def test_a_job_finds_the_packages_that_modules_have_put_on_the_path(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(["", "here", str(tmp_path / "modules"), str(launching.PROJECT)]))
    assert launching.environment()["PYTHONPATH"].split(os.pathsep) == [
        str(launching.PROJECT),
        str(tmp_path / "modules"),
    ]
    monkeypatch.delenv("PYTHONPATH")
    assert launching.environment()["PYTHONPATH"] == str(launching.PROJECT)


def test_the_gpus_that_there_are(tmp_path, monkeypatch):
    monkeypatch.setattr(config, "_PROC", tmp_path / "proc")
    monkeypatch.setattr(config, "_DEV", tmp_path / "dev")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert config.visible_gpus() == []
    (tmp_path / "dev").mkdir()
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm"):  # all that a container may show
        (tmp_path / "dev" / name).touch()
    assert config.visible_gpus() == ["0", "1"]
    for bus in ("0000:17:00.0", "0000:65:00.0", "0000:b3:00.0"):
        (tmp_path / "proc/driver/nvidia/gpus" / bus).mkdir(parents=True)
    assert config.visible_gpus() == ["0", "1", "2"]
    for told, found in (("2,GPU-7a", ["2", "GPU-7a"]), ("", []), ("-1", [])):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", told)
        assert config.visible_gpus() == found


def test_cancel_tells_it_to_stop_and_waits_for_it_to_save(yard):
    run = yard.start("a", before="trap 'echo saved > saved; exit 143' TERM")
    yard.started("a")
    jobs.cancel(yard.path, run.id)
    ended = yard.wait(run)
    assert (ended.name, ended.state.exit_status, ended.state.error) == ("cancelled", 143, "")
    assert (yard.path / "saved").exists()
    assert not yard.made("a")


def test_cancel_ends_one_that_does_not_listen_with_all_that_it_started(yard):
    away = f"{sys.executable} -c \"import os, time; os.setsid(); open('away', 'w').write(str(os.getpid())); time.sleep(600)\" &"
    run = yard.start("a", before=f"trap '' TERM\n{away}\nwhile [ ! -s away ]; do sleep 0.02; done", grace_seconds=0.2)
    yard.started("a")
    assert yard.status(run).name == "running"
    jobs.cancel(yard.path, run.id)
    assert yard.wait(run).name == "cancelled"
    from yard import running

    assert not running(int((yard.path / "away").read_text()))


def test_cancel_of_a_waiting_job_starts_nothing(yard):
    first, second, third = yard.start("a"), yard.start("b"), yard.start("c")
    yard.started("a"), yard.started("b")
    jobs.cancel(yard.path, third.id)
    assert yard.wait(third).name == "cancelled"
    assert "c" not in yard.order()
    yard.go("a"), yard.go("b")
    assert yard.wait(first).name == yard.wait(second).name == "done"


def test_cancel_too_late_keeps_the_result(yard):
    run = yard.start("a", before="trap 'touch go-a' TERM")  # it finishes instead of stopping
    yard.started("a")
    jobs.cancel(yard.path, run.id)
    assert yard.wait(run).name == "done"
    assert jobs.cancel(yard.path, run.id).name == "done"
    assert yard.made("a")


def test_resume_starts_the_same_command_again_behind_those_that_wait(yard):
    run = yard.start("a", before="if [ -e go-a ]; then exit 3; fi", after="exit 3")
    yard.started("a")
    yard.go("a")
    assert yard.wait(run).name == "failed"
    (yard.path / "go-a").unlink()
    again = jobs.resume(yard.path, run.id)
    assert (again.name, again.state.attempt, again.state.error) == ("queued", 2, "")
    yard.started("a", times=2)
    with pytest.raises(JobError, match="is running"):
        jobs.resume(yard.path, run.id)
    jobs.cancel(yard.path, run.id)
    assert yard.wait(run).name == "cancelled"


def test_a_job_that_is_done_is_not_resumed(yard):
    run = yard.start("a")
    yard.go("a")
    yard.wait(run)
    with pytest.raises(JobError, match="it is done"):
        jobs.resume(yard.path, run.id)


def test_remove_forgets_the_job_and_its_unfinished_work_but_no_result(yard):
    run = yard.start("a")
    with pytest.raises(JobError, match="cancel it first"):
        jobs.remove(yard.path, run.id)
    yard.go("a")
    yard.wait(run)
    (yard.path / ".out-a.partial").mkdir()
    (yard.path / ".out-ab.partial").mkdir()
    jobs.remove(yard.path, run.id)
    assert jobs.listed(yard.path) == []
    assert yard.made("a")
    assert not (yard.path / ".out-a.partial").exists()
    assert (yard.path / ".out-ab.partial").exists()
    assert yard.start("b").job().number == 2  # numbers are not given twice
    yard.go("b")


@pytest.mark.parametrize(
    ("told", "says"),
    [
        ({"gpus": 3}, "3 wanted, this machine has 2"),
        ({"nodes": 2}, "this is one machine"),
        ({"engine": "slrum"}, "'slrum' is unknown; known: local, slurm"),
        ({"output": "there"}, "exists already"),
    ],
)
def test_what_cannot_be_is_refused_at_once(yard, told, says):
    (yard.path / "there").mkdir()
    with pytest.raises(JobError, match=says):
        jobs.submit(yard.path, ["true"], **told)
    assert jobs.listed(yard.path) == []


def test_an_unknown_or_unreadable_job_is_one_clear_error(yard):
    for wanted in ("7", 7, "7-merge-x", "../../etc", ""):
        with pytest.raises(JobError, match="no such job"):
            jobs.status(yard.path, wanted)
    run = yard.start("a")
    yard.go("a")
    yard.wait(run)
    (run.path / "job.json").write_text("{}")
    with pytest.raises(JobError, match="cannot be read"):
        jobs.status(yard.path, 1)
    assert jobs.listed(yard.path) == []


def test_the_job_side_imports_no_torch():
    code = "import sys, maet_core.jobs, maet_core.jobs.supervisor, maet_core.cli.jobs; assert not {'torch', 'numpy', 'streamlit'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_nothing_in_the_workspace_is_imported(yard):
    for name in ("torch", "click", "json"):
        (yard.path / f"{name}.py").write_text("open('trapped', 'w')")
    made = jobs.submit(yard.path, ["maet", "methods", "--json"])
    assert jobs.wait(yard.path, made.job.id, PATIENCE_SECONDS).name == "done"
    assert not (yard.path / "trapped").exists()


def test_figures_of_a_long_file_are_thinned_and_a_resumed_step_counts_once(tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_text("".join(json.dumps({"step": step, "loss": step / 7}) + "\n" for step in range(1, 50_001)))
    rows = reading.figures(path)
    assert 500 < len(rows) <= 1002
    assert [row["step"] for row in rows] == sorted({row["step"] for row in rows})
    assert rows[-1]["step"] == 50_000
    path.write_text(
        '{"step": 1, "loss": 9}\n{"step": 2, "loss": 8}\n{"step": 3, "loss": 7}\n{"step": 2, "loss": 5}\n{"step": 3, "lo'
    )
    assert reading.figures(path) == [{"step": 1, "loss": 9}, {"step": 2, "loss": 5}]
    assert reading.figures(tmp_path / "nothing") == []


def test_templates():
    told = {"name": "a b", "gpus": 0, "time": "1:00", "lines": ["--x", "--y"]}
    assert (
        fill("#S {name}\n  {?gpus}#S {gpus}\n  {?time}#S {time}\n{*lines}#S {line}", told)
        == "#S a b\n#S 1:00\n#S --x\n#S --y\n"
    )
    assert fill_words("squeue --name={name}", told) == ["squeue", "--name=a b"]
    with pytest.raises(JobError, match="nope"):
        fill("{nope}", told)
