"""No output is ever an input: whatever the paths, however often, and while watching."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from birefnet.cli.remove.manifest import NAME, Manifest, key_of
from birefnet.cli.remove.search import Search
from birefnet.cli.remove.watch import Watch
from birefnet.imaging.formats import is_picture
from cli.conftest import Command
from fakes import BrightEngine, write_disc

PICTURES = ("a.jpg", "b.png", "deep/a.jpg", "deep/in/c.webp", "in/d.jpg", "in/in/e.jpg")

# What is given as input and as output, typed in the folder above `pics`, and how many pictures that
# means. `link` is a link to pics.
RELATIONS = {
    "same": ("pics", "pics", 6),
    "same, with a slash": ("pics/", "pics/", 6),
    "same, other words": ("pics", "./deep/../pics", 6),
    "same, through a link": ("pics", "link", 6),
    "same, from a link": ("link", "pics", 6),
    "same, absolute": ("pics", "{here}/pics", 6),
    "below": ("pics", "pics/out", 6),
    "below, absolute": ("{here}/pics", "pics/out", 6),
    "below, through a link": ("pics", "link/out", 6),
    "below, a folder with pictures": ("pics", "pics/deep", 4),
    "above": ("pics/in", "pics", 2),
    "above, through a link": ("link/in", "pics", 2),
    "here": (".", ".", 6),
    "below here": (".", "out", 6),
    "a pattern": ("pics/*", "pics", 2),
    "a deep pattern": ("pics/**/*", "pics", 6),
    "a deep pattern, below": ("pics/**/*", "pics/out", 6),
    "a pattern of here": ("**/*", ".", 6),
}
OPTIONS = (
    (),
    ("--objects",),
    ("--type", "mask", "--overwrite", "--manifest", ""),
    ("--manifest", "elsewhere.jsonl"),
)


@pytest.fixture
def pics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in PICTURES:
        write_disc(tmp_path / "pics" / name, height=24, width=32)
    (tmp_path / "link").symlink_to(tmp_path / "pics")
    return tmp_path / "pics"


def there(folder: Path) -> set[str]:
    found = itertools.chain.from_iterable(
        ((root, name) for name in names) for root, _, names in os.walk(folder)
    )
    return {os.path.relpath(os.path.join(*each), folder) for each in found if is_picture(each[1])}


@pytest.mark.parametrize("options", OPTIONS, ids=" ".join)
@pytest.mark.parametrize("relation", RELATIONS)
def test_reruns(
    relation: str, options: tuple[str, ...], pics: Path, command: Command, bright: BrightEngine
) -> None:
    source, output, count = (str(part).format(here=pics.parent) for part in RELATIONS[relation])
    before = there(pics)
    for _ in range(3):
        done = command("remove", source, "-o", output, "--json", *options)
        assert done.status == 0, done.stderr
        assert done.stdout.count(b'"input"') == int(count)
        made = there(pics.parent)
    assert before <= there(pics)  # no input is written over
    # Another kind or format, from the same place to the same place, starts from the same pictures.
    again = command("remove", source, "-o", output, "--json", "--type", "white", "-f", "tiff")
    assert again.stdout.count(b'"input"') == int(count)
    assert len(there(pics.parent)) == len(made) + int(count)


def test_an_output_folder_of_an_earlier_run(
    pics: Path, command: Command, bright: BrightEngine
) -> None:
    for output in ("pics/out", "pics/other/out", "pics", "elsewhere"):
        done = command("remove", "pics", "-o", output, "--json")
        assert done.stdout.count(b'"input"') == len(PICTURES)
    done = command("remove", "pics/out", "-o", "white", "--type", "white", "--json")
    assert done.stdout.count(b'"input"') == len(PICTURES)  # given, so meant


def test_manifests_are_read_from_other_folders(
    pics: Path, command: Command, bright: BrightEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two inputs, one of which is the output folder: names alone do not tell."""
    write_disc(pics.parent / "more" / "z.jpg", height=24, width=32)
    for source, output in (("pics", "pics"), ("pics", "link"), (str(pics), str(pics))):
        for _ in range(2):
            done = command("remove", source, "more", "-o", output, "--json")
            assert done.stdout.count(b'"input"') == len(PICTURES) + 1
    monkeypatch.chdir(pics)
    done = command("remove", ".", "../more", "-o", ".", "--json")
    assert done.stdout.count(b'"input"') == len(PICTURES) + 1
    done = command("remove", ".", "../more", "-o", ".", "--manifest", "", "--json")
    assert done.stdout.count(b'"input"') == len(PICTURES) + 1


@pytest.mark.parametrize("output", [None, "pics", "pics/out", "link"])
def test_a_shell_that_expands_the_pattern_anew(
    output: str | None, pics: Path, command: Command, bright: BrightEngine
) -> None:
    counts = []
    for _ in range(4):
        typed = sorted(str(path.relative_to(pics.parent)) for path in pics.glob("*"))
        place = [] if output is None else ["-o", output]
        done = command("remove", *typed, *place, "--json")
        counts.append(done.stdout.count(b'"input"'))
    assert counts == [len(PICTURES)] * 4


@pytest.mark.parametrize("relation", RELATIONS)
def test_watching(relation: str, pics: Path) -> None:
    source, output, count = (str(part).format(here=pics.parent) for part in RELATIONS[relation])
    search = Search((source,), output)
    watch, done = Watch(search, settled=0), []
    for _ in range(6):
        for job in watch.ready():
            assert job.target is not None
            write_disc(Path(str(job.target)), height=24, width=32)
            done.append(str(job.source))
        watch.pause = 0
    assert len(done) == int(count)


def test_names_in_another_case(pics: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on file systems that do not tell the case of letters: the same folder under two names."""
    real = os.path.samefile

    def samefile(one: str, other: str) -> bool:
        same = os.path.abspath(one).lower() == os.path.abspath(other).lower()
        return same or real(one, other)

    monkeypatch.setattr(os.path, "samefile", samefile)
    assert len(list(Search(("pics",), "PICS"))) == len(PICTURES)
    assert all(".cutout." in str(job.target) for job in Search(("pics",), "PICS"))
    (pics / "OUT").mkdir()
    write_disc(pics / "OUT" / "z.png")
    assert len(list(Search(("pics",), "pics/out"))) == len(PICTURES)


def test_a_foreign_manifest_hides_nothing(pics: Path) -> None:
    (pics / NAME).write_text('{"file": "a.jpg"}\n[1]\nnothing\n{"output": 3}\n')
    assert len(list(Search(("pics",), "out"))) == len(PICTURES)


def test_a_manifest_that_grows_is_read_on(tmp_path: Path) -> None:
    def add(name: str) -> None:
        manifest.add(key_of(name), {"output": str(tmp_path / name), "status": "done"})

    manifest = Manifest(tmp_path / NAME)
    for name in ("a.jpg", "b.png", "c.png"):
        (tmp_path / name).touch()
    search = Search((str(tmp_path),), str(tmp_path))

    def names() -> Iterator[str]:
        return (Path(str(job.source)).name for job in search)

    assert list(names()) == ["a.jpg", "b.png", "c.png"]
    add("c.png")
    assert list(names()) == ["a.jpg", "b.png"]
    add("b.png")
    assert list(names()) == ["a.jpg"]
    manifest.close()
