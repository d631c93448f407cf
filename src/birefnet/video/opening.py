"""Open whatever was named as a video: a file, an address, a folder of pictures, a camera."""

from __future__ import annotations

import glob
import os
import sys
from fractions import Fraction
from pathlib import Path

from birefnet.imaging.formats import SUFFIXES, is_picture, sniff
from birefnet.video import pictures
from birefnet.video.decode import FileSource
from birefnet.video.errors import VideoUsageError
from birefnet.video.source import VideoSource

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
        return pictures.FolderSource(frames, text, rate or DEFAULT_RATE, deep=deep)
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
            return pictures.AnimationSource(path)
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
