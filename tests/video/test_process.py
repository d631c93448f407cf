"""`process_video` end to end: films in, films out, read back frame by frame."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("av")

from birefnet.video import process_video, read_mattes
from video.clips import fake_predictor, moving_disc, read_film, write_clip

IRREGULAR = [0, 1001, 2002, 5005, 5105, 9000, 9500, 12000, 20000, 20100]
"""Time stamps of a camera that drops frames, in 1/30000 s."""


@pytest.fixture
def clip(tmp_path: Path) -> Path:
    return write_clip(tmp_path / "clip.mp4", sound="aac")


def expected_alpha(number: int) -> np.ndarray:
    picture = moving_disc(number)
    return np.where(picture[..., 0] > 128, 255, 0)


@pytest.mark.parametrize("suffix", [".mov", ".webm"])
def test_alpha_survives(clip: Path, tmp_path: Path, suffix: str) -> None:
    out = tmp_path / f"out{suffix}"
    result = process_video(clip, out, predictor=fake_predictor())
    film = read_film(out)
    mattes = [matte for _, matte in read_mattes(clip, predictor=fake_predictor())]
    assert result.frames == len(film.pixels) == len(mattes) == 12
    for alpha, matte in zip(film.alphas, mattes, strict=True):
        difference = np.abs(alpha.astype(float) - 255 * matte.alpha)
        assert difference.mean() < (0.5 if suffix == ".mov" else 2)
        assert difference.max() < (3 if suffix == ".mov" else 60)
    inside = film.alphas[0] > 250
    assert np.abs(film.pixels[0][inside][:, :3].mean(axis=0) - [250, 240, 230]).max() < 4
    assert not list(tmp_path.glob("*.parts"))


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
def test_irregular_times_are_kept(tmp_path: Path, suffix: str) -> None:
    clip = write_clip(
        tmp_path / "a.mp4",
        pts=IRREGULAR,
        time_base=Fraction(1, 30000),
        options={"bf": "0"},  # with B-frames FFmpeg's own file would lose its last frame
    )
    out = tmp_path / f"out{suffix}"
    process_video(clip, out, predictor=fake_predictor(), kind="green")
    film = read_film(out)
    times = [stamp * Fraction(1, 30000) for stamp in IRREGULAR]
    if suffix == ".webm":  # counts milliseconds
        times = [Fraction(round(1000 * time), 1000) for time in times]
    assert film.times == times
    assert film.seconds == pytest.approx(read_film(clip).seconds, abs=0.05)


@pytest.mark.parametrize("suffix", [".mp4", ".mov", ".webm"])
@pytest.mark.parametrize("segment_frames", [240, 5])
def test_frames_and_sound_keep_their_length(
    clip: Path, tmp_path: Path, suffix: str, segment_frames: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many segments it is made of."""
    monkeypatch.setattr("birefnet.video.process.SEGMENT_FRAMES", segment_frames)
    out = tmp_path / f"out{suffix}"
    process_video(clip, out, predictor=fake_predictor(), kind="white")
    before, after = read_film(clip), read_film(out)
    assert len(after.pixels) == len(before.pixels)
    if suffix == ".webm":
        assert after.sound == pytest.approx(before.sound, abs=0.03)
        assert after.times == [Fraction(round(1000 * time), 1000) for time in before.times]
    else:
        assert after.sound == before.sound
        assert after.times == before.times
    assert after.seconds == pytest.approx(before.seconds, abs=0.03)
