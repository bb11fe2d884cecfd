"""The five pages and the start page in real Chromium, on tiny random models."""

import http.client
import re
import urllib.request
from urllib.error import HTTPError

import pytest
import yaml
from playwright.sync_api import expect
from studio_server import PATIENCE_MS, idle

from maet_core.checkpoints import Checkpoint
from maet_core.recipe import Recipe

HEADINGS = {
    "": "Move an ability into another language",
    "models": "Models",
    "neurons": "Neurons",
    "tensors": "Tensors",
    "merge": "Merge",
    "compare": "Compare",
    "evaluate": "Evaluate",
    "jobs": "Jobs",
}
CALM = re.compile("Something went wrong|Traceback|Error")


def cell(page, key: str, name: str):
    return page.locator(f".st-key-{key}").locator(f'button[data-cell="{name}"]')


def row(page, field: str):
    """Slider and number field of a coefficient."""
    return page.locator(f".st-key-merge-row-{field.replace('.', '-')}")


def set_slider(page, key: str, presses: str, times: int = 1):
    thumb = page.locator(f".st-key-{key}").get_by_role("slider")
    thumb.focus()
    for _ in range(times):
        thumb.press(presses)


@pytest.mark.parametrize("path", list(HEADINGS))
def test_deep_links_open_and_say_nothing_alarming(studio, page, path):
    studio.open(page, path)
    expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[path])
    expect(page.get_by_test_id("stSidebarNav").get_by_role("link")).to_have_count(len(HEADINGS))
    expect(page.locator(".maet-recipe")).to_contain_text("lang-sw")
    expect(page.get_by_text(CALM)).to_have_count(0)


def test_navigation_keeps_what_was_set(studio, page):
    studio.open(page, "merge")
    set_slider(page, "merge-row-eta", "ArrowRight", 2)
    expect(page).to_have_url(re.compile(r"eta=1\.1"))
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Tensors").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Tensors")
    expect(page).to_have_url(re.compile(r"/tensors\?.*eta=1\.1"))
    page.reload()
    idle(page)
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Merge").click()
    expect(row(page, "eta").get_by_role("spinbutton")).to_have_value("1.1")
    expect(page.locator(".maet-recipe")).to_contain_text("changed")


def test_back_undoes_a_slider(studio, page):
    studio.open(page, "merge")
    field = row(page, "eta").get_by_role("spinbutton")
    expect(field).to_have_value("1")
    set_slider(page, "merge-row-eta", "ArrowRight")
    expect(page).to_have_url(re.compile(r"eta=1\.05"))
    idle(page)
    page.go_back()
    expect(field).to_have_value("1")


def test_the_saved_yaml_is_what_is_on_the_screen(studio, page):
    studio.open(page, "merge")
    page.get_by_role("tab", name="Recipe").click()
    page.locator("summary", has_text="YAML").click()
    save = page.get_by_role("button", name="Download", exact=True)
    expect(save).to_be_visible()
    set_slider(page, "merge-row-eta", "ArrowRight")
    expect(page.locator(".maet-recipe")).to_contain_text("changed")
    idle(page)
    with page.expect_download() as download:
        save.click()
    assert yaml.safe_load(download.value.path().read_text("utf-8"))["eta"] == 1.05
    assert download.value.suggested_filename == "demo.yaml"


def test_pick_a_cell_by_mouse_and_by_keyboard(studio, page):
    studio.open(page, "neurons")
    cell(page, "neurons-map", "1/up_proj").click()
    expect(page.get_by_role("heading", name="Inside layer 1 · up_proj")).to_be_visible()
    expect(cell(page, "neurons-map", "1/up_proj")).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".st-key-neurons-units .bars svg")).to_be_visible()
    cell(page, "neurons-map", "1/up_proj").focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Inside layer 2 · down_proj")).to_be_visible()
    expect(page).to_have_url(re.compile("cell="))


def test_a_cell_says_its_value_and_n_when_pointed_at(studio, page):
    studio.open(page, "neurons")
    cell(page, "neurons-map", "0/q_proj").hover()
    tip = page.locator(".st-key-neurons-map .tip")
    expect(tip).to_contain_text("layer 0, q_proj")
    expect(tip).to_contain_text("of 1,024 neurons are key")


def test_k1_changes_the_map(studio, page):
    studio.open(page, "neurons")
    numbers = page.locator(".maet-numbers").first
    expect(numbers).to_contain_text("(5 %)")
    before = cell(page, "neurons-control", "1/down_proj").inner_text()
    set_slider(page, "neurons-k1", "End")
    expect(numbers).to_contain_text("(100 %)")
    expect(cell(page, "neurons-control", "1/down_proj")).to_have_text("100.0")
    assert before != "100.0"


def test_tensors_by_rule_and_by_hand(studio, page):
    studio.open(page, "tensors")
    numbers = page.locator(".maet-numbers").first
    set_slider(page, "tensors-k2", "Home")
    expect(numbers).to_contain_text(re.compile(r"^\s*0 of \d+ tensors kept"))
    chosen = cell(page, "tensors-map", "2/o_proj")
    expect(chosen).to_have_class(re.compile(r"\bout\b"))
    chosen.click()
    expect(numbers).to_contain_text(re.compile(r"^\s*1 of \d+ tensors kept"))
    expect(chosen).to_have_class(re.compile("hand-in"))
    expect(chosen).to_have_attribute("aria-label", re.compile("kept by hand"))
    chosen.click()
    expect(numbers).to_contain_text(re.compile(r"^\s*0 of \d+ tensors kept"))
    expect(chosen).to_have_class(re.compile(r"\bout\b"))
    chosen.click()
    expect(chosen).to_have_class(re.compile("hand-in"))
    page.get_by_role("button", name="Undo all changes by hand").click()
    expect(chosen).not_to_have_class(re.compile("hand"))


def test_no_click_is_lost_while_the_server_is_busy(studio, page):
    studio.open(page, "tensors?recipe=demo&abilities.math.tensors.k2=0.0")
    names = [f"{layer}/{module}" for layer in (0, 1, 2) for module in ("up_proj", "down_proj")]
    for name in names:
        expect(cell(page, "tensors-map", name)).to_have_class(re.compile(r"\bout\b"))
    page.locator(".st-key-tensors-map .grid").evaluate(
        "(grid, names) => names.forEach((name) => grid.querySelector(`[data-cell='${name}']`).click())", names
    )
    expect(page.locator(".maet-numbers").first).to_contain_text(re.compile(r"^\s*6 of \d+ tensors kept"))


def test_a_slider_moves_formula_weights_and_answer(studio, page):
    studio.open(page, "merge")
    answer = page.locator(".maet-answer").last
    foot = page.locator(".maet-foot").last
    expect(foot).to_contain_text("tokens/s")
    before = answer.inner_text()
    set_slider(page, "merge-row-abilities-math-gamma", "End")
    expect(page.locator(".katex-mathml annotation")).to_contain_text("+ 3\\,R(A_{\\text{math}})")
    idle(page)
    expect(foot).to_contain_text("tokens/s")
    expect(answer).not_to_have_text(before)


def test_merge_to_disk_and_find_it_on_models_and_compare(studio, page):
    studio.open(page, "merge?recipe=demo&eta=0.75")
    page.get_by_label("Name in models/").fill("three-quarters")
    page.get_by_label("Name in models/").press("Enter")
    idle(page)
    page.get_by_role("button", name="Save", exact=True).click()
    # a process of its own, which has to be started first
    expect(page.get_by_text("models/three-quarters is saved")).to_be_visible(timeout=4 * PATIENCE_MS)
    merged = Checkpoint.open(studio.workspace / "models" / "three-quarters")
    assert merged.parameters == Checkpoint.open(studio.workspace / "models" / "base").parameters
    run = next((studio.workspace / "runs").glob("*-merge-three-quarters"))
    assert Recipe.load(run / "recipe.yaml").eta == 0.75
    page.get_by_role("button", name="See it on Models").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Models")
    page.get_by_test_id("stSidebarNav").get_by_role("link", name="Compare").click()
    page.locator(".st-key-compare-models input").fill("three")
    page.get_by_role("option", name="three-quarters").click()
    expect(page.locator(".maet-slot")).to_have_count(3)


def test_a_name_outside_the_workspace_is_refused(studio, page):
    studio.open(page, "merge")
    page.get_by_label("Name in models/").fill("../../outside")
    page.get_by_label("Name in models/").press("Enter")
    idle(page)
    page.get_by_role("button", name="Save", exact=True).click()
    expect(page.get_by_test_id("stAlert")).to_contain_text("expected a name")
    assert not (studio.workspace.parent / "outside").exists()


def test_compare_streams_all_and_stop_keeps_the_text(studio, page):
    studio.open(page, "compare?length=1024")
    page.get_by_role("button", name="Ask all models").click()
    feet = page.locator(".maet-foot")
    expect(feet.nth(0)).to_contain_text(re.compile(r"[1-9]\d* tokens"))
    expect(feet.nth(1)).to_contain_text(re.compile(r"[1-9]\d* tokens"))
    page.get_by_role("button", name="Stop").click()
    expect(feet.nth(0)).to_contain_text("stopped")
    expect(feet.nth(1)).to_contain_text("stopped")
    idle(page)
    for i in (0, 1):
        said = int(re.search(r"(\d+) tokens", feet.nth(i).inner_text())[1])
        assert 0 < said < 1024
        assert page.locator(".maet-answer").nth(i).inner_text().strip()
    page.get_by_role("button", name="Ask all models").click()
    expect(feet.nth(0)).to_contain_text(re.compile(r"[1-9]\d* tokens"))
    page.get_by_role("button", name="Stop").click()
    idle(page)


def test_two_people_have_their_own_settings(studio, open_page):
    first, second = open_page(), open_page()
    studio.open(first, "merge")
    studio.open(second, "merge")
    set_slider(first, "merge-row-eta", "Home")
    expect(row(first, "eta").get_by_role("spinbutton")).to_have_value("0")
    expect(row(second, "eta").get_by_role("spinbutton")).to_have_value("1")
    expect(first.locator(".maet-foot").last).to_contain_text("tokens/s")
    set_slider(second, "merge-row-languages-sw-mu", "End")
    expect(second.locator(".maet-foot").last).to_contain_text("tokens/s")
    expect(row(first, "languages-sw-mu").get_by_role("spinbutton")).to_have_value("0.5")


def test_scripts_are_drawn_with_the_shipped_fonts(studio, page):
    studio.open(page, 'compare?language="bn"')
    expect(page.locator(".maet-question")).to_contain_text("কয়টি")
    await_font(page, "Bengali")
    page.get_by_role("radio", name="Your own").click()
    typed = page.get_by_label("Your question")
    for script, words in {"Telugu": "ఆమె దగ్గర ఎన్ని ఉన్నాయి?", "Thai": "เธอมีกี่ผล", "SC": "她有几个苹果？"}.items():
        typed.fill(words)
        await_font(page, script)


def await_font(page, script: str) -> None:
    loaded = f"[...document.fonts].some(face => face.family.includes('{script}') && face.status === 'loaded')"
    page.wait_for_function(loaded)


@pytest.mark.parametrize("path", list(HEADINGS))
def test_nothing_is_wider_than_a_phone(studio, open_page, path):
    page = open_page(viewport={"width": 390, "height": 844}, color_scheme="dark")
    studio.open(page, path)
    expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[path])
    page.wait_for_function("document.querySelector('.stMain').scrollWidth <= 390")


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("{own}", "http://{own}", 101),
        ("evil.example", "http://{own}", 403),
        ("evil.example", "http://evil.example", 403),
        ("{own}", "http://evil.example", 403),
    ],
)
def test_the_session_is_for_this_machine_s_own_pages_only(studio, host, origin, status):
    """Everything that the app shows or takes goes through this connection."""
    own = studio.url.removeprefix("http://")
    connection = http.client.HTTPConnection(own, timeout=20)
    connection.putrequest("GET", "/_stcore/stream", skip_host=True)
    headers = {
        "Host": host.format(own=own),
        "Origin": origin.format(own=own),
        "Connection": "Upgrade",
        "Upgrade": "websocket",
        "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "AAAAAAAAAAAAAAAAAAAAAA==",
        "Sec-WebSocket-Protocol": "streamlit",
    }
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    assert connection.getresponse().status == status
    connection.close()


def test_files_outside_the_font_folder_are_not_served(studio):
    font = f"{studio.url}/component/maet_core.studio.shell.maet_fonts/"
    with urllib.request.urlopen(font + "noto-sans-bengali.woff2", timeout=20) as answer:
        assert answer.read(4) == b"wOF2"
    for path in ("../../app.py", "%2e%2e/%2e%2e/app.py", "..%2f..%2fapp.py"):
        with pytest.raises(HTTPError):
            urllib.request.urlopen(font + path, timeout=20)
