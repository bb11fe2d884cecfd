"""What a job survives, done for real: processes are killed, disks are full, clocks jump."""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from small_workspace import build_workspace
from yard import PATIENCE_SECONDS, running, wait_for

from maet_core import jobs
from maet_core.errors import JobError
from maet_core.jobs import launching
from maet_core.jobs.processes import processes_of
from maet_core.jobs.record import Run

SUBMIT = "import sys, json, signal; from maet_core import jobs; print(jobs.submit(sys.argv[1], json.loads(sys.argv[2]), output='out-a').job.id, flush=True); signal.pause()"


def test_the_process_that_submitted_is_killed(yard):
    """The app's server, or a terminal: here with its whole process group."""
    submitter = subprocess.Popen(
        [sys.executable, "-c", SUBMIT, str(yard.path), json.dumps(yard.script("a"))],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    run = Run.find(yard.path, submitter.stdout.readline().strip())
    yard.started("a")
    os.killpg(submitter.pid, signal.SIGKILL)
    submitter.communicate()
    assert yard.status(run).name == "running"
    yard.go("a")
    assert yard.wait(run).name == "done"
    assert yard.made("a")


def test_supervisor_killed_the_worker_goes_on_alone_and_its_end_is_known(yard):
    run = yard.start("a", before="echo progress 1 4 counting >&2")
    yard.started("a")
    wait_for(lambda: yard.status(run).name == "running")
    yard.kill_supervisor(run)
    now = yard.status(run)
    assert (now.name, now.share, now.note) == ("running", 0.25, "its supervisor was killed; the work goes on")
    with pytest.raises(JobError, match="is running"):
        jobs.resume(yard.path, run.id)
    with pytest.raises(JobError, match="job 1 is making it"):
        yard.start("a")
    with pytest.raises(JobError, match="cancel it first"):
        jobs.remove(yard.path, run.id)
    yard.go("a")
    ended = yard.wait(run)
    assert (ended.name, ended.state.exit_status) == ("done", 0)


def test_supervisor_killed_cancel_still_reaches_the_worker(yard):
    run = yard.start("a", before="trap 'touch saved; exit 143' TERM")
    yard.started("a")
    wait_for(lambda: yard.status(run).name == "running")
    workers = processes_of(run.path)
    yard.kill_supervisor(run)
    jobs.cancel(yard.path, run.id)
    assert yard.wait(run).name == "cancelled"
    assert (yard.path / "saved").exists()
    assert not any(map(running, workers))


def test_supervisor_killed_a_gpu_stays_taken_while_the_worker_lives(yard):
    first = yard.start("a", gpus=2)
    yard.started("a")
    wait_for(lambda: yard.status(first).name == "running")
    second = yard.start("b", gpus=1)
    yard.kill_supervisor(first)
    assert yard.status(second).name == "queued"
    yard.go("a")
    yard.started("b")
    yard.go("b")
    assert yard.wait(second).name == "done"


def test_worker_killed_is_interrupted_and_resumed(yard):
    run = yard.start("a")
    yard.started("a")
    yard.kill_worker(run)
    ended = yard.wait(run)
    assert ended.name == "interrupted"
    assert "signal 9" in ended.state.error
    assert not yard.made("a")
    jobs.resume(yard.path, run.id)
    yard.started("a", times=2)
    yard.go("a")
    assert yard.wait(run).name == "done"
    assert yard.status(run).state.attempt == 2


def test_a_finished_result_is_not_lost_when_everything_is_killed_right_after(yard):
    """The output has its name already; nobody has written down that the job is done."""
    run = yard.start("a", after='echo "$MAET_RUN" > part-a && mv part-a out-a; touch made; sleep 600')
    yard.started("a")
    yard.go("a")
    wait_for((yard.path / "made").exists)
    yard.kill_supervisor(run)
    yard.kill_worker(run)
    assert yard.wait(run).name == "done"


def test_the_machine_is_restarted(yard):
    """All processes and all locks are gone at once, of the running and of the waiting."""
    runs = [yard.start(name) for name in ("a", "b", "c")]
    yard.started("a"), yard.started("b")
    wait_for(lambda: all(run.state().supervisor for run in runs))
    workers = [wait_for(lambda run=run: run.state().worker) for run in runs[:2]]
    for process in [run.state().supervisor for run in runs]:
        os.kill(process, signal.SIGKILL)
    for worker in workers:
        os.killpg(worker, signal.SIGKILL)
    wait_for(lambda: not any(run.alive for run in runs))
    assert [yard.status(run).name for run in runs] == ["interrupted"] * 3
    assert "restarted" in yard.status(runs[0]).state.error
    for run in reversed(runs):
        jobs.resume(yard.path, run.id)
    yard.started("c"), yard.started("b", 2)
    assert "a" not in yard.order()[2:]  # resumed last, so it waits
    for name in ("a", "b", "c"):
        yard.go(name)
    assert [yard.wait(run).name for run in runs] == ["done"] * 3


def test_the_disk_is_full(yard, small_disk):
    """A real merge whose output does not fit: one clear error, nothing half there, and it goes on when there is room."""
    workspace = build_workspace(small_disk / "workspace")
    filling = small_disk / "filling"
    fill_up(filling)
    with filling.open("rb+") as file:
        file.truncate(filling.stat().st_size - 90_000)  # room for the job's own files, not for a model
    command = ["maet", "merge", "recipes/demo.yaml", "-o", "models/made", "--device", "cpu"]
    made = jobs.submit(workspace, command, output="models/made")
    ended = jobs.wait(workspace, made.job.id, PATIENCE_SECONDS)
    assert ended.name == "failed", ended
    assert "models/made" in ended.state.error
    assert "free some" in ended.state.error
    assert sorted(path.name for path in (workspace / "models").iterdir()) == [
        "base",
        "general-en",
        "lang-bn",
        "lang-sw",
        "math-en",
    ]
    filling.unlink()
    jobs.resume(workspace, made.job.id)
    assert jobs.wait(workspace, made.job.id, PATIENCE_SECONDS).name == "done"
    assert (workspace / "models" / "made" / "model.safetensors").is_file()


def test_the_disk_is_full_to_the_last_byte(yard, small_disk):
    """A job that fills the disk itself: its end is written down all the same, in room that was kept for that."""
    made = jobs.submit(small_disk, ["sh", "-c", "cat /dev/zero > filling"], output="out")
    ended = jobs.wait(small_disk, made.job.id, PATIENCE_SECONDS)
    assert (ended.name, ended.state.exit_status) == ("failed", 1)
    assert "No space left" in ended.state.error or "exit status" in ended.state.error
    with pytest.raises(JobError, match="free some space"):
        submit_many(small_disk)
    (small_disk / "filling").unlink()
    assert jobs.wait(small_disk, jobs.submit(small_disk, ["true"]).job.id, PATIENCE_SECONDS).name == "done"


def fill_up(path):
    with path.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def submit_many(workspace):
    for _ in range(50):
        jobs.submit(workspace, ["true"])


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MB."""
    path = tmp_path / "disk"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1536k", "tmpfs", str(path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root; the limit on a file's size below does not")
    yield path
    wait_for(lambda: subprocess.run(["umount", str(path)], capture_output=True).returncode == 0)


def test_files_may_not_grow(yard):
    """Where no small disk can be mounted: a limit on every file that the job writes."""
    workspace = build_workspace(yard.path / "models-of-their-own")
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)); from maet_core import jobs; "
        "print(jobs.submit(sys.argv[1], ['maet', 'merge', 'recipes/demo.yaml', '-o', 'models/made', '--device', 'cpu'], output='models/made').job.id)"
    )
    job = subprocess.run(
        [sys.executable, "-c", code, str(workspace)], check=True, capture_output=True, text=True
    ).stdout.strip()
    ended = jobs.wait(workspace, job, PATIENCE_SECONDS)
    assert ended.name == "failed"
    assert "no space left" in ended.state.error
    assert not (workspace / "models" / "made").exists()


def test_two_submits_of_one_output_at_once(yard):
    gate = threading.Barrier(6)

    def submit(_):
        gate.wait()
        try:
            return yard.start("a")
        except JobError:
            return None

    with ThreadPoolExecutor(6) as pool:
        runs = [run for run in pool.map(submit, range(6)) if run]
    assert len(runs) == 1
    assert len(jobs.listed(yard.path)) == 1
    yard.go("a")
    assert yard.wait(runs[0]).name == "done"
    assert yard.order() == ["a"]


def test_two_jobs_on_one_folder_that_grows(yard):
    """One writer at a time; that the folder is there already is no hindrance, and no sign of success."""
    (yard.path / "out-a").mkdir()
    command = ["sh", "-c", "touch up; while [ ! -e go ]; do sleep 0.02; done; exit $(cat go)"]

    def submit():
        return jobs.submit(yard.path, command, output="out-a", grows=True).job.id

    first = submit()
    wait_for((yard.path / "up").exists)
    with pytest.raises(JobError, match="job 1 is making it"):
        submit()
    (yard.path / "go").write_text("1")
    assert jobs.wait(yard.path, first, PATIENCE_SECONDS).name == "failed"
    (yard.path / "go").write_text("0")
    assert jobs.wait(yard.path, submit(), PATIENCE_SECONDS).name == "done"


def test_two_resumes_at_once(yard):
    run = yard.start("a")
    yard.started("a")
    yard.kill_worker(run)
    yard.wait(run)
    gate = threading.Barrier(6)

    def resume(_):
        gate.wait()
        try:
            return jobs.resume(yard.path, run.id)
        except JobError:
            return None

    with ThreadPoolExecutor(6) as pool:
        assert sum(found is not None for found in pool.map(resume, range(6))) == 1
    yard.started("a", times=2)
    yard.go("a")
    assert yard.wait(run).state.attempt == 2
    assert yard.order() == ["a", "a"]


def test_many_submits_at_once_have_their_own_numbers(yard):
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: jobs.submit(yard.path, ["true"]).job.number, range(12)))
    assert sorted(made) == list(range(1, 13))
    assert {jobs.wait(yard.path, number, PATIENCE_SECONDS).name for number in made} == {"done"}


JUMPY = """
import itertools, sys, time
offsets = itertools.cycle([0, -4e8, 9e8, -9e8])
real_time, real_strftime = time.time, time.strftime
time.time = lambda: real_time() + next(offsets)
time.strftime = lambda form, *when: real_strftime(form, *(when or [time.gmtime(time.time())]))
sys.argv = sys.argv[1:]
from maet_core.jobs.supervisor import main
main()
"""


def test_clocks_that_jump(yard, monkeypatch):
    """The supervisor's wall clock jumps by decades at every look; durations, rates and the order stay what they are."""
    calm = launching.supervisor_command
    monkeypatch.setattr(
        launching, "supervisor_command", lambda run, *more: [sys.executable, "-P", "-c", JUMPY, *calm(run, *more)[3:]]
    )
    steps = "for i in 1 2 3 4; do echo progress $i 100 stepping >&2; sleep 0.15; done"
    runs = {name: yard.start(name, before=steps) for name in ("a", "b", "c", "d")}
    yard.started("a"), yard.started("b")
    now = wait_for(lambda: (found := yard.status(runs["a"])).state.rate and found)
    assert now.name == "running"
    assert now.note == ""
    assert 0 < now.state.rate < 100
    assert 0 < now.state.seconds_left < 1000
    assert [yard.status(runs[name]).position for name in ("c", "d")] == [1, 2]
    yard.go("b")
    yard.started("c")
    for name in runs:
        yard.go(name)
    for run in runs.values():
        ended = yard.wait(run)
        assert ended.name == "done"
        assert 0 < ended.state.seconds < 2 * PATIENCE_SECONDS
    assert yard.order()[2:] == ["c", "d"]
    years = {state[:4] for run in runs.values() for state in (run.state().started, run.state().ended)}
    assert len(years) > 1  # the clock did jump
