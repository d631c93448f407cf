"""`birefnet video` as a shell would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("av")

import birefnet
from video.clips import read_film, write_clip

pytestmark = pytest.mark.usefixtures("bright")


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", sound="aac")


def test_beside_the_input(clip, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """WebM with alpha, or MP4 where there is none."""
    done = command("video", clip)
    assert done.status == 0, done.stderr
    assert "clip.cutout.webm: 12 frames, 0.50 s, done in" in done.stderr
    assert read_film(tmp_path / "clip.cutout.webm").pixels[0].shape[2] == 4
    assert command("video", clip, "-t", "green").status == 0
    assert read_film(tmp_path / "clip.green.mp4").sound == read_film(clip).sound


def test_json(clip, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    out = tmp_path / "out.mov"
    done = command(
        *("video", clip, "-o", out, "--start", "0.1", "--end", "10f", "--stride", 2),
        *("--stabilise", "--json", "--mask-output", tmp_path / "mask.mp4"),
    )
    report = json.loads(done.stdout)
    assert report["outputs"] == [str(out), str(tmp_path / "mask.mp4")]
    assert (report["frames"], report["width"], report["height"]) == (4, 96, 64)
    assert report["error"] is None
    broken = command("video", __file__, "-o", out, "--json")
    assert broken.status == 1
    assert "is not a video that FFmpeg can read" in json.loads(broken.stdout)["error"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.mp4"], "there is no file or folder 'nothing.mp4'"),
        (["CLIP", "-o", "out.mp4"], "MP4 cannot be transparent"),
        (["CLIP", "-o", "out.flv"], "has no suffix of a video"),
        (["CLIP", "-o", "s3://bucket/out.mov"], "films are written to files"),
        (["CLIP", "-o", "out.mov", "--start", "soon"], "'soon' is not a time or frame of a video"),
        (["CLIP", "-o", "out.mov", "--start", "3", "--end", "2"], "does not lie after the start"),
        (["CLIP", "-o", "out.mov", "--quality", "best"], "quality is 'best'; choose one of low"),
        (["CLIP", "-o", "out.mov", "--rate", "fast"], "--rate: 'fast' is not a frame rate"),
        (["CLIP", "-o", "out.mov", "--rate", "1/0"], "--rate: '1/0' is not a frame rate"),
        (["CLIP", "-o", "out.mov", "-t", "green", "-b", "red"], "--background does not go with"),
    ],
)
def test_usage_errors(arguments, message, clip, command, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    done = command("video", *(clip if word == "CLIP" else word for word in arguments))
    assert done.status == 2
    assert message in " ".join(done.stderr.replace("│", " ").split())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clip.mp4"]


NAMES = [
    "2024-01-01T12:30:00",
    "http:film",
    "C:film",
    "100%",
    "%05d",
    "a#b?c&d",
    "two  spaces ",
    "-dash",
    "[2024] (1)",
    "\u00e4 \u4e2d\u6587 \U0001f3ac",
    "\u4e2d" * 80,
    "back\\slash",
    "'quo\"ted'",
    "a|b",
    "new\nline",
]


@pytest.mark.skipif(sys.platform == "win32", reason="names that Windows forbids")
@pytest.mark.parametrize("name", NAMES)
def test_any_name(name, command, tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Of the film, the result, the mask, the background and the folder: all relative."""
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / f"{name}.mp4", frames=3, sound="aac")
    write_clip(tmp_path / f"{name}.mkv", frames=2)
    done = command(
        *("video", f"-o{name}/{name}.webm", f"--mask-output={name}.mov"),
        *("-b", f"{name}.mkv", "--", f"{name}.mp4"),
    )
    assert done.status == 0, done.stderr
    done = command("video", "-t", "green", "--", f"{name}.mp4")
    assert done.status == 0, done.stderr
    done = command("video", f"-o{name}-out/", "--", f"{name}.mp4")
    assert done.status == 0, done.stderr
    made = sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.[mw]*"))
    films = [
        f"{name}/{name}.webm",
        f"{name}.green.mp4",
        f"{name}.mkv",
        f"{name}.mov",
        f"{name}.mp4",
    ]
    assert made == sorted(films)
    assert len(list((tmp_path / f"{name}-out").glob("*.png"))) == 3


def test_skip_existing(clip, command, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    (tmp_path / "out.mov").write_bytes(b"mine")
    done = command("video", clip, "-o", tmp_path / "out.mov", "--skip-existing")
    assert (done.status, (tmp_path / "out.mov").read_bytes()) == (0, b"mine")
    assert command("video", clip, "-o", tmp_path / "out.mov").status == 0
    assert len(read_film(tmp_path / "out.mov").pixels) == 12


INTERRUPTED_RUN = """if True:
    import sys, time
    sys.path[:0] = sys.argv[3:]
    import birefnet.api, birefnet.cli.main
    from video.clips import fake_predictor
    predictor = fake_predictor()
    infer = predictor.engine.infer
    def slowly(batch):
        time.sleep(0.1)
        return infer(batch)
    predictor.engine.infer = slowly
    birefnet.api.load = lambda *names, **options: predictor
    sys.argv = ["birefnet", "video", sys.argv[1], "-o", sys.argv[2], "--resume"]
    print("ready", flush=True)
    birefnet.cli.main.main()
"""


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_and_resume(clip, command, tmp_path: Path, number: int) -> None:  # type: ignore[no-untyped-def]
    """What was done is kept, and the sentence says how to go on."""
    out, parts = tmp_path / "out.mov", tmp_path / "out.mov.parts"
    paths = [str(Path(__file__).parents[1]), str(Path(birefnet.__file__).parents[1])]
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_RUN, str(clip), str(out), *paths],
        stderr=subprocess.PIPE,
        text=True,
    )
    limit = time.monotonic() + 60
    while not (parts / "000000.mov").exists():
        assert time.monotonic() < limit
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "resume to go on" in said
    assert not out.exists()
    refused = command("video", clip, "-o", out)
    assert refused.status == 2
    assert "--restart" in refused.stderr
    done = command("video", clip, "-o", out, "--resume")
    assert done.status == 0, done.stderr
    assert "of them before" in done.stderr
    assert len(read_film(out).pixels) == 12
    assert not parts.exists()
