"""`birefnet remove` end to end: files in, files out, and what it says."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import birefnet
from birefnet.imaging.io import decode, decode_frames
from fakes import PLAIN, BrightEngine, disc, write_animation, write_disc

pytestmark = pytest.mark.usefixtures("bright")


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    return write_disc(tmp_path / "photo.png")


def names(folder: Path) -> list[str]:
    """All files below, but the manifest."""
    found = (p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    return sorted(name for name in found if name != "manifest.jsonl")


def test_one_picture(command, photo: Path) -> None:
    result = command("remove", photo)
    assert (result.status, result.stdout) == (0, b"")
    assert "photo.cutout.png: the subject takes 2" in result.stderr
    cutout = decode(photo.with_name("photo.cutout.png"))
    assert cutout.alpha is not None
    assert cutout.alpha[24, 32] == 1
    assert cutout.alpha[0, 0] == 0
    assert names(photo.parent) == ["photo.cutout.png", "photo.png"]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [
        ("cutout", "RGBA"),
        ("mask", "L"),
        ("foreground", "RGB"),
        ("green", "RGB"),
        ("white", "RGB"),
        ("blur", "RGB"),
        ("overlay", "RGB"),
    ],
)
def test_types(command, photo: Path, kind: str, mode: str) -> None:
    assert command("remove", photo, "--type", kind).status == 0
    made = Image.open(photo.with_name(f"photo.{kind}.png"))
    assert (made.mode, made.size) == (mode, (64, 48))


def test_backgrounds(command, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out.png"
    for background, corner in (("#102030", (16, 32, 48)), ("1,2,3", (1, 2, 3))):
        assert command("remove", photo, "-b", background, "-o", out).status == 0
        assert Image.open(out).getpixel((0, 0)) == corner
    behind = write_disc(tmp_path / "behind.webp", ground=90, subject=90)
    assert command("remove", photo, "-b", behind, "-o", out).status == 0
    assert abs(Image.open(out).getpixel((0, 0))[0] - 90) <= 2
    assert command("remove", photo, "-t", "colour", "-b", "red", "-o", out).status == 0


def test_edge_options(command, photo: Path, tmp_path: Path) -> None:
    def coverage(*options: object) -> float:
        report = command("remove", photo, "-t", "mask", "-o", tmp_path / "m.png", *options)
        assert report.status == 0
        return float(np.asarray(Image.open(tmp_path / "m.png")).mean())

    plain = coverage()
    assert coverage("--mask-offset", 4) > plain > coverage("--mask-offset", -4)
    assert coverage("--mask-blur", 6) == pytest.approx(plain, rel=0.1)
    coverage("--threshold", 0.5)
    assert set(np.unique(np.asarray(Image.open(tmp_path / "m.png")))) == {0, 255}


def test_resolution_and_batches(command, bright: BrightEngine, tmp_path: Path) -> None:
    for index in range(4):
        write_disc(tmp_path / "in" / f"{index}.png")
    arguments = (tmp_path / "in", "-o", tmp_path / "out", "--batch-size", 2)
    assert command("remove", *arguments, "--resolution", "96x64").status == 0
    assert bright.batches == [(2, 3, 64, 96)] * 2


@pytest.mark.parametrize("format", ["png", "webp", "tiff", "jpeg"])
def test_formats(command, photo: Path, tmp_path: Path, format: str) -> None:
    result = command("remove", photo, "-t", "white", "-f", format, "-o", tmp_path / "out")
    assert result.status == 0, result.stderr
    (made,) = (tmp_path / "out").iterdir()
    assert Image.open(made).format == format.upper()


def test_quality(command, photo: Path, tmp_path: Path) -> None:
    sizes = []
    for quality in (10, 95):
        out = tmp_path / f"{quality}.jpg"
        assert command("remove", photo, "-t", "blur", "-o", out, "--quality", quality).status == 0
        sizes.append(out.stat().st_size)
    assert sizes[0] < sizes[1]


def test_folder_keeps_its_structure(command, tmp_path: Path) -> None:
    for name in ("a.png", "a.jpg", "deep/b.png", "deep/er/c.webp"):
        write_disc(tmp_path / "in" / name)
    result = command("remove", tmp_path / "in", "-o", tmp_path / "out")
    assert result.status == 0
    assert names(tmp_path / "out") == ["a.jpg.png", "a.png.png", "deep/b.png", "deep/er/c.png"]
    assert result.stderr.startswith("4 pictures cut out in ")
    # Beside their sources, twice: results are no new inputs.
    for _ in range(2):
        assert command("remove", tmp_path / "in").stderr.startswith("4 pictures cut out")
    assert len(names(tmp_path / "in")) == 8


def test_pattern(command, tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.jpg"):
        write_disc(tmp_path / name)
    assert command("remove", tmp_path / "*.png", "-o", tmp_path / "out").status == 0
    assert names(tmp_path / "out") == ["a.png", "b.png"]


def test_failures_are_listed_and_the_rest_is_done(command, tmp_path: Path) -> None:
    write_disc(tmp_path / "in" / "good.png")
    (tmp_path / "in" / "empty.png").touch()
    (tmp_path / "in" / "text.jpg").write_text("not a picture")
    result = command("remove", tmp_path / "in", "-o", tmp_path / "out")
    assert result.status == 1
    assert names(tmp_path / "out") == ["good.png"]
    assert "empty.png is empty" in result.stderr
    assert "text.jpg is not a picture" in result.stderr
    assert "1 picture cut out, 2 failed" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unwritable_output_fails_that_picture(command, photo: Path, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    result = command("remove", photo, "-o", tmp_path / "out" / "deep" / "a.png")
    assert result.status == 1
    assert "cannot write" in result.stderr


def test_jpeg_cutout_says_what_to_do(command, photo: Path, tmp_path: Path) -> None:
    result = command("remove", photo, "-o", tmp_path / "a.jpg")
    assert result.status == 2
    assert "background" in result.stderr
    assert names(tmp_path) == ["photo.png"]


def test_no_subject_is_said(command, tmp_path: Path) -> None:
    dark = write_disc(tmp_path / "dark.png", subject=30)
    result = command("remove", dark)
    assert result.status == 0
    assert "no subject found" in result.stderr
    assert np.asarray(Image.open(tmp_path / "dark.cutout.png"))[..., 3].max() <= 1


def test_skip_existing_resumes(command, bright: BrightEngine, tmp_path: Path) -> None:
    for index in range(3):
        write_disc(tmp_path / "in" / f"{index}.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "1.png").write_text("done before")
    arguments = ("remove", tmp_path / "in", "-o", tmp_path / "out")
    result = command(*arguments, "--skip-existing")
    assert "2 pictures cut out, 1 skipped" in result.stderr
    assert (tmp_path / "out" / "1.png").read_text() == "done before"
    assert len(bright.batches) == 2
    result = command(*arguments, "--skip-existing")
    assert (result.status, len(bright.batches)) == (0, 2)
    assert command(*arguments).status == 0
    assert Image.open(tmp_path / "out" / "1.png").mode == "RGBA"


def test_an_empty_folder_is_no_error(command, tmp_path: Path) -> None:
    result = command("remove", tmp_path)
    assert result.status == 0
    assert "no pictures found" in result.stderr


def test_streams_carry_the_picture_and_nothing_else(command, photo: Path, tmp_path: Path) -> None:
    result = command("remove", "-", stdin=photo.read_bytes())
    assert (result.status, result.stderr) == (0, "")
    assert Image.open(io.BytesIO(result.stdout)).mode == "RGBA"
    result = command("remove", photo, "-o", "-", "-f", "webp")
    assert result.stdout[8:12] == b"WEBP"
    assert command("remove", "-", "-o", tmp_path / "o.png", stdin=photo.read_bytes()).status == 0
    assert Image.open(tmp_path / "o.png").size == (64, 48)
    result = command("remove", "-", stdin=b"nonsense")
    assert (result.status, result.stdout) == (1, b"")
    assert "is not a picture" in result.stderr


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_animations_stay_animated(command, tmp_path: Path, suffix: str) -> None:
    source = write_animation(tmp_path / f"moving{suffix}")
    result = command("remove", source)
    assert result.status == 0, result.stderr
    frames = list(decode_frames(tmp_path / f"moving.cutout{suffix}"))
    assert [frame.duration_ms for frame in frames] == [80] * 3
    for frame in frames:
        assert frame.alpha is not None
        assert frame.alpha[24, 32] == 1
        assert frame.alpha[0, 0] == 0


def test_animation_formats(command, tmp_path: Path) -> None:
    source = write_animation(tmp_path / "moving.gif")
    assert command("remove", source, "-f", "webp", "-t", "white").status == 0
    assert Image.open(tmp_path / "moving.white.webp").n_frames == 3
    result = command("remove", source, "-f", "jpeg", "-t", "white")
    assert result.status == 1
    assert "animated, and jpeg holds one frame" in result.stderr
    assert command("remove", source, "-t", "mask", "-o", tmp_path / "m.png").status == 0
    assert Image.open(tmp_path / "m.png").n_frames == 3
    result = command("remove", "-", stdin=source.read_bytes())
    assert result.stdout.startswith(b"GIF8")
    still = write_disc(tmp_path / "still.gif")
    assert command("remove", still).status == 0
    assert (tmp_path / "still.cutout.png").exists()
    assert command("remove", still, "-o", tmp_path / "s.gif").status == 0
    assert Image.open(tmp_path / "s.gif").format == "GIF"


def test_json(command, tmp_path: Path) -> None:
    write_disc(tmp_path / "in" / "a.png")
    write_animation(tmp_path / "in" / "b.gif")
    (tmp_path / "in" / "c.png").touch()
    result = command("remove", tmp_path / "in", "-o", tmp_path / "out", "--json")
    assert result.status == 1
    report = json.loads(result.stdout)
    assert (report["done"], report["failed"], report["skipped"]) == (2, 1, 0)
    assert report["engine"] == "bright"
    a, b, c = report["results"]
    assert a["input"].endswith("a.png")
    assert (a["width"], a["height"], a["frames"], a["is_empty"]) == (64, 48, 1, False)
    assert 0.2 < a["coverage"] < 0.4
    assert a["confidence"] > 0.9
    assert b["frames"] == 3
    assert c["status"] == "failed"
    assert "empty" in c["error"]
    assert c["output"] is None


def test_profile_is_kept_where_asked(command, tmp_path: Path) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    source = tmp_path / "photo.png"
    Image.fromarray(disc()).save(source, icc_profile=profile)
    for options, kept in (((), False), (("--keep-profile",), True)):
        assert command("remove", source, *options).status == 0
        made = Image.open(tmp_path / "photo.cutout.png")
        assert (made.info.get("icc_profile") == profile) is kept


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing.jpg",), "no file or folder 'nothing.jpg'"),
        (("photo.png", "-o", "photo.png"), "is the input"),
        (("photo.png", "-t", "shadow"), "choose one of cutout"),
        (("photo.png", "-t", "mask", "-b", "white"), "--background does not go with --type mask"),
        (("photo.png", "-t", "colour"), "--type colour needs a --background"),
        (("photo.png", "-b", "no-such-thing"), "neither a file nor a colour"),
        (("photo.png", "-f", "bmp"), "choose one of png"),
        (("photo.png", "--resolution", "huge"), "give N, WIDTHxHEIGHT or native"),
        (("photo.png", "--resolution", "0"), "give N, WIDTHxHEIGHT or native"),
        (("photo.png", "--quality", "0"), "quality"),
        (("photo.png", "--batch-size", "0"), "batch-size"),
        (("photo.png", "-o", "-", "--json"), "both want standard output"),
        (("photo.png", "--no-such-option"), "no-such-option"),
    ],
)
def test_usage_errors(
    command,
    photo: Path,
    bright: BrightEngine,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    message: str,
) -> None:
    monkeypatch.chdir(photo.parent)
    result = command("remove", *arguments)
    assert result.status == 2
    assert message in result.stderr
    assert names(photo.parent) == ["photo.png"]
    assert bright.batches == []


def test_errors_are_one_sentence_unless_debugging(
    command, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()  # the real `load`
    monkeypatch.delenv("BIREFNET_DEBUG", raising=False)
    result = command("remove", photo, "--model", photo.parent / "no-model.safetensors")
    assert result.status == 2
    assert result.stderr.count("\n") == 1
    assert result.stderr.startswith("Error: ")
    monkeypatch.setenv("BIREFNET_DEBUG", "1")
    with pytest.raises(birefnet.errors.WeightsError):
        command("remove", photo, "--model", photo.parent / "no-model.safetensors")


def test_missing_device_is_no_silent_fallback(
    command, photo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    if find_spec("torch"):
        monkeypatch.setattr("birefnet.inference.engines.devices.available_devices", lambda: ["cpu"])
    result = command("remove", photo, "--device", "cuda")
    assert result.status == 1
    assert "'cuda' was asked for" in result.stderr
    assert names(photo.parent) == ["photo.png"]


def test_interruption_leaves_no_half_file(
    command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(BrightEngine):
        def infer(self, batch: np.ndarray) -> np.ndarray:
            if len(self.batches) == 3:
                end = time.monotonic() + 10  # on a busy machine, writing is behind
                while len(list((tmp_path / "out").glob("?.png"))) < 3 and time.monotonic() < end:
                    time.sleep(0.01)
                signal.raise_signal(signal.SIGINT)
            return super().infer(batch)

    monkeypatch.setattr(
        "birefnet.api.load", lambda *a, **k: birefnet.Predictor(Interrupted(), PLAIN)
    )
    for index in range(8):
        write_disc(tmp_path / "in" / f"{index}.png")
    result = command("remove", tmp_path / "in", "-o", tmp_path / "out")
    assert result.status == 130
    made = names(tmp_path / "out")
    assert made == ["0.png", "1.png", "2.png"]
    assert "interrupted: 3 of 8 done" in result.stderr
    for name in made:
        Image.open(tmp_path / "out" / name).load()


def test_the_real_thing_in_a_process_of_its_own(tmp_path: Path) -> None:
    """The bundled network, a pipe on both ends, and nothing but a PNG between them."""
    environment = {**os.environ, "PYTHONPATH": str(Path(birefnet.__file__).parents[1])}
    environment.pop("BIREFNET_MODEL", None)
    done = subprocess.run(
        [sys.executable, "-m", "birefnet", "remove", "-", "--device", "cpu"],
        input=write_disc(tmp_path / "photo.jpg").read_bytes(),
        capture_output=True,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert Image.open(io.BytesIO(done.stdout)).size == (64, 48)


# Presets


def test_a_preset_is_a_set_of_options(command, photo: Path, tmp_path: Path) -> None:
    assert command("remove", photo, "--preset", "sticker").status == 0
    cutout = decode(tmp_path / "photo.cutout.webp")
    assert cutout.width < 64  # trimmed
    assert command("remove", photo, "--preset", "sticker", "-o", tmp_path / "a.png").status == 0
    typed = ["--outline", "2.5%", "--crop", "--crop-margin", "2%", "-o", tmp_path / "b.png"]
    assert command("remove", photo, *typed).status == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


def test_what_is_typed_comes_before_a_preset(command, photo: Path, tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text('[mine]\nkind = "colour"\nbackground = "red"\nmatting = "guided"\n')
    given = ["--presets", own, "--preset", "mine", "--matting", "none", "--background", "#00f"]
    assert command("remove", photo, *given, "-o", tmp_path / "a.png").status == 0
    plain = ["--type", "colour", "--background", "#00f", "-o", tmp_path / "b.png"]
    assert command("remove", photo, *plain).status == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (["--preset", "shoop"], "there is no preset 'shoop'; choose one of shop, sticker, avatar"),
        (["--presets", "own.toml"], "--presets own.toml does nothing without --preset; add it"),
        (["--preset", "a", "--presets", "none.toml"], "none.toml cannot be read"),
    ],
)
def test_presets_that_make_no_sense(command, photo: Path, given: list[str], words: str) -> None:
    result = command("remove", photo, *given)
    assert result.status == 2
    assert words in " ".join(result.stderr.split())
