"""Videos as a stream of frames, and what they say of themselves."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Protocol

from birefnet.imaging.picture import Picture
from birefnet.video.colour import ColourSpace


@dataclass(frozen=True)
class VideoInfo:
    """Facts of a video, known before its frames are decoded.

    Attributes:
        name: of the source, for messages.
        width, height: of a frame as it is to be seen, upright [px].
        time_base: seconds of one unit of a time stamp.
        zero: time stamp of the beginning; 0 for most files.
        rate: average frames per second, if known.
        frames: about how many there are, if known.
        colour: how the colours are coded.
        bits: 8, or 16 where a channel has more than 8.
        has_alpha: whether frames bring an alpha of their own.
        pixel_aspect: width of a pixel by its height.
        codec: FFmpeg's name of it, or that of the picture format.
        is_live: a camera, which has no end and cannot be read twice.
        has_audio: whether the file has sound.
        plays: how often an animation is shown; 0 for ever.
    """

    name: str
    width: int
    height: int
    time_base: Fraction
    zero: int = 0
    rate: Fraction | None = None
    frames: int | None = None
    colour: ColourSpace = field(default_factory=ColourSpace)
    bits: int = 8
    has_alpha: bool = False
    pixel_aspect: Fraction = Fraction(1)
    codec: str = ""
    is_live: bool = False
    has_audio: bool = False
    plays: int = 0


@dataclass(eq=False)
class RawFrame:
    """A frame that need not be converted if it is not wanted.

    Attributes:
        pts: when it is shown, in units of the time base.
        duration: how long, in the same units; 0 if unknown.
        convert: gives the picture.
    """

    pts: int
    duration: int
    convert: Callable[[], Picture]


class VideoSource(Protocol):
    """Anything that gives frames in order."""

    @property
    def info(self) -> VideoInfo: ...

    @property
    def damage(self) -> str | None:
        """Once the frames are read: what was wrong with the file, as the end of a sentence."""
        ...

    def raw(self, target: int | None = None) -> Iterator[RawFrame]:
        """All frames; or those from some frame at or before the time stamp `target` on.

        Time stamps rise strictly. Raises VideoError where the file breaks off.
        """
        ...

    def close(self) -> None: ...


def ffmpeg_url(source: str) -> str:
    """A source for FFmpeg: an address as it is, a file as `file:PATH`.

    FFmpeg would read a colon in a file's name, as in `12:30.mp4`, as the end of a protocol.
    """
    return source if "://" in source and not os.path.exists(source) else f"file:{source}"
