"""Merge, Compare and the guided visit in real Chromium: what goes on over time, files, several people, keyboard and phone."""

import json
import re

import pytest
from playwright.sync_api import expect
from studio_server import comes_true, idle

ASKED = re.compile(r"[1-9]\d* of \d+ answers")


def ask(page, name="Ask all models"):
    page.get_by_role("button", name=name).click()


def test_many_questions_stop_and_go_on(studio, page):
    studio.open(page, 'compare?mode="many"&language="sw"&length=1024')
    ask(page, "Ask 3 questions")
    expect(page.locator(".maet-table tbody tr")).to_have_count(3)
    page.get_by_role("button", name="Stop").click()
    expect(page.get_by_role("button", name=re.compile("Ask 3 questions|Go on"))).to_be_visible()
    studio.open(page, 'compare?mode="many"&language="sw"&length=4')
    ask(page, "Ask 3 questions")
    expect(page.get_by_role("button", name="Clear")).to_be_visible()
    idle(page)
    expect(page.locator(".maet-table td.none")).to_have_count(0)
    expect(page.locator(".maet-numbers").first).to_contain_text("of 3")


def test_a_vote_by_keyboard_before_the_names_are_told(studio, page):
    studio.open(page, 'compare?mode="blind"&language="bn"&length=6')
    ask(page)
    best = page.get_by_role("button", name="A is best")
    expect(best).to_be_enabled()
    idle(page)
    expect(page.locator(".maet-slot").first).to_have_text("Answer A")
    expect(page.get_by_text("models/base")).to_have_count(0)
    best.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_text(re.compile("Your vote is kept"))).to_be_visible()
    expect(page.locator(".maet-slot", has_text="models/base")).to_have_count(1)
    votes = (studio.workspace / "notebook" / "votes.jsonl").read_text().splitlines()
    assert json.loads(votes[-1])["vote"] == "best"


def test_questions_from_a_file_and_a_file_that_is_none(studio, page):
    studio.open(page, 'compare?language="file"')
    chooser = page.locator("input[type=file]")
    chooser.set_input_files(
        {"name": "broken.jsonl", "mimeType": "application/jsonl", "buffer": b'{"question": "?"}\n{'}
    )
    expect(page.get_by_test_id("stAlert").first).to_contain_text("broken.jsonl line 2: not valid JSON")
    row = {"question": "<b>কয়টি</b> আম?", "answer": 7, "language": "bn", "gloss": "How many mangoes?"}
    content = json.dumps(row, ensure_ascii=False).encode()
    chooser.set_input_files({"name": "mine.jsonl", "mimeType": "application/jsonl", "buffer": content})
    question = page.locator(".maet-question")
    expect(question).to_have_text("<b>কয়টি</b> আম?")
    expect(question).to_have_attribute("lang", "bn")
    page.get_by_role("button", name="Keep in tasks/").click()
    expect(page.get_by_test_id("stAlert").first).to_contain_text("Kept as tasks/mine.jsonl")
    kept = json.loads((studio.workspace / "tasks" / "mine.jsonl").read_text())
    (studio.workspace / "tasks" / "mine.jsonl").unlink()  # the other tests count the questions
    assert (kept["answer"], kept["prompt"]) == ("7", "Q: <b>কয়টি</b> আম?\nA:")


def test_a_shared_link_shows_the_same_screen(studio, open_page):
    first, second = open_page(), open_page()
    studio.open(first, 'compare?models=["base","languages","merged"]&language="bn"&temperature=0.7&seed=3&eta=0.5')
    first.get_by_role("button", name="Share").click()
    link = first.get_by_test_id("stCode").first.inner_text().strip()
    assert link.startswith(studio.url)
    second.goto(link)
    idle(second)
    expect(second.locator(".maet-slot")).to_have_text(
        [re.compile(name) for name in ("Base", "Languages only", "Merged")]
    )
    expect(second.get_by_role("button", name="temperature 0.7, seed 3")).to_be_visible()
    expect(second.locator(".maet-question")).to_have_attribute("lang", "bn")
    expect(second.locator(".maet-recipe")).to_contain_text("changed")


def test_the_grid_fills_in_and_a_cell_becomes_the_setting(studio, page):
    studio.open(page, "merge?recipe=demo&grid=[0.0,1.0,2,0.5,1.0,2]")
    page.get_by_role("button", name="Fill in 4 cells").click()
    expect(page.get_by_role("button", name="Clear")).to_be_visible()
    idle(page)
    table = page.locator(".st-key-merge-grid-table")
    table.scroll_into_view_if_needed()
    box = table.locator("canvas").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 35 + 17)  # below the heading: γ 0, η 0.5
    expect(page.locator(".st-key-merge-row-abilities-math-gamma").get_by_role("spinbutton")).to_have_value("0")
    expect(page.locator(".st-key-merge-row-eta").get_by_role("spinbutton")).to_have_value("0.5")


def test_a_setting_that_one_keeps_the_other_finds(studio, open_page):
    first, second = open_page(), open_page()
    studio.open(first, "merge?recipe=demo&eta=0.25")
    first.get_by_label("Name of this setting").fill("a quarter")
    first.get_by_label("Name of this setting").press("Enter")
    idle(first)
    first.get_by_role("button", name="Keep", exact=True).click()
    expect(first.locator(".maet-setting", has_text="a quarter")).to_be_visible()
    studio.open(second, "merge")
    kept = second.locator("[class*=st-key-merge-setting-]", has=second.locator(".maet-setting", has_text="a quarter"))
    kept.get_by_role("button", name="Restore").last.click()
    expect(second.locator(".st-key-merge-row-eta").get_by_role("spinbutton")).to_have_value("0.25")


def test_the_guided_visit_by_keyboard(studio, page):
    studio.open(page)
    begin = page.get_by_role("button", name="Show me how it works")
    begin.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Where the ability sits")).to_be_visible()
    following = page.get_by_role("button", name="Next")
    idle(page)
    following.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Which tensors take it")).to_be_visible()
    page.reload()
    idle(page)
    expect(page.get_by_role("heading", name="Which tensors take it")).to_be_visible()
    page.get_by_role("button", name="Skip").click()
    expect(page.get_by_role("button", name="Take the three steps again")).to_be_visible()
    expect(page).not_to_have_url(re.compile("tour="))


@pytest.mark.parametrize("path", ["merge?expert=true", 'compare?mode="many"', 'compare?mode="blind"', "?tour=1"])
def test_what_opens_up_is_not_wider_than_a_phone(studio, open_page, path):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    studio.open(page, path)
    page.wait_for_function("document.querySelector('.stMain').scrollWidth <= 390")


@pytest.mark.parametrize("path", ["models", "merge", "compare"])
def test_nothing_has_to_be_moved_sideways_on_a_phone(studio, open_page, path):
    page = studio.open(open_page(viewport={"width": 390, "height": 844}), path)
    parts = page.locator(".maet-models, .katex-display, [role=radiogroup]").filter(visible=True)
    expect(parts.first).to_be_visible()
    fits = "(found) => found.every((one) => one.scrollWidth <= one.clientWidth)"
    comes_true(page, lambda: parts.evaluate_all(fits))
    expect(page.get_by_test_id("stDataFrame").filter(visible=True)).to_have_count(0)


def test_eq_2_is_whole_at_1200_pixels(studio, open_page):
    page = open_page(viewport={"width": 1200, "height": 900})
    studio.open(page, "merge")
    shown = page.locator(".katex-display").first
    expect(shown).to_be_visible()
    fits = "(element) => element.scrollWidth <= element.closest('[data-testid=stColumn]').clientWidth"
    comes_true(page, lambda: shown.evaluate(fits))  # once its fonts are there
