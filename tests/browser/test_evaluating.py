"""The page Evaluate in real Chromium: models are asked by a job, the cells fill in, and a click shows the answers side by side."""

import re

from playwright.sync_api import expect
from studio_server import idle

from maet_core.evaluation.results import Evaluation, write_table

# The job is a process of its own, which imports torch before it asks anything.
JOB_MS = 300_000


def test_ask_and_look_into_a_cell(studio, page):
    studio.open(page, "evaluate")
    form = page.get_by_test_id("stExpander").filter(has_text="Ask models")
    form.get_by_role("combobox", name=re.compile("^Task")).click()
    page.get_by_role("option", name="tasks/math.jsonl").click()
    for label, text in (("Languages", "sw,bn"), ("Name in results/", "asked")):
        form.get_by_label(label).fill(text)
        form.get_by_label(label).press("Enter")
    expect(form.get_by_test_id("stCode")).to_contain_text("--languages sw,bn --limit 100 -o results/asked")
    page.get_by_role("button", name="Ask", exact=True).click()
    picture = page.locator(".st-key-evaluate-map")
    for name in ("^base, .*Swahili.*n = 3", "^demo, .*Bengali.*n = 3"):  # the first and the last that is asked
        expect(picture.get_by_role("button", name=re.compile(name))).to_be_visible(timeout=JOB_MS)

    _right(studio, "base", 1)  # models of noise are never right
    _right(studio, "demo", 2)
    idle(page)
    picture.get_by_role("button", name=re.compile("^base, .*Swahili")).click()
    expect(page.get_by_role("heading", name="base in Swahili")).to_be_visible()
    shown = page.locator(".maet-judged")
    # first what the other has right, then what both have wrong, then what is right
    for number, verdicts in enumerate((["wrong", "right"], ["wrong", "wrong"], ["right", "wrong"])):
        expect(shown.nth(number).locator(".who")).to_have_text(["base", "demo"])
        expect(shown.nth(number).locator(".maet-foot .right, .maet-foot .wrong")).to_have_text(verdicts)
    expect(page).to_have_url(re.compile("answers="))
    page.reload()
    expect(page.get_by_role("heading", name="base in Swahili")).to_be_visible()
    expect(shown).to_have_count(3)


def _right(studio, model: str, number: int) -> None:
    """The verdict on one Swahili answer of a model, changed on disk."""
    found = Evaluation.load(studio.workspace / "results" / "asked")
    cell = found.cell(model, "math", "sw")
    table = found.answers(cell)
    table.loc[number, ["right", "strict_right"]] = True
    write_table(found.folder / cell.file, table.to_dict("records"))
