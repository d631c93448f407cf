"""Animated pictures and folders of frames, read by the package's own picture decoder."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from functools import partial
from pathlib import Path

from birefnet.errors import ImageError
from birefnet.imaging.io import decode, decode_frames
from birefnet.imaging.picture import Limits, Picture
from birefnet.video.errors import VideoError
from birefnet.video.source import RawFrame, VideoInfo

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
