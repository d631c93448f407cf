"""The formats that can be written: suffix, codec and the numbers behind `quality` and `preset`."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field, replace
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal, get_args

from birefnet.options import Preset
from birefnet.video.errors import VideoError, load_av

_PATTERN = re.compile(r"%0?(\d*)d")


@dataclass(frozen=True)
class Codec:
    """One way to code frames.

    Attributes:
        encoder: FFmpeg's name of the encoder.
        pixel_format: what it is given.
        title: for people.
        quality: options by `Quality`.
        preset: options by `Preset`.
        crf: the largest constant rate factor, where there is such a thing.
        options: always set.
        full_range: whether it can say that its range is full.
        bits: of a channel.
        even: whether both sides must be even numbers of pixels.
    """

    encoder: str
    pixel_format: str
    title: str
    quality: dict[str, dict[str, str]]
    preset: dict[str, dict[str, str]]
    crf: int | None = None
    options: dict[str, str] = field(default_factory=dict)
    full_range: bool = True
    bits: Literal[8, 16] = 8
    even: bool = False


@dataclass(frozen=True)
class Format:
    """One kind of output.

    Attributes:
        name: mp4, webm, mov, gif, webp, apng or png (a folder of pictures).
        opaque, transparent: how it codes frames without and with alpha; None where it cannot, or
            where no codec of FFmpeg's does it.
        ticks: its time stamps count this part of a second; None for any.
        copied: codecs of sound that it takes as they are.
        sound: encoder for all others; None for no sound.
        options: for the muxer.
    """

    name: str
    opaque: Codec | None = None
    transparent: Codec | None = None
    ticks: Fraction | None = None
    copied: frozenset[str] = frozenset()
    sound: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """Its name in sentences."""
        return {"webm": "WebM", "webp": "WebP"}.get(self.name, self.name.upper())

    @property
    def is_movie(self) -> bool:
        """Written by FFmpeg, with sound; the others by the package's picture encoders."""
        return self.opaque is not None

    @property
    def holds_alpha(self) -> bool:
        return not self.is_movie or self.transparent is not None

    def codec(self, *, alpha: bool) -> Codec:
        codec = self.transparent if alpha else self.opaque
        assert codec is not None
        return codec

    def bits(self, *, alpha: bool) -> int:
        """Of a channel."""
        if self.is_movie:
            return self.codec(alpha=alpha).bits
        return 16 if self.name == "png" else 8


def _crf(**by_quality: int) -> dict[str, dict[str, str]]:
    return {name: {"crf": str(value)} for name, value in by_quality.items()}


_H264 = Codec(
    "libx264",
    "yuv420p",
    "H.264",
    quality=_crf(low=28, medium=23, high=18, maximum=10),
    preset={
        "fast": {"preset": "veryfast"},
        "balanced": {"preset": "medium"},
        "small": {"preset": "slower"},
    },
    crf=51,
    even=True,
)
_VP9_QUALITY = _crf(low=42, medium=33, high=24, maximum=12)
_VP9_PRESET = {"fast": {"cpu-used": "6"}, "balanced": {"cpu-used": "4"}, "small": {"cpu-used": "1"}}
_VP9_OPTIONS = {"b": "0", "deadline": "good", "row-mt": "1"}
_VP9 = Codec("libvpx-vp9", "yuv420p", "VP9", _VP9_QUALITY, _VP9_PRESET, 63, _VP9_OPTIONS)
_VP9_ALPHA = replace(
    _VP9,
    pixel_format="yuva420p",
    options=_VP9_OPTIONS | {"auto-alt-ref": "0"},  # hidden frames and alpha do not go together
)
_PRORES_QUALITY = {
    "low": {"bits_per_mb": "500"},
    "medium": {"bits_per_mb": "1000"},
    "high": {},
    "maximum": {"bits_per_mb": "8000"},
}
_PRORES = Codec(
    "prores_ks",
    "yuv422p10le",
    "ProRes 422 HQ",
    _PRORES_QUALITY,
    {name: {} for name in get_args(Preset)},
    options={"profile": "hq", "vendor": "apl0"},
    full_range=False,
    bits=16,
)
_PRORES_ALPHA = Codec(
    "prores_ks",
    "yuva444p10le",
    "ProRes 4444",
    _PRORES_QUALITY,
    {name: {} for name in get_args(Preset)},
    options={"profile": "4444", "alpha_bits": "16", "vendor": "apl0"},
    full_range=False,
    bits=16,
)
_PCM = {f"pcm_{kind}" for kind in ("s16le", "s16be", "s24le", "s24be", "s32le", "s32be", "f32le")}
_MP4_SOUND = frozenset({"aac", "mp3", "ac3", "eac3", "alac", "opus", "flac"})

FORMATS: dict[str, Format] = {
    format.name: format
    for format in (
        Format("mp4", _H264, None, None, _MP4_SOUND, "aac", {"movflags": "+faststart"}),
        Format("mov", _PRORES, _PRORES_ALPHA, None, (_MP4_SOUND - {"opus", "flac"}) | _PCM, "aac"),
        Format(
            "webm", _VP9, _VP9_ALPHA, Fraction(1, 1000), frozenset({"opus", "vorbis"}), "libopus"
        ),
        Format("gif", ticks=Fraction(1, 100)),
        Format("webp", ticks=Fraction(1, 1000)),
        Format("apng", ticks=Fraction(1, 1000)),
        Format("png"),
    )
}
SUFFIXES = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".webm": "webm"}
SUFFIXES |= {".gif": "gif", ".webp": "webp", ".apng": "apng"}


def format_of(output: str | os.PathLike[str]) -> Format:
    """The format that an output's name asks for.

    A name that ends in a slash, a folder, or a pattern such as `frames/%05d.png` is a sequence of
    PNG pictures.

    Raises:
        VideoError: a suffix that is none of these.
    """
    text = os.fspath(output)
    path = Path(text)
    if text.endswith(("/", os.sep)) or path.is_dir():
        return FORMATS["png"]
    if path.suffix.lower() == ".png":
        if _PATTERN.search(path.name):
            return FORMATS["png"]
        raise VideoError(
            f"{text} is one picture; for all frames give a pattern such as "
            f"{path.with_name(path.stem + '-%05d.png')}, or a folder: {path.with_suffix('')}/"
        )
    name = SUFFIXES.get(path.suffix.lower())
    if name is None:
        raise VideoError(
            f"{text} has no suffix of a video that can be written; give one of "
            f"{', '.join(SUFFIXES)}, or a folder ending in / for PNG pictures"
        )
    return FORMATS[name]


def frame_path(output: Path, number: int) -> Path:
    """Where the frame of this number goes in a sequence of pictures, counted from 1."""
    match = _PATTERN.search(output.name)
    if match and output.suffix.lower() == ".png":
        width = match[1] or "0"
        return output.with_name(_PATTERN.sub(f"{number:0{int(width)}d}", output.name, count=1))
    return output / f"{number:06d}.png"


def encoder_options(
    codec: Codec, quality: str, preset: str, crf: int | None = None
) -> dict[str, str]:
    """Options for the encoder.

    Raises:
        VideoError: a rate factor out of range or where there is none.
    """
    options = codec.options | codec.quality[quality] | codec.preset[preset]
    if crf is not None:
        if codec.crf is None:
            raise VideoError(f"{codec.title} has no rate factor (crf); give a quality instead")
        if not 0 <= crf <= codec.crf:
            raise VideoError(f"crf is {crf}; {codec.title} takes 0 (best) to {codec.crf}")
        options["crf"] = str(crf)
    return options


def check_encoder(name: str, title: str) -> None:
    """Refuse an encoder that this build of FFmpeg lacks."""
    av: Any = load_av()
    try:
        av.codec.Codec(name, "w")
    except (av.FFmpegError, ValueError):
        raise VideoError(
            f"this FFmpeg was built without {name}, which {title} needs; install PyAV's own wheels "
            "(pip install --force-reinstall av), or choose another format"
        ) from None
