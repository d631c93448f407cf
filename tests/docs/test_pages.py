"""What the documents promise: links lead somewhere, commands and their options exist, tables are
current, and no page is left out of the site.
"""

from __future__ import annotations

import importlib.util
import json
import re
import shlex
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import typer

from birefnet.cli.main import app
from pages import DOCS, ROOT, commands, inline_commands, prose

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="installed without its repository")

PAGES = [*sorted(DOCS.rglob("*.md")), *sorted(ROOT.glob("*.md"))] if DOCS.exists() else []
_MARKS = {"<", ">", ">>", "2>", "|", "&", "&&", ";", "…", "..."}


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def known_options(command: Any) -> set[str]:
    return {"--help", "-h"} | {
        option for param in command.params for option in (*param.opts, *param.secondary_opts)
    }


def check(line: str) -> None:
    """Parse as far as the shell would: the command exists, and has these options."""
    words = [
        word for word in shlex.split(line, comments=True) if "=" not in word or "-" in word[:1]
    ]
    words = words[words.index("birefnet") + 1 :]
    cut = min((words.index(mark) for mark in _MARKS if mark in words), default=len(words))
    words = words[:cut]
    command: Any = typer.main.get_command(app)
    while hasattr(command, "commands") and words and not words[0].startswith("-"):
        if not re.fullmatch(r"[a-z][a-z-]*", words[0]):
            return  # a placeholder, such as COMMAND
        assert words[0] in command.commands, f"there is no command {words[0]!r} in: {line}"
        command = command.commands[words.pop(0)]
    known = known_options(command)
    if not words or getattr(command, "ignore_unknown_options", False):
        return
    if command.context_settings.get("ignore_unknown_options"):
        return  # hands its options on
    for word in words:
        option = word.partition("=")[0] if word.startswith("--") else word
        if re.match(r"--?[a-zA-Z]", option):
            assert option in known, f"no option {option} in: {line}"


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_commands_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for line in commands(text) + inline_commands(text):
        check(line)


def test_commands_are_found() -> None:
    """The test above sees what it should."""
    block = "X=1 birefnet remove a \\\n  -o b > c\ncd x && birefnet models list\n"
    text = f"a `birefnet doctor` b\n```sh\n{block}```\n"
    assert commands(text) == ["X=1 birefnet remove a    -o b > c", "birefnet models list"]
    assert inline_commands(text) == ["birefnet doctor"]
    check(commands(text)[0])
    for wrong in ("birefnet remove a --nothing", "birefnet nothing"):
        with pytest.raises(AssertionError):
            check(wrong)


@lru_cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as mkdocs and GitHub make them."""
    found = set()
    for heading in re.findall(r"^#+ (.+)$", prose(page.read_text(encoding="utf-8")), re.MULTILINE):
        plain = re.sub(r"[`*]|\]\([^)]*\)|\[", "", heading).lower()
        slug = re.sub(r"[^\w\s-]", "", plain.replace("²", "2")).strip()
        found.add(re.sub(r"[\s]+", "-", slug))
    return found


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    text = prose(page.read_text(encoding="utf-8"))
    text = re.sub(r"`[^`\n]*`", "", text)
    for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", text):
        link, _, anchor = next(filter(None, target)).partition("#")
        if re.match(r"[a-z]+:", link):
            assert link.startswith(("https://", "http://localhost", "mailto:")), link
            continue
        path = (page.parent / link).resolve() if link else page
        assert path.exists(), f"{name(page)} links to {link}, which is not there"
        if anchor and path.suffix == ".md" and "birefnet." not in anchor:
            assert anchor in anchors(path), f"{name(page)} links to {link}#{anchor}"


_PATH = re.compile(r"(^|/)[\w.-]+\.(md|html|py|ipynb|txt|toml|yml)(#.*)?$|^(docs|src|tests|tools)/")
_VAGUE = re.compile(
    r"(here|this|that|it|below|above|see|link|page|how|why|(this|that|its|the) (page|guide))"
)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_link_texts_are_titles(page: Path) -> None:
    """A reader knows from the text of a link what it leads to: no path, no "here"."""
    text = prose(page.read_text(encoding="utf-8"))
    for shown in re.findall(r"(?<!!)\[([^\]]+)\]\([^)]+\)", text):
        title = " ".join(shown.split()).strip("`*")
        assert not _PATH.search(title), f"{name(page)} shows a path as a link: {title}"
        assert not _VAGUE.fullmatch(title.lower()), f"{name(page)} has a link {title!r}"


def module(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_tables_are_current() -> None:
    """`python docs/tables.py` writes them anew."""
    tables = module(DOCS / "tables.py")
    for page in sorted(DOCS.rglob("*.md")):
        text = page.read_text(encoding="utf-8")
        assert tables.renewed(text) == text, f"{page.name} is behind: python docs/tables.py"


def test_the_man_page_is_current() -> None:
    """`python docs/man_page.py` writes it anew."""
    made = module(DOCS / "man_page.py")
    assert made.PAGE.read_text(encoding="utf-8") == made.man_page()


def test_every_page_is_on_the_site() -> None:
    listed = set(re.findall(r"[\w/-]+\.md", (ROOT / "mkdocs.yml").read_text(encoding="utf-8")))
    there = {page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md")}
    there |= {f"notebooks/{path.stem}.md" for path in (ROOT / "notebooks").glob("*.ipynb")}
    assert listed == there


def test_troubleshooting_quotes_real_messages() -> None:
    page = (DOCS / "troubleshooting.md").read_text(encoding="utf-8")
    source = "\n".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    for message in (
        "needs the extra",
        "was asked for, but torch",
        "was asked for, but",
        "cannot compute in it",
        "the network's numbers do not fit",
        "no model is called",
        "cannot fetch",
        "ran out of memory on a batch of",
    ):
        assert message in page
        assert message in source


def test_site_needs_nothing_from_elsewhere() -> None:
    """No fonts, scripts or pictures of other hosts."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    assert "font: false" in text
    assert "extra_javascript" not in text
    assert "http" not in text


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_become_pages(path: Path) -> None:
    """With a title, all text and code, and the outputs of those that were run."""
    pytest.importorskip("mkdocs")
    hooks = module(DOCS / "hooks.py")
    page = hooks.notebook_page(path)
    assert page.startswith("# ")
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        assert "".join(cell["source"]) in page
    picture = {"data": {"image/png": "iVBORw0KGgo=\n", "text/plain": "<Image>"}}
    assert 'src="data:image/png;base64,iVBORw0KGgo="' in hooks.output_text(picture)
    assert hooks.output_text({"text": ["\x1b[1ma\x1b[0m\n", "b\n"]}) == "```text\na\nb\n```"


def test_figure_of_the_parts_is_current() -> None:
    """`python docs/house.py` draws it anew; a new part needs a place in it."""
    house = module(DOCS / "house.py")
    assert house.draw() == house.FIGURE.read_text(encoding="utf-8"), "python docs/house.py"


def test_figure_of_the_parts_can_be_read() -> None:
    """No arrow crosses a box, and every arrow leads down."""
    house = module(DOCS / "house.py")
    at = house.positions(house.imports())
    for part, others in house.arrows(house.imports()).items():
        for (x0, y0), (x1, y1) in ((at[part], at[other]) for other in others):
            assert y0 < y1
            between = [(box, x, y) for box, (x, y) in at.items() if y0 < y < y1]
            for box, x, y in between:
                crossing = x0 + (x1 - x0) * (y - y0) / (y1 - y0)
                assert abs(crossing - x) > house.BOX_WIDTH / 2, f"an arrow of {part} crosses {box}"


CHANGES = (
    *("a backbone", "a loss", "a metric", "an output type", "an option"),
    *("a route", "a recipe", "a file format", "an engine", "a checkpoint"),
)


def test_files_to_open_for_a_change_exist() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = dict(re.findall(r"^\| ((?:a|an) [a-z ]+) \| (.+) \|$", text, re.MULTILINE))
    assert tuple(rows) == CHANGES
    for row in rows.values():
        assert "`src/birefnet/" in row
    for path in re.findall(r"`((?:src|tests|docs|\.ci)/[\w./-]+)`", text):
        assert (ROOT / path).exists(), f"CONTRIBUTING.md names {path}, which is not there"


WIDE = """return [...document.querySelectorAll('.md-typeset table')].filter(t =>
    t.scrollWidth > (t.closest('.md-typeset__scrollwrap') || t.parentElement).clientWidth + 1
).map(t => t.innerText.slice(0, 60))"""


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built as CI does, with `mkdocs build --strict`."""
    build = pytest.importorskip("mkdocs.commands.build")
    config = pytest.importorskip("mkdocs.config")
    pytest.importorskip("mkdocstrings")
    folder = tmp_path_factory.mktemp("site")
    build.build(config.load_config(str(ROOT / "mkdocs.yml"), strict=True, site_dir=str(folder)))
    return folder


@pytest.mark.slow
def test_site_is_whole(site: Path) -> None:
    """No page loads anything from another host; reference, commands and notebooks are there."""
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 30
    for page in pages:
        text = page.read_text(encoding="utf-8")
        loaded = re.findall(r"<(?:script|img|link)[^>]*(?:src|href)=\"?(https?:[^\"\s>]+)", text)
        assert not [url for url in loaded if "canonical" not in url], page
    reference = (site / "reference" / "index.html").read_text(encoding="utf-8")
    assert "birefnet.remove_background" in reference
    assert "birefnet remove" in (site / "reference" / "cli.html").read_text(encoding="utf-8")
    assert 'href="notebooks/images.html"' in (site / "notebooks.html").read_text(encoding="utf-8")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    pytest.importorskip("selenium")
    pytest.importorskip("fastapi")
    from page_browser import CHROMIUM, DRIVER, Page

    if not (CHROMIUM and DRIVER):
        pytest.skip("no Chromium")
    page = Page("", tmp_path)
    yield page
    page.quit()


@pytest.mark.slow
def test_tables_fit_a_screen(site: Path, browser: Any) -> None:
    """At a width of 1280 px no table of a page needs a scroll bar."""
    browser.driver.set_window_size(1280, 900)
    for page in sorted(site.rglob("*.html")):
        browser.driver.get(page.as_uri())
        assert browser.run(WIDE) == [], page.name


@pytest.mark.slow
def test_the_first_page_has_a_slider(site: Path, browser: Any) -> None:
    """Between a picture and its cut-out, on a telephone too, by mouse, finger and keys."""
    browser.driver.set_window_size(500, 900)
    browser.driver.get((site / "index.html").as_uri())
    assert browser.run(
        "return [...document.querySelectorAll('.compare img')].every(i => i.naturalWidth > 0)"
    )
    assert browser.run("return document.documentElement.scrollWidth <= innerWidth")
    slider = browser.driver.find_element("css selector", ".compare input")
    slider.send_keys("\ue014" * 20)  # the right arrow
    shown = "return getComputedStyle(document.querySelector('.compare')).getPropertyValue('--at')"
    assert browser.run(shown) == "70%"
    slider.click()  # in the middle
    assert browser.run(shown) == "50%"
    link = browser.driver.find_element("link text", "Try it here").get_attribute("href")
    assert (site / "try/index.html").as_uri() == link
