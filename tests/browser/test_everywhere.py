"""What holds on every page: readable for screen readers, its own hosts only, several people at once."""

import http.client
import time

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect
from test_studio import HEADINGS

# A formula that is wider than its place scrolls; Chromium lets the keyboard reach every scrolling place by itself.
NOT_OURS = {"scrollable-region-focusable"}


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("path", list(HEADINGS))
def test_no_serious_accessibility_finding(studio, open_page, path, colours):
    page = studio.open(open_page(color_scheme=colours), path)
    expect(page.get_by_role("heading", level=1)).to_have_text(HEADINGS[path])
    assert serious_findings(page) == []


def serious_findings(page) -> list[tuple]:
    """What axe finds once the page has come to rest: a control gets its name a moment after it has appeared."""
    until = time.monotonic() + 10
    while (found := _findings(page)) and time.monotonic() < until:
        page.wait_for_timeout(500)
    return found


def _findings(page) -> list[tuple]:
    return [
        (finding["id"], finding["help"], [node["html"][:200] for node in finding["nodes"]])
        for finding in Axe().run(page).response["violations"]
        if finding["impact"] in ("serious", "critical") and finding["id"] not in NOT_OURS
    ]


INNER = [
    'neurons?recipe=demo&cell=["down_proj","1"]&unit=[3,-1]',
    'neurons?recipe=demo&look="overlap"',
    'neurons?recipe=demo&look="knock"',
    'compare?recipe=demo&mode="blind"',
    'compare?recipe=demo&mode="many"',
    "merge?recipe=demo&expert=true",
    "?recipe=demo&tour=2",
]


@pytest.mark.parametrize("link", INNER)
def test_no_serious_accessibility_finding_further_inside(studio, page, link):
    studio.open(page, link)
    expect(page.get_by_test_id("stSkeleton")).to_have_count(0)
    assert serious_findings(page) == []


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "localhost@evil.example", "[::2]"])
@pytest.mark.parametrize("path", ["/", "/_stcore/health"])
def test_a_page_under_another_name_is_refused(studio, host, path):
    connection = http.client.HTTPConnection(studio.url.removeprefix("http://"), timeout=20)
    connection.putrequest("GET", path, skip_host=True)
    connection.putheader("Host", host)
    connection.endheaders()
    assert connection.getresponse().status == 403
    connection.close()
