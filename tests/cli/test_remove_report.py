"""`birefnet remove --report`: one page for stills, animations, objects, nothing found, failures."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birefnet.cli.remove import html_report
from fakes import write_animation, write_disc

pytestmark = pytest.mark.usefixtures("bright")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A disc, a fainter one, an animation, one without a subject, and one that cannot be read."""
    folder = tmp_path / "in"
    write_disc(folder / "clear.png")
    faint = np.minimum(np.asarray(Image.open(folder / "clear.png")), 190)
    Image.fromarray(faint).save(folder / "faint & <b>.png")
    Image.new("RGB", (40, 30)).save(folder / "none.png")
    (folder / "broken.png").write_bytes(b"\x89PNG no more")
    return folder


def groups(page: str) -> list[str]:
    return re.findall(r"<article.*?</article>", page, re.DOTALL)


def titles(page: str) -> list[str]:
    return [re.findall(r"<h3>.*?([^/]*?)<", group)[0] for group in groups(page)]


def test_the_doubtful_come_first_and_failures_have_reasons(
    command, folder: Path, tmp_path: Path
) -> None:
    page = tmp_path / "deep" / "report.html"
    done = command("remove", folder, "-o", tmp_path / "out", "--report", page)
    assert done.status == 1
    assert f"Wrote {page}" in done.stderr
    text = page.read_text(encoding="utf-8")
    assert titles(text) == ["none.png", "faint &amp; &lt;b&gt;.png", "clear.png"]
    none, _, clear = groups(text)
    assert "no subject found" in none
    assert "no subject found" not in clear
    assert [group.count("<img") for group in groups(text)] == [2, 2, 2]
    assert re.search(r"confidence</dt> <dd>0\.\d\d<", clear)
    assert re.search(r"size</dt> <dd>64 × 48", clear)
    assert "3 cut out with " in text
    failed = text.partition(">1 failed</h2>")[2]
    assert '<a href="#1%20failed">1 failed</a>' in text  # at the top
    assert failed.count("broken.png") == 1
    assert "is not a picture that can be read" in failed


def test_a_rerun_shows_its_own_pictures(command, folder: Path, tmp_path: Path) -> None:
    options = ("remove", folder, "-o", tmp_path / "out", "--report", tmp_path / "r.html")
    command(*options)
    (folder / "broken.png").unlink()
    write_disc(folder / "new.png")
    assert command(*options).status == 0
    text = (tmp_path / "r.html").read_text(encoding="utf-8")
    assert titles(text) == ["new.png"]
    assert "3 skipped, not shown" in text
    assert " failed" not in text


def test_animations_objects_and_every_kind(command, folder: Path, tmp_path: Path) -> None:
    write_animation(folder / "moving.gif")
    for number, options in enumerate((["--objects"], ["-t", "mask"], ["-f", "webp"], ["--json"])):
        page = tmp_path / f"{number}.html"
        out = tmp_path / f"out{number}"
        done = command("remove", folder, "-o", out, "--report", page, *options)
        if "--objects" not in options:
            assert "moving.gif" in "".join(titles(page.read_text(encoding="utf-8"))), done.stderr
        for group in groups(page.read_text(encoding="utf-8")):
            assert "before" in group
            assert "after" in group or "object 1" in group or "no subject found" in group
            assert "cannot be shown" not in group


def test_a_page_is_bounded_and_says_so(
    command, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(html_report, "MOST_SHOWN", 2)
    monkeypatch.setattr(html_report, "MOST_FAILURES", 1)
    (folder / "broken2.png").write_bytes(b"\x89PNG no more")
    page = tmp_path / "r.html"
    command("remove", folder, "-o", tmp_path / "out", "--report", page)
    text = page.read_text(encoding="utf-8")
    assert titles(text) == ["none.png", "faint &amp; &lt;b&gt;.png"]
    assert "the 2 of the lowest confidence are shown" in text
    assert "… and 1 more" in text


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["-o", "out", "--report", "r.pdf"], "end it in .html"),
        (["-o", "-", "--report", "r.html"], "--report shows results that are files"),
    ],
)
def test_what_makes_no_sense(
    command, folder: Path, options: list[str], sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(folder)
    done = command("remove", "clear.png", *options)
    assert done.status == 2
    assert sentence in " ".join(done.stderr.split())
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        ["clear.png", "faint & <b>.png", "none.png", "broken.png"]
    )
