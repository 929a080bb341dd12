"""Pages in headless Chromium: nothing is logged as an error, no request leaves, tables sort, phones and paper are wide enough."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from summarizer.report.build import compared, write_comparison, write_run_report
from tests.summarizer.report.folders import HOSTILE, make_run

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium"),
]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    here = tmp_path_factory.mktemp("pages")
    for i in range(12):
        folder = here / "sweep" / str(i)
        make_run(folder, lr=1e-3 * (i + 1), quality=0.2 + 0.02 * i, cost=0.1 * (i + 1), text=f"a parser {HOSTILE}")
    sweep = compared([str(here / "sweep")], "validation/rougeL", True)
    return {
        "run": write_run_report(here / "sweep" / "3"),
        "sweep": write_comparison(sweep, here / "sweep.html", "A sweep"),
    }


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    playwright = pytest.importorskip("playwright.sync_api")
    options = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking"]
    with playwright.sync_playwright() as started:
        opened = started.chromium.launch(executable_path=CHROMIUM, args=options)
        yield opened
        opened.close()


@pytest.mark.parametrize("width", [390, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("name", ["run", "sweep"])
def test_a_page_is_quiet_self_contained_and_fits(
    browser: Any, pages: dict[str, Path], name: str, scheme: str, width: int
) -> None:
    page = browser.new_page(viewport={"width": width, "height": 844}, color_scheme=scheme)
    errors: list[str] = []
    asked: list[str] = []
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.on("console", lambda message: errors.append(message.text) if message.type in ("error", "warning") else None)
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    page.wait_for_timeout(100)
    assert errors == []
    assert asked == [pages[name].as_uri()]
    assert page.evaluate("document.documentElement.scrollWidth <= window.innerWidth"), "it scrolls to the side"
    page.close()


def test_a_table_sorts_by_number_both_ways(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 1400, "height": 844})
    page.goto(pages["sweep"].as_uri())
    table = page.locator("table.sortable").filter(has_text="Best first").first
    column = table.locator("thead th").all_inner_texts().index("$")

    def values() -> list[float]:
        return [float(row.locator("td, th").nth(column).inner_text()) for row in table.locator("tbody tr").all()]

    assert len(values()) == 12
    head = table.locator("thead button").nth(column)
    seen = []
    for _ in range(2):
        head.click()
        seen.append(values())
    assert sorted(seen) == sorted([sorted(values()), sorted(values(), reverse=True)])
    page.close()


def test_a_page_prints_dark_on_white_with_its_charts(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(color_scheme="dark")
    page.goto(pages["run"].as_uri())
    page.emulate_media(media="print")
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background in ("rgb(255, 255, 255)", "rgba(0, 0, 0, 0)")
    assert page.locator("svg").first.is_visible()
    assert page.locator("nav").is_hidden()
    assert page.pdf(format="A4")[:5] == b"%PDF-"
    page.close()
