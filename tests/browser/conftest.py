"""The app as people meet it: its own server process, real Chromium, no network."""

import re

import pytest
from playwright.sync_api import Page, expect, sync_playwright
from small_workspace import build_workspace
from studio_server import PATIENCE_MS, launch, serve

# Streamlit's own probes for its base path on a deep link.
PROBES = re.compile(r"_stcore/(health|host-config)")


@pytest.fixture(scope="session")
def browser():
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def studio(tmp_path_factory, browser):
    """A server on tiny random models: they answer noise, quickly and for as long as they may.

    It has torch and the models in memory: on a busy machine that alone can take longer than a test waits for anything.
    """
    folder = tmp_path_factory.mktemp("studio")
    with serve(build_workspace(folder / "workspace"), folder / "server.log") as running:
        context = browser.new_context()
        page = running.visit(context.new_page(), "merge")
        expect(page.locator(".maet-foot .speed")).to_be_visible(timeout=10 * PATIENCE_MS)
        context.close()
        yield running


@pytest.fixture(scope="session")
def demo_studio(tmp_path_factory):
    """A server on a folder that did not exist before: what a newcomer gets, with the demo models."""
    folder = tmp_path_factory.mktemp("demo")
    with serve(folder / "workspace", folder / "server.log") as running:
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
