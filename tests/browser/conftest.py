"""The app as people meet it: its own server process, real Chromium, no network."""

import os
import re
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from small_workspace import build_workspace

PROJECT = Path(__file__).resolve().parents[2]
DEMO = PROJECT / "assets" / "demo"
# A shared machine with two busy cores can be slow; waiting costs nothing when it is not.
PATIENCE_MS = 45_000
# Streamlit's own probes for its base path on a deep link.
PROBES = re.compile(r"_stcore/(health|host-config)")

expect.set_options(timeout=PATIENCE_MS)


class Studio:
    """One running server: where it is, and the workspace that it works in."""

    def __init__(self, url: str, workspace: Path, process: subprocess.Popen, log: Path):
        self.url, self.workspace, self.process, self.log = url, workspace, process, log

    def open(self, page: Page, path: str = "") -> Page:
        page.goto(f"{self.url}/{path}")
        return idle(page)


def idle(page: Page) -> Page:
    """Waits until the page's script has run to its end."""
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
    return page


@contextmanager
def serve(workspace: Path, log: Path):
    port = free_port()
    command = [sys.executable, "-m", "streamlit", "run", str(PROJECT / "app.py"), "--server.port", str(port)]
    environment = {**os.environ, "MAET_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1"}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        yield Studio(f"http://127.0.0.1:{port}", workspace, process, log)
    finally:
        process.terminate()
        process.wait(20)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def wait_for(url: str, process: subprocess.Popen, log: Path) -> None:
    until = time.monotonic() + PATIENCE_MS / 1000
    while time.monotonic() < until:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(url, timeout=2):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"the server did not start:\n{log.read_text()}")


@pytest.fixture(scope="session")
def browser():
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with sync_playwright() as playwright:
        # Without one installed on the system, Playwright's own is used (`playwright install chromium`).
        browser = playwright.chromium.launch(executable_path=chromium)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory):
    """A server on tiny random models: they answer noise, quickly and for as long as they may."""
    folder = tmp_path_factory.mktemp("studio")
    with serve(build_workspace(folder / "workspace"), folder / "server.log") as running:
        yield running


@pytest.fixture
def open_page(browser):
    """open_page(**context options) gives a page of a new person; the browser's console must stay clean."""
    contexts, complaints = [], []

    def new(**options) -> Page:
        context = browser.new_context(**{"viewport": {"width": 1440, "height": 900}, **options})
        context.set_default_timeout(PATIENCE_MS)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: complaints.append(f"page error: {error}"))
        page.on("console", lambda message: note(message, complaints))
        return page

    yield new
    for context in contexts:
        context.close()
    assert complaints == []


def note(message, complaints: list[str]) -> None:
    where = (message.location or {}).get("url", "")
    if message.type == "error" and not PROBES.search(where):
        complaints.append(f"{message.text} ({where})")


@pytest.fixture
def page(open_page) -> Page:
    return open_page()
