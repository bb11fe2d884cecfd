"""Jobs in real Chromium: a merge saved from Merge is on Jobs, and goes on when the app's server is killed."""

import os
import re
import signal

import pytest
from playwright.sync_api import Page, WebSocketRoute, expect
from small_workspace import build_workspace
from studio_server import comes_true, serve

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


def test_a_click_outlives_the_end_of_a_job(open_page, tmp_path, own_cache):
    """A page that draws itself again speaks for the URL of before the click, until the browser has heard of the new one."""
    workspace = build_workspace(tmp_path / "workspace")
    jobs.submit(workspace, ["sh", "-c", "true"], output="models/first")
    going = jobs.submit(workspace, ["sh", "-c", "while [ ! -e go ]; do sleep 0.05; done"], output="models/second")
    page = open_page()
    line = SlowLine(page)
    with serve(workspace, tmp_path / "server.log") as studio:
        studio.open(page, "jobs")
        row = page.locator(".st-key-jobs-ended-1")
        expect(row).to_contain_text("failed")  # it has made nothing
        expect(page.locator(".st-key-jobs-active-2")).to_contain_text("worked")
        line.hold()
        row.get_by_role("button", name="Details").click()
        line.wait_for_words(1)
        (workspace / "go").touch()
        jobs.wait(workspace, going.job.id, PATIENCE_SECONDS)
        line.wait_for_words(2)  # the page asks by itself, once a second
        line.let_go()
        expect(page.locator(".st-key-jobs-ended-2")).to_be_visible()
        expect(page).to_have_url(re.compile("job="))
        expect(row.get_by_role("button", name="Close")).to_be_visible()
        expect(row).to_contain_text("exit status")


class SlowLine:
    """The browser's line to the server, on which what the server says can be held back."""

    def __init__(self, page: Page):
        self._page, self._held = page, []
        self._holding = False
        self._asked = 0
        page.route_web_socket(re.compile("_stcore/stream"), self._connect)

    def _connect(self, browser: WebSocketRoute) -> None:
        server = browser.connect_to_server()

        def from_browser(message) -> None:
            self._asked += 1
            server.send(message)

        def from_server(message) -> None:
            if self._holding:
                self._held.append((browser, message))
            else:
                browser.send(message)

        browser.on_message(from_browser)
        server.on_message(from_server)

    def hold(self) -> None:
        self._holding = True

    def let_go(self) -> None:
        self._holding = False
        for browser, message in self._held:
            browser.send(message)
        self._held.clear()

    def wait_for_words(self, more: int) -> None:
        """Until the browser has said so many things more."""
        until = self._asked + more
        comes_true(self._page, lambda: self._asked >= until)


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
