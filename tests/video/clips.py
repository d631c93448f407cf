"""Small films for the tests, and what is read back of films."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from numpy.typing import NDArray

from birefnet.inference.predictor import Predictor
from birefnet.video.colour import ColourSpace, from_rgb, to_rgb
from birefnet.video.decode import FileSource
from fakes import PLAIN, BrightEngine

WIDTH, HEIGHT = 96, 64


def fake_predictor() -> Predictor:
    """What is bright is the subject."""
    return Predictor(BrightEngine(), PLAIN, name="fake")


def moving_disc(number: int, *, width: int = WIDTH, height: int = HEIGHT) -> NDArray[np.uint8]:
    """A bright disc that moves right over a dark, coloured ground; H x W x 3."""
    y, x = np.mgrid[:height, :width]
    inside = (x - width / 4 - number) ** 2 + (y - height / 2) ** 2 < (height / 4) ** 2
    ground = np.array([60, 20, 30], np.uint8)
    return np.where(inside[..., None], np.array([250, 240, 230], np.uint8), ground)


def write_clip(
    path: Path,
    *,
    frames: int = 12,
    pts: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 24),
    picture: Callable[[int], NDArray[Any]] = moving_disc,
    codec: str = "libx264",
    pixel_format: str = "yuv420p",
    colour: ColourSpace | None = None,
    turn: tuple[float, bool] | None = None,
    pixel_aspect: Fraction | None = None,
    sound: str | None = None,
    tracks: int = 1,
    options: dict[str, str] | None = None,
    faststart: bool = False,
) -> Path:
    """A film.

    Args:
        pts: time stamps in `time_base`; None for one after the other.
        picture: gives the pixels of frame i.
        colour: how it is coded and tagged; None for BT.601 without tags.
        turn: rotation [degrees] and mirroring to be written into the display matrix.
        pixel_aspect: width of a pixel by its height, in the stream or its header.
        sound: encoder of a tone that lasts as long as the frames.
        tracks: of sound.
        options: for the encoder.
        faststart: put the index of an MP4 first.
    """
    stamps = list(range(frames)) if pts is None else list(pts)
    path.parent.mkdir(parents=True, exist_ok=True)
    muxer = {}
    if path.suffix in (".mp4", ".mov"):
        muxer["video_track_timescale"] = str(time_base.denominator)
        muxer |= {"movflags": "+faststart"} if faststart else {}
    with av.open(str(path), "w", options=muxer) as container:
        first = picture(0)
        quality = {"crf": "10"} if codec == "libx264" else {}
        stream: Any = container.add_stream(
            codec, rate=round(1 / time_base), options=quality if options is None else options
        )
        stream.height, stream.width = first.shape[:2]
        stream.pix_fmt = pixel_format
        stream.codec_context.time_base = time_base
        if colour is not None:
            context = stream.codec_context
            context.colorspace, context.color_range = colour.matrix, colour.range_number
            context.color_primaries, context.color_trc = colour.primaries, colour.transfer
        if pixel_aspect is not None:
            stream.codec_context.sample_aspect_ratio = pixel_aspect
        if turn is not None:
            stream.set_display_rotation(turn[0], hflip=turn[1])
        heard = [_add_tone(container, sound) for _ in range(tracks)] if sound else []
        for number, stamp in enumerate(stamps):
            coded = colour or ColourSpace(matrix=6, primaries=6, transfer=6)
            frame = from_rgb(picture(number), pixel_format, coded)
            if colour is None:
                frame.colorspace = frame.color_primaries = frame.color_trc = 2
                frame.color_range = 0
            frame.pts, frame.time_base = stamp, time_base
            container.mux(stream.encode(frame))
        seconds = (stamps[-1] + 1) * time_base
        for tone in heard:
            _write_tone(container, tone, seconds)
        for each in (stream, *heard):
            container.mux(each.encode(None))
    return path


def _add_tone(container: Any, encoder: str) -> Any:
    stream = container.add_stream(encoder, rate=48000)
    stream.codec_context.layout = "stereo"
    return stream


def _write_tone(container: Any, stream: Any, seconds: Fraction) -> None:
    count = int(48000 * seconds)
    wave = (0.3 * np.sin(2 * np.pi * 440 * np.arange(count) / 48000)).astype(np.float32)
    format = stream.codec_context.format.name
    for start in range(0, count, 960):
        samples = np.stack([wave[start : start + 960]] * 2)
        frame = av.AudioFrame.from_ndarray(samples, format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        if format != "fltp":
            resampler = av.AudioResampler(format=format, layout="stereo", rate=48000)
            for part in resampler.resample(frame):
                container.mux(stream.encode(part))
            continue
        container.mux(stream.encode(frame))


@dataclass(frozen=True)
class Film:
    """What was read back.

    Attributes:
        pixels: of each frame, RGB or RGBA.
        times: of each frame [s].
        sound: seconds of each track.
        stream: of the video.
    """

    pixels: list[NDArray[Any]]
    times: list[Fraction]
    sound: list[float]
    codec: str
    colour: ColourSpace
    seconds: float

    @property
    def alphas(self) -> list[NDArray[Any]]:
        return [frame[..., 3] for frame in self.pixels]


def read_film(path: Path) -> Film:
    """All of a film, through FFmpeg's decoders (libvpx for the alpha of VP9)."""
    source = FileSource(str(path), deep=False)
    pixels, times = [], []
    for raw in source.raw():
        picture = raw.convert()
        alpha = () if picture.alpha is None else (np.uint8(np.rint(255 * picture.alpha)),)
        pixels.append(np.dstack([picture.pixels, *alpha]))
        times.append(raw.pts * source.info.time_base)
    source.close()
    with av.open(str(path)) as container:
        sound = [_length(container, stream.index) for stream in container.streams.audio]
        seconds = (container.duration or 0) / 1_000_000
    return Film(pixels, times, sound, source.info.codec, source.info.colour, seconds)


def _length(container: Any, index: int) -> float:
    container.seek(0)
    samples = rate = 0
    for frame in container.decode(container.streams[index]):
        samples, rate = samples + frame.samples, frame.sample_rate
    return samples / rate


__all__ = ["Film", "fake_predictor", "moving_disc", "read_film", "to_rgb", "write_clip"]
