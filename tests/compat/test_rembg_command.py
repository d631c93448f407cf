"""`birefnet rembg`: rembg's commands as its documentation describes them."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from birefnet.cli.main import app
from birefnet.cli.serve import ServeOptions
from birefnet.compat.rembg import run as work
from birefnet.compat.rembg import sessions
from birefnet.inference.predictor import Predictor
from fakes import PLAIN, BrightEngine, disc, write_disc


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of models that were loaded; each is the stand-in that sees brightness."""
    names: list[str] = []

    def load(name: str, **settings: Any) -> Predictor:
        names.append(name)
        return Predictor(BrightEngine(), PLAIN)

    monkeypatch.setattr(sessions, "load", load)
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    return names


def run(*arguments: object, input: bytes | None = None) -> Any:
    return CliRunner().invoke(app, ["rembg", *map(str, arguments)], input=input)


def png(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    assert image.format == "PNG"
    return image


def as_png(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_files(loaded: list[str], tmp_path: Path) -> None:
    source = write_disc(tmp_path / "disc.jpg")
    done = run("i", source, tmp_path / "out" / "disc.png", "-m", "birefnet-general")
    assert done.exit_code == 0, done.output
    assert loaded == ["general"]
    assert Image.open(tmp_path / "out" / "disc.png").mode == "RGBA"


def test_standard_streams(loaded: list[str]) -> None:
    for arguments in (("i",), ("i", "-"), ("i", "-", "-")):
        done = run(*arguments, input=as_png(disc()))
        assert done.exit_code == 0, done.output
        image = png(done.stdout_bytes)
        assert (image.mode, image.size) == ("RGBA", (64, 48))


def test_every_option(loaded: list[str], tmp_path: Path) -> None:
    source = write_disc(tmp_path / "disc.png")
    target = tmp_path / "out.png"

    def made(*options: object) -> Image.Image:
        done = run("i", *options, source, target)
        assert done.exit_code == 0, done.output
        return Image.open(target)

    assert made("-om").mode == "L"
    assert set(np.unique(made("-om", "-ppm"))) == {0, 255}
    assert made("-a", "-ae", 6).mode == "RGBA"
    assert made("-dc").mode == "RGBA"
    red = np.asarray(made("-bgc", 255, 0, 0, 255))
    assert tuple(red[0, 0]) == (255, 0, 0, 255)
    small = made("-x", json.dumps({"crop": True}))
    assert small.size < (64, 48)
    warned = run("i", "-a", "-af", 200, source, target)
    assert "thresholds of alpha matting have no effect" in warned.stderr
    assert warned.exit_code == 0


def test_options_that_make_no_sense(loaded: list[str], tmp_path: Path) -> None:
    source = write_disc(tmp_path / "disc.png")
    assert "JSON object" in run("i", "-x", "[1]", source, "-").stderr
    assert "ViTMatte is not part" in run("i", "-vm", source, "-").stderr
    assert "u2net is another kind" in str(run("i", "-m", "u2net", source, "-").exception)
    assert "no argument 'sam'" in str(run("i", "-x", '{"sam": 1}', source, "-").exception)
    assert run("p", tmp_path / "nowhere", tmp_path).exit_code == 2
    assert run("d").exit_code == 2


def test_folders_keep_their_subfolders(loaded: list[str], tmp_path: Path) -> None:
    for name in ("a.jpg", "sub/a.png", "sub/deep/b.webp"):
        write_disc(tmp_path / "in" / name)
    (tmp_path / "in" / "notes.txt").write_text("no picture")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    out = tmp_path / "out"
    done = run("p", tmp_path / "in", out)
    assert done.exit_code == 1
    assert "3 pictures done, 1 failed" in done.stderr
    files = sorted(p.relative_to(out).as_posix() for p in out.rglob("*.png"))
    assert files == ["a.png", "sub/a.png", "sub/deep/b.png"]
    before = (out / "a.png").stat().st_mtime_ns
    assert "0 pictures done" in run("p", tmp_path / "in", out).stderr
    assert (out / "a.png").stat().st_mtime_ns == before
    (out / "sub" / "a.png").write_bytes(b"")  # as a crash may leave it
    assert "1 picture done" in run("p", tmp_path / "in", out).stderr
    assert (out / "sub" / "a.png").stat().st_size


def test_inputs_are_deleted_once_they_are_done(loaded: list[str], tmp_path: Path) -> None:
    write_disc(tmp_path / "in" / "a.jpg")
    (tmp_path / "in" / "broken.png").write_bytes(b"no picture")
    run("p", "-d", tmp_path / "in", tmp_path / "out")
    assert [p.name for p in (tmp_path / "in").iterdir()] == ["broken.png"]
    assert (tmp_path / "out" / "a.png").is_file()


def test_watching_ends_with_stop_txt(
    loaded: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "in"
    write_disc(folder / "a.jpg")
    rests: list[float] = []

    def rest(seconds: float) -> None:
        rests.append(seconds)
        if len(rests) == 2:
            write_disc(folder / "late.jpg")
        if (tmp_path / "out" / "late.png").exists():
            (folder / "stop.txt").touch()

    monkeypatch.setattr("birefnet.cli.remove.watch.SETTLED", 0.0)
    monkeypatch.setattr(work, "Watch", lambda search: at_once(search))
    monkeypatch.setattr(work.time, "sleep", rest)
    done = run("p", "-w", folder, tmp_path / "out")
    assert done.exit_code == 0, done.output
    assert done.stderr.count("processed: ") == 2
    assert not (folder / "stop.txt").exists()


def at_once(search: Any) -> Any:
    from birefnet.cli.remove.watch import Watch

    return Watch(search, settled=0.0)


def test_raw_frames(loaded: list[str], tmp_path: Path) -> None:
    frames = [disc(40, 60), disc(40, 60, subject=200)]
    raw = b"".join(frame.tobytes() for frame in frames)
    done = run("b", 60, 40, "-o", tmp_path / "out" / "frame-%03d.png", input=raw)
    assert done.exit_code == 0, done.output
    names = sorted(p.name for p in (tmp_path / "out").iterdir())
    assert names == ["frame-000.png", "frame-001.png"]
    assert Image.open(tmp_path / "out" / names[0]).size == (60, 40)
    streamed = run("b", 60, 40, "-om", input=raw)
    assert streamed.stdout_bytes.count(b"\x89PNG\r\n") == 2
    cut = run("b", 60, 40, input=raw[:-1])
    assert "ends after 7199 of 7200 bytes of frame 1" in str(cut.exception)
    assert "give a name with %d" in run("b", 60, 40, "-o", "frame.png", input=raw).stderr


def test_the_version_is_told_as_rembg_tells_it() -> None:
    assert run("--version").stdout.startswith("rembg, version 2.0.")


def test_downloads(monkeypatch: pytest.MonkeyPatch) -> None:
    done = run("d", "nano")
    assert done.exit_code == 0, done.output
    assert done.stdout.strip().endswith("model.safetensors")
    assert "did you mean" in str(run("d", "nanoo").exception)


def test_the_server_takes_rembg_s_options(monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[ServeOptions] = []
    monkeypatch.setattr("birefnet.compat.rembg.command.start_server", started.append)
    options = ("-p", 7100, "-h", "0.0.0.0", "-l", "warning", "-t", 3, "--no-ui")
    done = run("s", *options, "-m", "birefnet-portrait")
    assert done.exit_code == 0, done.output
    assert started == [
        ServeOptions(
            model="portrait",
            host="0.0.0.0",
            port=7100,
            workers=3,
            max_megapixels=50,
            page=False,
            log_level="warning",
        )
    ]


@pytest.mark.slow
def test_the_command_itself(tmp_path: Path) -> None:
    source = write_disc(tmp_path / "disc.png")
    command = [sys.executable, "-m", "birefnet", "rembg", "i", "-om"]
    done = subprocess.run(command, input=source.read_bytes(), capture_output=True, check=True)
    assert png(done.stdout).mode == "L"
