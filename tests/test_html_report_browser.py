"""HTML reports in a browser: they fit a phone, sort, enlarge pictures, and ask for nothing."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from birefnet.html_report import Colour, Group, Order, Section, Table, render
from birefnet.imaging.figure import figure
from page_browser import CHROMIUM, DRIVER, Page

pytestmark = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="Chromium or its driver is not installed"
)

RANKS = {"second": (0.5, 0.9), "none": (float("nan"), 0.8), "first": (0.1, 0.2)}  # up, down


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    folder = tmp_path_factory.mktemp("report")
    figures = [figure("a" * 90, np.full((240, 320, n), 90, np.uint8)) for n in (3, 3, 4, 4)]
    groups = [
        Group(figures, name, "x" * 90, "n" * 300, {"value": "1" * 90}, {"up": up, "down": down})
        for name, (up, down) in RANKS.items()
    ]
    heads = [f"column {number}" for number in range(40)]
    data = render(
        "report_" * 40,
        [Section("s" * 300, "t" * 300, groups, ["line" * 90]), Section("Last", lines=["b"])],
        facts=["fact" * 90],
        table=Table(heads, [heads]),
        legend=[Colour("#d6451c", "missing")],
        orders=[Order("up", "up", True), Order("down", "down", False)],
        order="up",
    )
    (folder / "report.html").write_bytes(data)
    page = Page((folder / "report.html").as_uri(), folder)
    yield page
    page.quit()


def show(page: Page, width: int, scheme: str = "light") -> None:
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 600}
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.driver.get("about:blank")
    page.driver.get(page.url)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 768, 1280, 2560])
def test_it_fits_every_width(browser: Page, width: int, scheme: str) -> None:
    browser.requests()
    show(browser, width, scheme)
    assert browser.run("return document.documentElement.scrollWidth") <= width
    small = browser.run(
        "return [...document.querySelectorAll('figure')].map(e => e.offsetWidth).sort()[0]"
    )
    assert small > 110  # a picture and its caption are readable
    ground = browser.run(
        "return getComputedStyle(document.querySelector('header')).backgroundColor"
    )
    assert (ground == "rgb(255, 255, 255)") == (scheme == "light")
    assert [url for url in browser.requests() if url.startswith(("http", "ws"))] == []
    assert not browser.driver.get_log("browser")


def test_it_sorts_and_what_has_no_number_comes_last(browser: Page) -> None:
    show(browser, 1280)

    def names() -> list[str]:
        script = "return [...document.querySelectorAll('h3')].map(e => e.firstChild.textContent)"
        return list(browser.run(script))

    assert names() == ["first", "second", "none"]  # as the page opens: the worst first
    browser.find("#direction").click()
    assert browser.find("#direction").text == "best first"
    assert names() == ["second", "first", "none"]
    browser.find("#order").send_keys("down")
    assert names() == ["first", "none", "second"]
    browser.find("#direction").click()
    assert names() == ["second", "none", "first"]


def test_a_click_enlarges_a_picture_and_another_puts_it_back(browser: Page) -> None:
    show(browser, 390)

    def width() -> int:
        return int(browser.find("img").size["width"])

    before = width()
    browser.find("img").click()
    assert width() > 2 * before
    browser.find("figure:target .close").click()
    assert width() == before
