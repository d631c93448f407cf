"""The options of a video and the files to write, checked before a network is loaded."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birefnet.files import is_same
from birefnet.imaging.compose import Colour
from birefnet.imaging.picture import Picture
from birefnet.imaging.values import parse_rate
from birefnet.matte import read_background
from birefnet.options import Options, VideoOptions
from birefnet.video.clip import Clip
from birefnet.video.errors import VideoError, load_av
from birefnet.video.formats import Codec, Format, check_encoder, encoder_options, format_of

if TYPE_CHECKING:
    from birefnet.matte import Background

VIDEO_SUFFIXES = {".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".ts", ".mts", ".gif", ".wmv"}


@dataclass(frozen=True)
class Settings:
    """The options of a video and of its frames.

    Attributes:
        options: of each frame; those of `birefnet.options.VIDEO`.
        video: those of the video alone.
    """

    options: Options = field(default_factory=Options)
    video: VideoOptions = field(default_factory=VideoOptions)

    def checked(self) -> Settings:
        """The same, with every option looked at; no file is read.

        Raises:
            BiRefNetError: one sentence on what makes no sense.
        """
        checked = Settings(self.options.checked(), self.video.checked())
        _ = checked.clip
        return checked

    @cached_property
    def clip(self) -> Clip:
        """Which frames.

        Raises:
            VideoError: no time or frame, or an end before the start.
        """
        return Clip.of(self.video.start, self.video.end, self.video.stride)

    @property
    def rate(self) -> Fraction | None:
        """Frames per second of a folder of pictures."""
        return parse_rate(self.video.rate)

    def fingerprint(self) -> dict[str, Any]:
        """The values that the parts of a video depend on, as JSON."""
        options, video = self.options, self.video
        return {
            "type": options.kind,
            "background": None if options.background is None else str(options.background),
            "quality": video.quality,
            "preset": video.preset,
            "crf": video.crf,
            "start": str(self.clip.start),
            "end": str(self.clip.end),
            "stride": video.stride,
            "resolution": str(options.resolution),
            "refine": options.refine,
            "stabilise": video.stabilise,
            "mask": [options.threshold, options.mask_blur, options.mask_offset],
            "rate": str(self.rate),
        }


@dataclass(frozen=True)
class Target:
    """One file to write.

    Attributes:
        path: of the result.
        format: see `Format`.
        kind: what to render, see `Matte.render`.
        has_alpha: whether frames are transparent.
        codec: of a movie; None for pictures.
        options: for its encoder.
        background: behind the subject, if anything still or one colour.
        movie: a video behind the subject.
    """

    path: Path
    format: Format
    kind: str
    has_alpha: bool
    codec: Codec | None = None
    options: dict[str, str] = field(default_factory=dict)
    background: Colour | Picture | None = None
    movie: Path | None = None

    @property
    def suffix(self) -> str:
        """Of its parts; pictures on the way to an animation lie in folders."""
        return f".{self.format.name}" if self.codec else ""

    @property
    def bits(self) -> int:
        return self.format.bits(alpha=self.has_alpha)


def plan_targets(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    mask_output: str | os.PathLike[str] | None,
    settings: Settings,
) -> list[Target]:
    """The files to write, the result first.

    Raises:
        VideoError: an unknown suffix, a format that cannot hold what is asked for, an output that
            is the input, a missing encoder.
        BiRefNetError: an unknown kind or background.
    """
    load_av()
    options = settings.options
    targets = [_plan(source, output, options.kind, options.background, settings)]
    if mask_output is not None:
        if is_same(mask_output, output):
            raise VideoError(f"the result and its mask would both be {output}; name two files")
        targets.append(_plan(source, mask_output, "mask", None, settings))
    return targets


def _plan(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    kind: str,
    background: Background | None,
    settings: Settings,
) -> Target:
    if "://" in os.fspath(output):
        raise VideoError(f"{os.fspath(output)} is an address; films are written to files")
    path = Path(output)
    format = format_of(output)
    if path.exists() and is_same(path, source):
        raise VideoError(f"{os.fspath(output)} is the input; give another output")
    movie = None
    if isinstance(background, (str, os.PathLike)):
        if Path(background).is_file() and is_same(background, path):
            raise VideoError(f"{os.fspath(output)} is the background; give another output")
        if _is_video(background):
            movie, background = Path(background), None
    still = None if background is None else read_background(background)
    is_see_through = isinstance(still, tuple) and still[3] < 255
    has_alpha = is_see_through or (kind == "cutout" and still is None and movie is None)
    if has_alpha and not format.holds_alpha:
        raise VideoError(
            f"{format.title} cannot be transparent: give a background (a colour, picture or video) "
            "or type green, or write .webm, .mov, .gif, .webp, or a folder of PNGs"
        )
    codec = format.codec(alpha=has_alpha) if format.is_movie else None
    encoding: dict[str, str] = {}
    if codec is not None:
        check_encoder(codec.encoder, codec.title)
        video = settings.video
        encoding = encoder_options(codec, video.quality, video.preset, video.crf)
    elif settings.video.crf is not None:
        raise VideoError(f"{format.title} has no rate factor (crf); give a quality instead")
    return Target(path, format, kind, has_alpha, codec, encoding, still, movie)


def _is_video(path: str | os.PathLike[str]) -> bool:
    return Path(path).suffix.lower() in VIDEO_SUFFIXES and Path(path).is_file()
