"""The sliders of coefficients, k1 and k2 in real Chromium: what moves while they do, and what a drag leaves behind."""

import re

from playwright.sync_api import expect
from studio_server import idle
from test_studio import cell, row

ADDED = ".katex-mathml annotation"


def press(page, slider, share: float) -> None:
    """Holds the mouse down at a place of the slider; 0 and 1 are its ends."""
    slider.scroll_into_view_if_needed()
    place(page, slider, share)
    page.mouse.down()


def place(page, slider, share: float) -> None:
    box = slider.bounding_box()
    page.mouse.move(box["x"] + 8 + share * (box["width"] - 16), box["y"] + box["height"] / 2)


def test_formula_and_answer_move_while_the_slider_does(studio, page):
    studio.open(page, "merge")
    gamma = row(page, "abilities-math-gamma").get_by_role("slider", name="γ · how much of R(math) is added")
    answer, speed = page.locator(".maet-answer").last, page.locator(".maet-foot .speed").last
    expect(speed).to_be_visible()
    idle(page)
    before, address = answer.inner_text(), page.url
    press(page, gamma, 0.5)
    expect(page.locator(ADDED)).to_contain_text("+ 1.5\\,R(A_{\\text{math}})")
    place(page, gamma, 1.0)
    expect(page.locator(ADDED)).to_contain_text("+ 3\\,R(A_{\\text{math}})")
    expect(answer).not_to_have_text(before)
    expect(speed).to_be_visible()
    idle(page)
    assert page.url == address  # the way back is for what was let go
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"gamma=3\.0"))
    idle(page)
    page.go_back()
    expect(row(page, "abilities-math-gamma").get_by_role("spinbutton")).to_have_value("1")
    expect(gamma).to_have_value("1")
    expect(page.locator(ADDED)).to_contain_text("+ 1\\,R(A_{\\text{math}})")


def test_a_drag_back_to_where_it_began_leaves_nothing(studio, page):
    studio.open(page, "merge")
    eta = row(page, "eta").get_by_role("slider")
    address = page.url
    press(page, eta, 1.0)
    expect(page.locator(ADDED)).to_contain_text("+ 2\\,R_{\\mathrm{Lang}}")
    place(page, eta, 0.5)
    page.mouse.up()
    expect(page.locator(ADDED)).to_contain_text("+ 1\\,R_{\\mathrm{Lang}}")
    idle(page)
    assert page.url == address


def test_the_number_field_takes_what_lies_between_and_beyond(studio, page):
    studio.open(page, "merge")
    slider, number = row(page, "eta").get_by_role("slider"), row(page, "eta").get_by_role("spinbutton")
    for typed, shown, said in (("1.234", "1.234", "1.25"), ("7.5", "7.5", "7.5"), ("1e6", "100", "100")):
        number.fill(typed)
        number.press("Enter")
        expect(number).to_have_value(shown)
        expect(slider).to_have_value(said)
        expect(page.locator(ADDED)).to_contain_text(f"+ {shown}\\,R_{{\\mathrm{{Lang}}}}")
    number.fill("")
    number.press("Enter")
    expect(number).to_have_value("100")
    page.get_by_role("radio", name="Base", exact=True).click()
    expect(number).to_have_value("1")  # set by somebody else than the slider
    expect(slider).to_have_value("1")


def test_the_map_follows_k1_before_it_is_let_go(studio, page):
    studio.open(page, "neurons")
    k1 = page.locator(".st-key-neurons-k1").get_by_role("slider")
    press(page, k1, 1.0)
    expect(page.locator(".maet-numbers").first).to_contain_text("(100 %)")
    expect(cell(page, "neurons-control", "1/down_proj")).to_have_text("100.0")
    expect(k1).to_have_attribute("aria-valuetext", "100 %")
    page.mouse.up()
    expect(page).to_have_url(re.compile("k1=100"))


def test_a_key_that_is_held_down_is_one_step_of_the_way_back(studio, page):
    studio.open(page, "tensors")
    k2 = page.locator(".st-key-tensors-k2").get_by_role("slider")
    k2.focus()
    for _ in range(6):
        page.keyboard.down("ArrowLeft")  # repeated from the second time on
    page.keyboard.up("ArrowLeft")
    expect(page).to_have_url(re.compile(r"k2=74\.0"))
    idle(page)
    page.go_back()
    # the first press may be a step of its own, if the page had drawn it before the key repeated
    expect(k2).to_have_value(re.compile("^(79|80)$"))
