"""Videos as a stream of frames: what they say of themselves, and opening whatever was named."""

from __future__ import annotations

import glob
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Protocol

from birefnet.imaging.formats import SUFFIXES, is_picture, sniff
from birefnet.imaging.picture import Picture
from birefnet.video.colour import ColourSpace
from birefnet.video.errors import VideoUsageError

_ANIMATIONS = ("gif", "webp", "png", "avif")
DEFAULT_RATE = Fraction(25)  # of numbered pictures, as FFmpeg has it


@dataclass(frozen=True)
class VideoInfo:
    """What is known of a video before its frames are decoded.

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
    from birefnet.video import pictures
    from birefnet.video.decode import FileSource

    text = os.fspath(source)
    path = Path(text)
    found = None
    if path.is_dir():
        found = sorted(item for item in path.iterdir() if _is_frame(item))
    elif glob.has_magic(text) and not path.exists() and "://" not in text:
        found = sorted(Path(item) for item in glob.glob(text, recursive=True))
        found = [item for item in found if _is_frame(item)]
    if found is not None:
        if not found:
            raise VideoUsageError(
                f"there are no pictures in {text!r}; give a video, or their folder"
            )
        return pictures.FolderSource(found, text, rate or DEFAULT_RATE, deep=deep)
    if rate is not None:
        raise VideoUsageError(
            f"{text} has a frame rate of its own; a rate is for folders of pictures"
        )
    if (camera := camera_input(text)) is not None:
        place, format = camera
        return FileSource(place, format=format, is_live=True, name=f"camera {text}", deep=deep)
    if path.is_file():
        with path.open("rb") as file:
            kind = sniff(file.read(512))
        if kind in _ANIMATIONS:
            return pictures.AnimationSource(path)
        if kind is not None and path.suffix.lower() in SUFFIXES:
            raise VideoUsageError(f"{text} is a still picture; `birefnet remove` is for those")
    return FileSource(text, deep=deep)


def ffmpeg_url(place: str) -> str:
    """What FFmpeg opens: an address as it is, a file as `file:PATH`.

    FFmpeg would read a colon in a file's name, as in `12:30.mp4`, as the end of a protocol.
    """
    return place if "://" in place and not os.path.exists(place) else f"file:{place}"


def camera_input(text: str) -> tuple[str, str] | None:
    """What FFmpeg calls a camera, and the input device to open it with; None for no camera."""
    if os.path.exists(text):
        return None
    if sys.platform == "win32":
        return (text, "dshow") if text.startswith("video=") else None
    if text.isdecimal():
        return (text, "avfoundation") if sys.platform == "darwin" else (f"/dev/video{text}", "v4l2")
    return None


def _is_frame(path: Path) -> bool:
    return is_picture(path) and not path.name.startswith(".") and path.is_file()
