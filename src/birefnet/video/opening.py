"""Open whatever was named as a video: a file, an address, a folder of pictures, a camera."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from birefnet.errors import ImageError
from birefnet.imaging.formats import SUFFIXES, is_picture, sniff
from birefnet.imaging.io import decode, decode_frames
from birefnet.imaging.picture import Limits, Picture
from birefnet.video.decode import FileSource
from birefnet.video.errors import VideoError, VideoUsageError
from birefnet.video.source import RawFrame, VideoInfo, VideoSource

_ANIMATIONS = ("gif", "webp", "png", "avif")
DEFAULT_RATE = Fraction(25)  # of numbered pictures, as FFmpeg has it


def open_source(
    source: str | os.PathLike[str], *, rate: Fraction | None = None, deep: bool = True
) -> VideoSource:
    """Open a video.

    Args:
        source: a file or URL that FFmpeg reads; an animated GIF, WebP, PNG or AVIF; a folder of
            pictures or a pattern such as `shots/*.png` (in the order of their names); or the number
            of a camera (`0`; on Windows `video=NAME`).
        rate: frames per second of a folder or pattern; None for 25.
        deep: give uint16 where a channel has more than 8 bits, else always uint8.

    Raises:
        VideoError: nothing there, no video, or one that cannot be decoded.
        MissingExtraError: PyAV is not installed.
    """
    text = os.fspath(source)
    path = Path(text)
    frames = None
    if path.is_dir():
        frames = sorted(item for item in path.iterdir() if _is_frame(item))
    elif glob.has_magic(text) and not path.exists() and "://" not in text:
        frames = sorted(Path(item) for item in glob.glob(text, recursive=True))
        frames = [item for item in frames if _is_frame(item)]
    if frames is not None:
        if not frames:
            raise VideoUsageError(
                f"there are no pictures in {text!r}; give a video, or their folder"
            )
        return FolderSource(frames, text, rate or DEFAULT_RATE, deep=deep)
    if rate is not None:
        raise VideoUsageError(
            f"{text} has a frame rate of its own; a rate is for folders of pictures"
        )
    if (camera := camera_input(text)) is not None:
        device, format = camera
        return FileSource(device, format=format, is_live=True, name=f"camera {text}", deep=deep)
    if path.is_file():
        with path.open("rb") as file:
            kind = sniff(file.read(512))
        if kind in _ANIMATIONS:
            return AnimationSource(path)
        if kind is not None and path.suffix.lower() in SUFFIXES:
            raise VideoUsageError(f"{text} is a still picture; `birefnet remove` is for those")
    return FileSource(text, deep=deep)


def camera_input(text: str) -> tuple[str, str] | None:
    """FFmpeg's name of a camera, and the input device to open it with; None for no camera."""
    if os.path.exists(text):
        return None
    if sys.platform == "win32":
        return (text, "dshow") if text.startswith("video=") else None
    if text.isdecimal():
        return (text, "avfoundation") if sys.platform == "darwin" else (f"/dev/video{text}", "v4l2")
    return None


def _is_frame(path: Path) -> bool:
    return is_picture(path) and not path.name.startswith(".") and path.is_file()


_MILLISECOND = Fraction(1, 1000)
_MOST_FRAMES = 1_000_000  # they are decoded one by one, so many do no harm


class AnimationSource:
    """A GIF, WebP, APNG or AVIF with its own durations; time stamps in milliseconds."""

    damage: str | None = None

    def __init__(self, path: Path) -> None:
        self._path = path
        self._limits = Limits(max_frames=_MOST_FRAMES)
        try:
            first = next(decode_frames(path, limits=self._limits))
        except ImageError as error:
            raise VideoError(str(error)) from error
        self.info = VideoInfo(
            name=str(path),
            width=first.width,
            height=first.height,
            time_base=_MILLISECOND,
            has_alpha=first.alpha is not None,
            codec=path.suffix.lower().lstrip("."),
            plays=first.plays or 0,
        )

    def raw(self, target: int | None = None) -> Iterator[RawFrame]:
        time = 0
        try:
            for picture in decode_frames(self._path, limits=self._limits):
                duration = max(1, picture.duration_ms or 1)
                yield RawFrame(time, duration, partial(_itself, picture))
                time += duration
        except ImageError as error:
            raise VideoError(str(error)) from error

    def close(self) -> None:
        pass


class FolderSource:
    """Pictures of one size, one a frame; time stamps count them."""

    damage: str | None = None

    def __init__(self, paths: list[Path], name: str, rate: Fraction, *, deep: bool) -> None:
        self._paths, self._deep = paths, deep
        first = self._read(paths[0])
        self.info = VideoInfo(
            name=name,
            width=first.width,
            height=first.height,
            time_base=1 / rate,
            rate=rate,
            frames=len(paths),
            bits=8 * first.pixels.itemsize,
            has_alpha=first.alpha is not None,
            codec=paths[0].suffix.lower().lstrip("."),
        )

    def raw(self, target: int | None = None) -> Iterator[RawFrame]:
        for number in range(target or 0, len(self._paths)):
            yield RawFrame(number, 1, partial(self._convert, number))

    def _convert(self, number: int) -> Picture:
        picture = self._read(self._paths[number])
        if (picture.width, picture.height) != (self.info.width, self.info.height):
            raise VideoError(
                f"{self._paths[number]} is {picture.width} x {picture.height}, the first frame "
                f"{self.info.width} x {self.info.height}; all must agree"
            )
        return picture

    def _read(self, path: Path) -> Picture:
        try:
            picture = decode(path)
        except ImageError as error:
            raise VideoError(str(error)) from error
        return picture if self._deep else replace(picture, pixels=picture.rgb8())

    def close(self) -> None:
        pass


def _itself(picture: Picture) -> Picture:
    return picture
