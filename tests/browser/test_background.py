"""Jobs in real Chromium: a merge saved from Merge is on Jobs, and goes on when the app's server is killed."""

import os
import signal

import pytest
from playwright.sync_api import expect
from small_workspace import build_workspace
from studio_server import serve

from maet_core import jobs

PATIENCE_SECONDS = 300


@pytest.fixture
def own_cache(tmp_path, monkeypatch):
    """Tickets of its own: other tests' jobs are not in the way."""
    monkeypatch.setenv("MAET_CACHE", str(tmp_path / "cache"))


def test_a_job_outlives_the_server(open_page, tmp_path, own_cache):
    workspace = build_workspace(tmp_path / "workspace")
    script = 'echo progress 1 2 "half way" >&2; while [ ! -e go ]; do sleep 0.05; done; touch models/made'
    page = open_page()
    with serve(workspace, tmp_path / "first.log") as studio:
        studio.open(page, "jobs")
        expect(page.get_by_text("No jobs yet")).to_be_visible()
        made = jobs.submit(workspace, ["sh", "-c", script], output="models/made")
        studio.open(page, "jobs")
        expect(page.get_by_text("50 % · half way")).to_be_visible()
        page.close()
        os.kill(studio.process.pid, signal.SIGKILL)
        studio.process.wait()
    assert jobs.status(workspace, made.job.id).name == "running"
    with serve(workspace, tmp_path / "second.log") as studio:
        page = studio.open(open_page(), "jobs")
        expect(page.get_by_text("50 % · half way")).to_be_visible()
        (workspace / "go").touch()
        expect(page.get_by_role("heading", name="Ended")).to_be_visible()  # the page notices by itself
        expect(page.locator(".st-key-jobs-ended-1")).to_contain_text("done")
        expect(page.get_by_role("heading", name="Running and waiting")).to_have_count(0)


def test_cancel_details_resume_and_remove(open_page, tmp_path, own_cache):
    workspace = build_workspace(tmp_path / "workspace")
    jobs.submit(workspace, ["maet", "jobs", "--workspace", ".", "log", "1", "-f"])  # follows itself: it has no end
    with serve(workspace, tmp_path / "server.log") as studio:
        page = studio.open(open_page(), "jobs")
        expect(page.locator(".st-key-jobs-active-1")).to_contain_text("starting")
        page.get_by_role("button", name="Cancel").click()
        row = page.locator(".st-key-jobs-ended-1")
        expect(row).to_contain_text("cancelled")
        row.get_by_role("button", name="Details").click()
        expect(row).to_contain_text("exit status")
        row.get_by_role("button", name="Resume").click()
        expect(page.locator(".st-key-jobs-active-1")).to_contain_text("starting")
        page.get_by_role("button", name="Cancel").click()
        row.get_by_role("button", name="Remove").click()
        expect(page.get_by_text("Forget job 1")).to_be_visible()
        page.get_by_role("button", name="Remove it").click()
        expect(page.get_by_text("No jobs yet")).to_be_visible()
    assert jobs.listed(workspace) == []
