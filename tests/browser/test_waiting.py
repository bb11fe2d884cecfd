"""Work that takes a while inside a page: its bar, its Stop, the way on, and what others are told meanwhile."""

import re

import pytest
from playwright.sync_api import expect
from small_workspace import build_workspace
from studio_server import PATIENCE_MS, idle, serve
from test_studio import set_slider

LOSSES = 'neurons?recipe=demo&look="knock"&texts="corpus:long.txt"&losses={}'
TEXTS, WORDS = 200, 120


@pytest.fixture(scope="module")
def slow_studio(tmp_path_factory):
    """Wider models and longer texts: seconds of work, however quick the machine is."""
    folder = tmp_path_factory.mktemp("slow")
    workspace = build_workspace(folder / "workspace", scale=4)
    (workspace / "corpora").mkdir()
    line = "maembe " * WORDS
    (workspace / "corpora" / "long.txt").write_text("\n\n".join(f"{number} {line}" for number in range(TEXTS)))
    with serve(workspace, folder / "server.log") as running:
        yield running


def test_the_first_model_of_a_server_can_be_stopped_while_it_opens(slow_studio, page, tmp_path):
    with serve(slow_studio.workspace, tmp_path / "server.log") as fresh:
        fresh.visit(page, "merge")
        page.get_by_role("button", name="Stop").click()
        expect(page.get_by_text("Stopped: Opening the models.")).to_be_visible()
        expect(page.get_by_text("γ × η")).to_be_visible()  # the page is whole without the model
        page.get_by_role("button", name="Go on").click()
        expect(page.locator(".maet-foot .speed").last).to_be_visible(timeout=4 * PATIENCE_MS)


def test_stop_ends_the_work_and_go_on_takes_it_up(slow_studio, page):
    slow_studio.visit(page, LOSSES.format(200))
    expect(page.get_by_text(re.compile("aking the loss"))).to_be_visible(timeout=4 * PATIENCE_MS)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_text(re.compile("^Stopped: Taking the loss"))).to_be_visible()
    idle(page)
    expect(page.get_by_text("nats per token, as is")).to_have_count(0)
    page.get_by_role("button", name="Go on").click()
    expect(page.get_by_role("button", name="Stop")).to_be_visible()
    expect(page.get_by_text("nats per token, as is")).to_be_visible(timeout=4 * PATIENCE_MS)
    expect(page.get_by_role("button", name="Stop")).to_have_count(0)


def test_a_busy_model_says_so_and_answers_when_it_is_free(slow_studio, open_page):
    first, second = open_page(), open_page()
    slow_studio.open(second, "merge")
    answer = second.locator(".maet-foot .speed").last
    expect(answer).to_be_visible(timeout=4 * PATIENCE_MS)
    slow_studio.visit(first, f"{LOSSES.format(200)}&factor=2.0")
    expect(first.get_by_text(re.compile("taking the loss"))).to_be_visible(timeout=4 * PATIENCE_MS)
    set_slider(second, "merge-row-eta", "Home")
    expect(second.get_by_text("This model is busy with another answer; yours comes next.")).to_be_visible()
    first.close()  # a person who leaves does not keep the model
    expect(answer).to_be_visible(timeout=4 * PATIENCE_MS)
