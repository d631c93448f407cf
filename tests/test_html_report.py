"""HTML reports: whatever the texts are, the page keeps the elements of its template."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import count

import cv2
import numpy as np
import pytest

from birefnet.html_report import Colour, Group, Order, Section, Strong, Table, render
from birefnet.imaging.figure import figure

HOSTILE = [
    "<script>alert(1)</script>",
    "</title></style></script><img src=x onerror=alert(1)>",
    "\"' onmouseover='alert(1)",
    "{{ 7 * 7 }}{% raw %}",
    "a & b &lt; c 猫 \u2028",
    "https://example.com/a.js",
]


class Page(HTMLParser):
    """The elements and texts of a page."""

    def __init__(self, page: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page.decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.texts.append(data)

    def values(self, attribute: str) -> list[str | None]:
        return [values[attribute] for _, values in self.elements if attribute in values]


def pixels(channels: int = 3) -> np.ndarray:
    shape = (40, 60) if channels == 1 else (40, 60, channels)
    return np.full(shape, 128, np.uint8)


def full_page(texts: Iterator[str]) -> bytes:
    """A page that has every part, with the next of `texts` wherever text goes."""
    figures = [figure(next(texts), pixels(n), note=next(texts)) for n in (1, 3, 4)]
    key = next(texts)
    group = Group(
        figures, next(texts), next(texts), next(texts), {next(texts): next(texts)}, {key: 0.5}
    )
    return render(
        next(texts),
        [Section(next(texts), next(texts), [group], [next(texts)])],
        facts=[next(texts)],
        table=Table([next(texts), next(texts)], [[next(texts), Strong(next(texts))]]),
        legend=[Colour("#102030", next(texts))],
        orders=[Order(key, next(texts), True)],
        order=key,
    )


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_becomes_an_element(text: str) -> None:
    harmless, hostile = (
        Page(full_page(f"{prefix}{number}" for number in count())) for prefix in ("x", text)
    )
    assert [tag for tag, _ in hostile.elements] == [tag for tag, _ in harmless.elements]
    assert [list(values) for _, values in hostile.elements] == [
        list(values) for _, values in harmless.elements
    ]
    shown = "\n".join([*hostile.texts, *map(str, hostile.values("alt"))])
    printed = (*range(6), *range(7, 21))  # the sixth is a key, which only the script reads
    assert [n for n in printed if f"{text}{n}" not in shown] == []
    assert json.loads(str(hostile.values("data-ranks")[0])) == {f"{text}6": 0.5}


def test_a_page_links_to_nothing() -> None:
    page = full_page(str(number) for number in count())
    parsed = Page(page)
    assert b"http" not in page
    assert b"url(" not in page
    assert b"@import" not in page
    assert all(str(uri).startswith("data:image/") for uri in parsed.values("src"))
    assert all(str(address).startswith("#") for address in parsed.values("href"))
    tags = {tag for tag, _ in parsed.elements}
    assert not tags & {"link", "iframe", "object", "embed", "base", "form"}


def test_pictures_are_small_and_keep_their_transparency() -> None:
    wide = np.zeros((100, 1000, 4), np.uint8)
    wide[:, 503:] = (255, 0, 0, 255)  # black below the transparent part must not mix in
    made = figure("a", wide, side=200)
    assert (made.width, made.height) == (200, 20)
    assert made.uri.startswith("data:image/webp;base64,")
    data = np.frombuffer(base64.b64decode(made.uri.partition(",")[2]), np.uint8)
    shown = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    assert shown.shape == (20, 200, 4)
    assert shown[10, 50, 3] == 0
    assert shown[10, 101].astype(float) == pytest.approx((0, 0, 255, 255), abs=4)
    assert figure("a", pixels(1)).uri.startswith("data:image/jpeg;base64,")
    assert (figure("a", pixels()).width, figure("a", pixels()).height) == (60, 40)
    thin = figure("a", np.zeros((1, 5000), np.uint8))
    assert (thin.width, thin.height) == (320, 1)


def test_a_page_of_nothing_and_numbers_that_are_none() -> None:
    assert b"Nothing" in render("Nothing", [])
    orders = [Order("a", "a", True)]
    empty = Page(render("t", [Section(groups=[])], orders=orders))
    assert "select" in dict(empty.elements)
    ranks = {"a": float("nan"), "b": float("inf"), "c": 1.0}
    page = Page(render("t", [Section(groups=[Group([], ranks=ranks)])], orders=orders))
    assert json.loads(str(page.values("data-ranks")[0])) == {"a": None, "b": None, "c": 1.0}
