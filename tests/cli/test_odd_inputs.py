"""Pipes, devices, long names, brackets, and several pictures in one stream."""

from __future__ import annotations

import io
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image

from birefnet.cli.remove.search import Search
from birefnet.imaging.formats import end_of_picture
from cli.conftest import Command
from fakes import BrightEngine, disc, write_disc

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes among files here")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def encoded(format: str) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(disc()).save(stream, format)
    return stream.getvalue()


def feed(path: Path, data: bytes) -> None:
    """Write to a pipe as soon as somebody reads it."""
    threading.Thread(target=path.write_bytes, args=(data,), daemon=True).start()


@pytest.mark.parametrize("typed", ["shop", "shop/*", "shop/**/*.jpg"])
@pytest.mark.parametrize("kind", ["pipe", "socket", "device"])
def test_what_is_no_file_is_passed_over(
    kind: str, typed: str, command: Command, bright: BrightEngine
) -> None:
    write_disc(Path("shop/a.jpg"))
    odd = Path("shop/odd.jpg")
    if kind == "pipe":
        os.mkfifo(odd)
    elif kind == "socket":
        socket.socket(socket.AF_UNIX).bind(str(odd))
    else:
        odd.symlink_to("/dev/zero")
    done = command("remove", typed, "-o", "out")
    assert done.status == 0
    assert done.stderr.count(f"shop/odd.jpg is passed over: it is a {kind}, not a file") == 1
    assert [path.name for path in Path("out").glob("*.png")] == ["a.png"]


@pytest.mark.parametrize("format", ["png", "gif"])
def test_a_pipe_that_is_named_is_read(format: str, command: Command, bright: BrightEngine) -> None:
    """As the shell's `<(...)` names it."""
    os.mkfifo("pipe")
    data = encoded("png")
    if format == "gif":
        frames = [Image.fromarray(disc(subject=200 + 20 * i)) for i in range(3)]
        stream = io.BytesIO()
        frames[0].save(stream, "gif", save_all=True, append_images=frames[1:])
        data = stream.getvalue()
    feed(Path("pipe"), data)
    done = command("remove", "pipe", "-o", f"out.{format}")
    assert done.status == 0, done.stderr
    with Image.open(f"out.{format}") as out:
        assert getattr(out, "n_frames", 1) == (3 if format == "gif" else 1)


def test_a_pipe_needs_an_output(command: Command, bright: BrightEngine) -> None:
    os.mkfifo("pipe")
    done = command("remove", "pipe")
    assert done.status == 2
    assert "pipe is a pipe, so no result can lie beside it; give -o FILE" in done.stderr


@pytest.mark.parametrize("name", ["/dev/stdin", "/dev/fd/0", "-"])
def test_names_of_standard_input(name: str, command: Command, bright: BrightEngine) -> None:
    done = command("remove", name, "-o", "out.png", stdin=encoded("png"))
    assert done.status == 0, done.stderr
    assert command("remove", name, stdin=encoded("png")).stdout.startswith(b"\x89PNG")


@pytest.mark.parametrize("second", ["png", "jpeg", "webp"])
@pytest.mark.parametrize("first", ["png", "jpeg", "webp", "bmp"])
def test_several_pictures_in_one_stream_are_said(
    first: str, second: str, command: Command, bright: BrightEngine
) -> None:
    data = encoded(first)
    assert end_of_picture(data) == len(data)
    done = command("remove", "-", "-o", "out.png", stdin=data + encoded(second))
    assert done.status == 0
    assert f"holds more after its first picture (a {second} begins there)" in done.stderr
    assert "holds more" not in command("remove", "-", "-o", "x.png", stdin=data).stderr
    assert "holds more" not in command("remove", "-", "-o", "x.png", stdin=data + b"end").stderr


@pytest.mark.parametrize("end", range(0, 200, 7))
def test_a_damaged_stream_ends_somewhere(end: int) -> None:
    for format in ("png", "jpeg", "webp", "bmp"):
        assert 0 < end_of_picture(encoded(format)[: end + 1]) <= end + 1


@pytest.mark.parametrize("options", [(), ("-o", "out"), ("-o", "out", "--objects")], ids=" ".join)
@pytest.mark.parametrize("stem", ["x" * 251, "漢" * 80, "漢" * 83 + "xx", "🎈" * 62, "é" * 125])
def test_names_as_long_as_a_file_system_takes(
    stem: str, options: tuple[str, ...], command: Command, bright: BrightEngine
) -> None:
    """At most 255 bytes; others in the folder begin alike."""
    write_disc(Path("shop") / f"{stem}.jpg")
    write_disc(Path("shop") / f"{stem[:-1]}.jpg")
    for _ in range(2):
        done = command("remove", "shop", *options, "--json")
        assert done.status == 0, done.stderr
        assert done.stdout.count(b'"input"') == 2
    folder = Path("out") if options else Path("shop")
    made = [path for path in folder.glob("*.png") if path.parent == folder]
    assert len(made) == 2
    if len(f"{stem}.cutout.png".encode()) <= 255 and not options:
        assert (folder / f"{stem}.cutout.png").exists()


@pytest.mark.parametrize("folder", ["shots [2024]", "[a]", "a[b]/c [d]", "what?", "x*"])
def test_brackets_in_names_of_folders(folder: str) -> None:
    for name in ("1.jpg", "2.png"):
        write_disc(Path(folder) / name)
    assert [str(job.source) for job in Search((f"{folder}/*.jpg",))] == [f"{folder}/1.jpg"]
    assert len(list(Search((f"{os.getcwd()}/{folder}/*",)))) == 2
    Search((f"{folder}/*.jpg",)).check()


def test_brackets_that_match() -> None:
    for name in ("a1/x.jpg", "a2/x.jpg", "a3/x.jpg"):
        write_disc(Path(name))
    assert len(list(Search(("a[12]/*.jpg",)))) == 2
    write_disc(Path("a[12]/y.jpg"))  # a name that is there wins
    assert [str(job.source) for job in Search(("a[12]/*.jpg",))] == ["a[12]/y.jpg"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full on this system")
def test_a_full_standard_output_is_named(tmp_path: Path) -> None:
    picture = write_disc(tmp_path / "a.png")
    program = "import sys; sys.argv[0] = 'birefnet'; from birefnet.cli.main import main; main()"
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-c", program, "remove", picture, "-o", "-", "--resolution", "64"],
            stdout=full, stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: cannot write standard output: No space")
    assert "Traceback" not in done.stderr
    assert "Exception" not in done.stderr


@pytest.mark.parametrize("level", range(100, 200, 8))
def test_empty_and_a_share_never_stand_together(
    level: int, command: Command, bright: BrightEngine
) -> None:
    write_disc(Path("a.png"), subject=level, ground=100)
    said = command("remove", "a.png").stderr
    assert ("no subject found" in said) != ("of the picture" in said)
    assert "a.cutout.png" in said
