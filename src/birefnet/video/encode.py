"""Frames into files: a movie by FFmpeg, or numbered PNG pictures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import cv2
import numpy as np

from birefnet.files import write_atomic
from birefnet.imaging.encoding import encode
from birefnet.imaging.picture import Pixels
from birefnet.video.colour import ColourSpace, from_rgb
from birefnet.video.errors import load_av, writing_failed
from birefnet.video.formats import Codec, Format, frame_path
from birefnet.video.source import ffmpeg_url

if TYPE_CHECKING:
    from av import VideoFrame


@dataclass(frozen=True)
class OutputFormat:
    """The properties that all frames of one output share.

    Attributes:
        time_base: of the time stamps that are written.
        source_time_base: of those that come.
        rate: average frames per second, for players that ask.
        colour: how to code the colours.
        pixel_aspect: width of a pixel by its height.
    """

    time_base: Fraction
    source_time_base: Fraction
    rate: Fraction
    colour: ColourSpace
    pixel_aspect: Fraction = Fraction(1)

    def stamps(self, pts: Iterable[int], origin: int) -> Iterator[int]:
        """Time stamps as they are written, counted from `origin`; they rise strictly."""
        scale = self.source_time_base / self.time_base
        last = None
        for value in pts:
            stamp = round((value - origin) * scale)
            last = stamp if last is None else max(stamp, last + 1)
            yield last


class FrameWriter(Protocol):
    """Takes the frames of one segment in order."""

    reorder: int
    """By how many frames the order of coding may differ from that of showing; once closed."""

    def write(self, pixels: Pixels, pts: int) -> None: ...

    def close(self, end: int) -> None:
        """Finish; `end` is when the last frame's time is over."""
        ...

    def discard(self) -> None:
        """Give up: nothing of the segment is needed."""
        ...


class MovieWriter:
    """One segment as a movie of its own, which begins at 0.

    Args:
        path: the file.
        format, codec: what to write.
        options: for the encoder.
        output_format: see `OutputFormat`.
    """

    def __init__(
        self,
        path: Path,
        format: Format,
        codec: Codec,
        options: dict[str, str],
        output_format: OutputFormat,
    ) -> None:
        self.reorder = 0
        self._path, self._codec, self._output_format, self._options = (
            path,
            codec,
            output_format,
            options,
        )
        self._av = load_av()
        self._stream: Any = None
        self._shown: list[int] = []
        self._coded = 0
        with self._explained():
            self._container = self._av.open(
                ffmpeg_url(str(path)),
                "w",
                format=format.name,
                options=muxer_options(format, output_format.time_base),
            )

    def write(self, pixels: Pixels, pts: int) -> None:
        if self._codec.even:
            pixels = pad_to_even(pixels)
        frame = from_rgb(pixels, self._codec.pixel_format, self._output_format.colour)
        if self._stream is None:
            self._open(frame)
            self._begin = pts
        frame.pts = self._stamp(pts)
        frame.time_base = self._output_format.time_base
        self._shown.append(frame.pts)
        self._mux(frame)

    def close(self, end: int) -> None:
        self._last = self._stamp(end)
        self._mux(None)
        with self._explained():
            self._container.close()
            sync(self._path)

    def discard(self) -> None:
        with suppress(self._av.FFmpegError, OSError):
            self._container.close()
        self._path.unlink(missing_ok=True)

    def _stamp(self, pts: int) -> int:
        output_format = self._output_format
        stamp = round(
            (pts - self._begin) * output_format.source_time_base / output_format.time_base
        )
        return max(stamp, self._shown[-1] + 1) if self._shown else stamp

    def _open(self, frame: VideoFrame) -> None:
        output_format, av = self._output_format, self._av
        self._stream = stream = self._container.add_stream(
            self._codec.encoder, rate=output_format.rate, options=self._options
        )
        stream.width, stream.height = frame.width, frame.height
        stream.pix_fmt = self._codec.pixel_format
        stream.time_base = output_format.time_base
        context = stream.codec_context
        context.time_base = output_format.time_base
        context.sample_aspect_ratio = output_format.pixel_aspect
        context.colorspace, context.color_range = frame.colorspace, frame.color_range
        context.color_primaries, context.color_trc = frame.color_primaries, frame.color_trc
        context.thread_type = "AUTO"
        with self._explained():
            try:
                context.open()
            except av.FFmpegError as error:
                raise writing_failed(error, self._path) from error

    def _mux(self, frame: VideoFrame | None) -> None:
        with self._explained():
            for packet in self._stream.encode(frame):
                rank = int(np.searchsorted(self._shown, packet.pts))
                self.reorder = max(self.reorder, self._coded - rank)
                self._coded += 1
                following = self._shown[rank + 1] if rank + 1 < len(self._shown) else None
                if following is None and frame is None:
                    following = self._last
                if following is not None:
                    packet.duration = following - self._shown[rank]
                self._container.mux(packet)

    def _explained(self) -> _Explained:
        return _Explained(self._path)


class PictureWriter:
    """Numbered PNG pictures, each whole or not there.

    Args:
        output: folder or pattern, see `frame_path`.
        first: number of the segment's first frame, counted from 1.
        bits: of a channel.
    """

    reorder = 0

    def __init__(self, output: Path, first: int, bits: int) -> None:
        self._output, self._number, self._bits = output, first, bits
        with _Explained(output):
            frame_path(output, first).parent.mkdir(parents=True, exist_ok=True)

    def write(self, pixels: Pixels, pts: int) -> None:
        deep = self._bits == 16 and pixels.dtype == np.uint16
        has_alpha = pixels.ndim == 3 and pixels.shape[2] == 4
        data = encode(
            pixels[..., :3] if has_alpha else pixels,
            pixels[..., 3] if has_alpha else None,
            format="png",
            bits=16 if deep else 8,
        )
        path = frame_path(self._output, self._number)
        with _Explained(path):
            write_atomic(path, data)
        self._number += 1

    def close(self, end: int) -> None:
        pass

    def discard(self) -> None:
        pass


class _Explained:
    """Turns failures of writing into one sentence."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if isinstance(error, (load_av().FFmpegError, OSError)):
            raise writing_failed(error, self._path) from error


def sync(path: Path) -> None:
    """Wait until a file is on the disk, so that what is said to be finished survives a crash."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def muxer_options(format: Format, time_base: Fraction) -> dict[str, str]:
    """Time stamps of MP4 and MOV in units of our own, so that none is rounded."""
    options = dict(format.options)
    if format.ticks is None:
        options["video_track_timescale"] = str(time_base.denominator)
    return options


def written_time_base(format: Format, time_base: Fraction) -> Fraction:
    """Units of time stamps in a file of this format: the source's where it can hold them."""
    return format.ticks or Fraction(1, time_base.denominator)


def pad_to_even(pixels: Pixels) -> Pixels:
    """Both sides even, by repeating the last row or column."""
    bottom, right = pixels.shape[0] % 2, pixels.shape[1] % 2
    if not bottom and not right:
        return pixels
    return cv2.copyMakeBorder(pixels, 0, bottom, 0, right, cv2.BORDER_REPLICATE)
