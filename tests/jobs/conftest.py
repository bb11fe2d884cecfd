"""The workspace in which the tests of jobs work."""

import os
import signal

import pytest
from yard import Yard, running

from maet_core import jobs
from maet_core.jobs.processes import processes_of
from maet_core.jobs.record import Run


@pytest.fixture
def yard(tmp_path, monkeypatch):
    (tmp_path / "jobs.yaml").write_text("local: {cpu_jobs: 2, gpus: [0, 1]}\n")
    monkeypatch.setenv("MAET_JOBS_CONFIG", str(tmp_path / "jobs.yaml"))
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))
    workspace = tmp_path / "workspace"
    workspace.mkdir()
    yield Yard(workspace)
    for found in jobs.listed(workspace):
        run = Run.find(workspace, found.job.id)
        if run.alive:
            (run.path / "cancel").touch()
            for process in [run.state().supervisor, *processes_of(run.path)]:
                if process and running(process):
                    os.kill(process, signal.SIGKILL)
