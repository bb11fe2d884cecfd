"""Starts the app as its own server process, for the browser tests and the screenshots."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, expect

PROJECT = Path(__file__).resolve().parents[2]
# A shared machine with two busy cores can be slow; waiting costs nothing when it is not.
PATIENCE_MS = 45_000

expect.set_options(timeout=PATIENCE_MS)


class Studio:
    """One running server: where it is, and the workspace that it works in."""

    def __init__(self, url: str, workspace: Path, process: subprocess.Popen, log: Path):
        self.url, self.workspace, self.process, self.log = url, workspace, process, log
        self._visitors: list[Page] = []

    def open(self, page: Page, path: str = "") -> Page:
        return idle(self.visit(page, path))

    def visit(self, page: Page, path: str = "") -> Page:
        """The page need not have come to rest."""
        self._visitors.append(page)
        page.goto(f"{self.url}/{path}")
        return page

    def send_away(self) -> None:
        """Before the server ends: what a page then asks for would be missing."""
        for page in self._visitors:
            if not page.is_closed():
                page.close()


def idle(page: Page) -> Page:
    """Waits until the page's script has run to its end."""
    expect(page.locator("[data-testid=stApp][data-test-script-state=notRunning]")).to_be_visible()
    return page


def comes_true(page: Page, condition: Callable[[], bool]) -> None:
    """Waits for what `expect` has no words for: a page is drawn piece by piece, its fonts last."""
    until = time.monotonic() + PATIENCE_MS / 1000
    while not condition():
        assert time.monotonic() < until, "it did not come true in time"
        page.wait_for_timeout(50)


@contextmanager
def serve(workspace: Path, log: Path, **environment: str):
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "streamlit",
        "run",
        str(PROJECT / "maet_core/studio/server.py"),
        "--server.port",
        str(port),
    ]
    environment = {**os.environ, "MAET_WORKSPACE": str(workspace), "OMP_NUM_THREADS": "1", **environment}
    with log.open("wb") as stream:
        process = subprocess.Popen(command, cwd=PROJECT, env=environment, stdout=stream, stderr=subprocess.STDOUT)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health", process, log)
        running = Studio(f"http://127.0.0.1:{port}", workspace, process, log)
        yield running
        running.send_away()
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


def launch(playwright: Playwright) -> Browser:
    """The system's Chromium; without one Playwright's own (`playwright install chromium`)."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return playwright.chromium.launch(executable_path=next(filter(None, map(shutil.which, names)), None))
