"""Takes the pictures of the README: `python tests/browser/screenshots.py [FOLDER]`, docs/screenshots/ if none is named.

Looks at the demo models in a workspace of its own, so that the pictures are what a newcomer sees.
"""

import sys
import tempfile
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright
from studio_server import PROJECT, Studio, idle, launch, serve

WIDE, PHONE = {"width": 1440, "height": 900}, {"width": 390, "height": 844}


def start(page: Page) -> None:
    expect(page.locator(".maet-foot .speed")).to_have_count(2)


def neurons(page: Page) -> None:
    page.locator('.st-key-neurons-map button[data-cell="2/down_proj"]').click()
    expect(page.locator(".st-key-neurons-units .bars svg")).to_be_visible()
    page.mouse.move(700, 180)  # the pointer off the cell, so that its hover text is gone


def tensors(page: Page) -> None:
    for name in ("1/down_proj", "0/gate_proj"):
        page.locator(f'button[data-cell="{name}"]').click()
        idle(page)
    page.mouse.move(700, 130)


def merge(page: Page) -> None:
    expect(page.locator(".maet-foot .speed")).to_be_visible()
    expect(page.locator(".katex").first).to_be_visible()
    expect(page.get_by_role("slider").first).to_be_visible()


def compare(page: Page) -> None:
    page.get_by_role("radio", name="Bengali").click()
    idle(page)
    page.get_by_role("button", name="Ask all models").click()
    expect(page.locator(".maet-foot .speed")).to_have_count(4)
    page.mouse.move(700, 700)


# file name: path, what is done there, size, colours
SHOTS = {
    "start": ("", start, WIDE, "light"),
    "models": ("models", lambda page: None, WIDE, "light"),
    "neurons": ("neurons", neurons, WIDE, "light"),
    "tensors": ("tensors?recipe=demo&abilities.math.tensors.k2=70.0", tensors, WIDE, "light"),
    "merge": ("merge", merge, WIDE, "light"),
    "compare": ('compare?models=["base","languages","task-vector","merged"]', compare, WIDE, "light"),
    "neurons-dark": ("neurons", neurons, WIDE, "dark"),
    "merge-phone": ("merge", merge, PHONE, "light"),
}


def take(studio: Studio, browser, folder: Path) -> None:
    for name, (path, act, size, colours) in SHOTS.items():
        context = browser.new_context(viewport=size, color_scheme=colours, device_scale_factor=1)
        page = studio.open(context.new_page(), path)
        act(page)
        idle(page)
        page.wait_for_load_state("networkidle")
        page.screenshot(path=folder / f"{name}.png", animations="disabled")
        context.close()
        print(folder / f"{name}.png")


def main() -> None:
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PROJECT / "docs" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name, sync_playwright() as playwright:
        scratch = Path(name)
        with serve(scratch / "workspace", scratch / "server.log") as studio:
            take(studio, launch(playwright), folder)


if __name__ == "__main__":
    main()
