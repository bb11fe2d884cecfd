"""Neurons and Tensors by mouse and keyboard: down to a unit, areas of tensors, knock-out, and what can be saved."""

import re
import xml.etree.ElementTree as ElementTree

import pytest
from playwright.sync_api import expect
from studio_server import idle
from test_sliding import place, press
from test_studio import cell


def save(page, button) -> bytes:
    with page.expect_download() as download:
        button.click()
    return open(download.value.path(), "rb").read()


def test_from_a_cell_to_a_unit_and_its_texts(studio, page):
    studio.open(page, "neurons")
    cell(page, "neurons-map", "1/down_proj").click()
    bars = page.locator(".st-key-neurons-units").get_by_role("slider")
    where = {"x": bars.bounding_box()["width"] * 3.5 / 48, "y": 4}  # far above the bar: its whole height can be clicked
    bars.hover(position=where)
    expect(page.locator(".st-key-neurons-units .tip")).to_contain_text(
        re.compile(r"unit 3.*\d % of its neurons are key")
    )
    bars.click(position=where)
    unit = page.locator(".st-key-neurons-unit-page")
    expect(unit.get_by_role("heading", name="Unit 3 · layer 1 · down_proj")).to_be_visible()
    expect(unit.locator(".maet-chips")).to_have_count(6)
    expect(unit.locator(".maet-example")).to_have_count(3)
    expect(unit.locator(".maet-token.peak")).to_have_count(3)
    expect(page).to_have_url(re.compile("unit=%5B3%2C"))
    page.reload()
    expect(unit.get_by_role("heading", name="Unit 3 ")).to_be_visible()
    idle(page)
    number = page.get_by_label("Open unit")
    number.fill("5")
    number.press("Enter")
    expect(unit.get_by_role("heading", name="Unit 5 ")).to_be_visible()
    bars.focus()
    page.keyboard.press("ArrowRight")
    expect(bars).to_have_attribute("aria-valuetext", re.compile("^unit 6, importance "))
    page.keyboard.press("Enter")
    expect(unit.get_by_role("heading", name="Unit 6 ")).to_be_visible()


def test_knock_out_follows_the_slider_before_it_is_let_go(studio, page):
    studio.open(page, 'neurons?look="knock"&texts="task:en"')
    figures, factor = page.locator(".maet-numbers").last, page.locator(".st-key-neurons-factor").get_by_role("slider")
    expect(figures).to_contain_text("key neurons × 0")
    expect(page.locator(".maet-foot .speed")).to_have_count(3)
    idle(page)
    address = page.url
    press(page, factor, 0.5)
    expect(figures).to_contain_text("as many random ones × 1")
    expect(page.locator(".maet-slot").nth(1)).to_contain_text("× 1 ·")
    place(page, factor, 1.0)
    expect(figures).to_contain_text("key neurons × 2")
    expect(page.locator(".maet-slot").nth(1)).to_contain_text("× 2 ·")
    idle(page)
    assert page.url == address
    page.mouse.up()
    expect(page).to_have_url(re.compile(r"factor=2\.0"))


@pytest.mark.parametrize("by", ["mouse", "keyboard"])
def test_an_area_of_tensors_and_a_step_back(studio, page, by):
    studio.open(page, "tensors?recipe=demo&abilities.math.tensors.k2=100.0")
    numbers = page.locator(".maet-numbers").first
    first, last = cell(page, "tensors-map", "0/gate_proj"), cell(page, "tensors-map", "1/down_proj")
    if by == "mouse":
        first.hover()
        page.mouse.down()
        last.hover()
        page.mouse.up()
    else:
        first.focus()
        for key in ("Shift+ArrowRight", "Shift+ArrowDown", "Shift+ArrowDown", "Enter"):
            page.keyboard.press(key)
    expect(numbers).to_contain_text("6 removed by hand")
    for name in ("0/gate_proj", "1/up_proj", "1/down_proj"):
        expect(cell(page, "tensors-map", name)).to_have_class(re.compile("hand-out"))
    expect(cell(page, "tensors-map", "2/up_proj")).not_to_have_class(re.compile("hand-out"))
    page.get_by_role("button", name="all of layer 2").click()
    expect(cell(page, "tensors-map", "2/q_proj")).to_have_class(re.compile("hand-out"))
    page.get_by_role("button", name="Undo the last change").click()
    expect(numbers).to_contain_text("6 removed by hand")
    page.get_by_role("button", name="Undo the last change").click()
    expect(numbers).to_contain_text("0 removed by hand")


def test_views_are_saved_as_picture_and_table(studio, page):
    studio.open(page, "tensors?recipe=demo&abilities.math.tensors.k2=40.0")
    chart = page.locator(".st-key-tensors-map")
    expect(chart.locator("button.cell").first).to_be_visible()
    picture = ElementTree.fromstring(save(page, chart.get_by_role("button", name="Save this picture as SVG")))
    texts = [element.text for element in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert "down_proj" in texts
    assert any("cosine of R(A) and R_Lang" in text for text in texts)
    assert save(page, chart.get_by_role("button", name="Save this picture as PNG")).startswith(b"\x89PNG")
    table = save(page, chart.get_by_role("button", name="Save the table behind it as CSV")).decode("utf-8-sig")
    assert table.startswith("tensor,layer,module,cosine,parameters,norm,norm_share,kept,by\n")
    studio.open(page, 'neurons?recipe=demo&cell=["down_proj","1"]')
    units = page.locator(".st-key-neurons-units")
    picture = ElementTree.fromstring(save(page, units.get_by_role("button", name="Save this picture as SVG")))
    assert len(list(picture.iter("{http://www.w3.org/2000/svg}rect"))) > 48
    assert save(page, units.get_by_role("button", name="Save this picture as PNG")).startswith(b"\x89PNG")
    shares = page.locator(".js-plotly-plot").first
    shares.hover()
    saved = save(page, shares.locator(".modebar-btn").first)
    assert b"<svg" in saved[:200]
    button = page.locator(".st-key-share-by-module-csv button")
    assert save(page, button).decode("utf-8-sig").startswith("module,key_neurons,neurons,share,random\n")
