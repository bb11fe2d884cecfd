"""The first minutes with the demo models, in a workspace that did not exist before."""

import re

from playwright.sync_api import expect
from studio_server import idle


def test_the_first_page_shows_the_ability_moved(demo_studio, page):
    demo_studio.open(page)
    feet = page.locator(".maet-foot")
    for language in ("Swahili", "Bengali", "Telugu", "Thai"):
        page.get_by_role("radio", name=language).click()
        expect(page.get_by_role("radio", name=language)).to_be_checked()
        idle(page)
        expect(feet.nth(0)).to_contain_text("wrong")
        expect(feet.nth(1)).to_contain_text("right")
    expect(page.locator(".maet-gloss")).not_to_be_empty()


def test_without_the_ability_the_answer_is_no_longer_right(demo_studio, page):
    demo_studio.open(page, "merge")
    foot = page.locator(".maet-foot").last
    expect(foot).to_contain_text("right")
    thumb = page.locator(".st-key-merge-row-abilities-math-gamma").get_by_role("slider")
    thumb.focus()
    thumb.press("Home")
    expect(page.locator(".katex-mathml annotation")).to_contain_text("+ 0\\,R(A_{\\text{math}})")
    idle(page)
    expect(foot).to_contain_text("wrong")


def test_compare_shows_gloss_and_marks_the_answers(demo_studio, page):
    demo_studio.open(page, "compare")
    page.get_by_role("button", name="Ask all models").click()
    feet = page.locator(".maet-foot")
    expect(feet.nth(0)).to_contain_text(re.compile("right|wrong"))
    expect(feet.nth(1)).to_contain_text("right")
    page.get_by_role("radio", name="English").click()
    expect(page.locator(".maet-gloss")).to_have_count(0)
