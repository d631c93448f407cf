"""Video files through FFmpeg: upright RGB frames with their exact time stamps."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from birefnet.errors import counted
from birefnet.imaging.picture import Picture, Pixels, to_float
from birefnet.video.colour import ColourSpace, to_rgb
from birefnet.video.errors import VideoError, load_av, reading_failed, reason
from birefnet.video.source import RawFrame, VideoInfo, ffmpeg_url

if TYPE_CHECKING:
    from av import Packet, VideoFrame, VideoStream
    from av.container import InputContainer

# FFmpeg's own decoders of these leave the alpha out; libvpx's bring it.
_ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
# A file that ends earlier than it says by more than this [s] is cut off.
_MISSING = Fraction(1, 4)


class FileSource:
    """A file, URL or camera.

    Args:
        source: a path or address; with `format`, what that device calls itself.
        format: input device of a camera; None finds the container's format.
        is_live: a camera.
        name: for messages.
        deep: give uint16 where a channel has more than 8 bits.
    """

    def __init__(
        self,
        source: str,
        *,
        format: str | None = None,
        is_live: bool = False,
        name: str | None = None,
        deep: bool = True,
    ) -> None:
        self._source, self._format = source, format
        self.name = name or source
        self.damage: str | None = None
        self._reader = _Reader(self._open(), self.name)
        # The first frame tells what no header does: colours, rotation, the size after it.
        self._first = self._reader.first(self.name)
        self._deep = deep and max(part.bits for part in self._first.format.components) > 8
        self.info = self._describe(is_live)

    def raw(self, target: int | None = None) -> Iterator[RawFrame]:
        frames = self._sought(target) if target is not None else None
        if frames is None:
            frames = self._from_beginning()
        previous: int | None = None
        step = self._step()
        end = None
        for frame in self._explained(frames):
            pts = frame.pts
            if pts is None:
                pts = self.info.zero if previous is None else previous + step
            if previous is not None and pts <= previous:
                pts = previous + 1  # broken stamps must not go back in time
            previous = pts
            duration = int(frame.duration or 0) or step
            end = pts + duration
            yield RawFrame(pts, duration, partial(self._convert, frame))
        self._check_end(end)

    def close(self) -> None:
        self._reader.container.close()

    def _open(self) -> InputContainer:
        av = load_av()
        try:
            source = self._source if self._format else ffmpeg_url(self._source)
            container: InputContainer = av.open(
                source, "r", format=self._format, metadata_errors="replace"
            )
        except (av.FFmpegError, OSError, ValueError) as error:
            raise reading_failed(error, self.name) from error
        if not _video_streams(container):
            container.close()
            raise VideoError(
                f"{self.name} has no video stream, only sound or data, or it is cut off; give a "
                "whole video"
            )
        return container

    def _describe(self, is_live: bool) -> VideoInfo:
        reader, first = self._reader, self._first
        stream = reader.stream
        try:
            colour = ColourSpace.of_frame(first)
        except VideoError as error:
            raise VideoError(f"{self.name}: {error}") from None
        self._turn = _orientation(first)
        height, width = (first.height, first.width)
        aspect = stream.sample_aspect_ratio or Fraction(1)  # the container's before the codec's
        if self._turn.transposes:
            height, width, aspect = width, height, 1 / aspect
        rate = stream.average_rate or stream.guessed_rate
        duration = _declared_duration(stream)
        if duration is None and reader.container.duration:
            duration = Fraction(reader.container.duration, 1_000_000)
        frames = stream.frames or (
            int(duration * rate + Fraction(1, 2)) if duration and rate else None
        )
        return VideoInfo(
            name=self.name,
            width=width,
            height=height,
            time_base=stream.time_base,
            zero=_zero(reader.container, stream, first),
            rate=rate,
            frames=None if is_live else frames,
            colour=colour,
            bits=16 if self._deep else 8,
            has_alpha=_has_alpha(first),
            pixel_aspect=aspect,
            codec=stream.codec_context.name,
            is_live=is_live,
            has_audio=bool(reader.container.streams.audio),
        )

    def _from_beginning(self) -> Iterator[VideoFrame]:
        if self._reader.is_used:
            self._reader.container.close()
            self._reader = _Reader(self._open(), self.name)
        return self._reader.frames()

    def _sought(self, target: int) -> Iterator[VideoFrame] | None:
        """Frames from a key frame at or before the stamp; None if the file cannot do that."""
        import av

        self._reader.container.close()
        self._reader = reader = _Reader(self._open(), self.name)
        try:
            reader.container.seek(target, stream=reader.stream, backward=True)
        except av.FFmpegError:
            return None
        reader.is_used = True
        frames = reader.frames()
        first = next(frames, None)
        if first is None or first.pts is None or first.pts > target:
            return None

        def all_frames() -> Iterator[VideoFrame]:
            yield first
            yield from frames

        return all_frames()

    def _explained(self, frames: Iterator[VideoFrame]) -> Iterator[VideoFrame]:
        import av

        try:
            yield from frames
        except (av.FFmpegError, OSError) as error:
            raise VideoError(f"{self.name} cannot be read further: {reason(error)}") from error

    def _step(self) -> int:
        """The usual duration of a frame."""
        rate = self.info.rate
        return max(1, round(1 / (rate * self.info.time_base))) if rate else 1

    def _check_end(self, end: int | None) -> None:
        """Raise where frames are missing that the file says it has."""
        damaged = self._reader.damaged
        if damaged:
            self.damage = f"left out {counted(damaged, 'damaged packet')}"
        if self.info.is_live or end is None:
            return
        stream = self._reader.stream
        declared = _declared_duration(stream)
        if declared is None:
            return
        begin = stream.start_time if stream.start_time is not None else self.info.zero
        if _declares_end(self._reader.container, stream):
            begin = min(begin, 0)
        seconds = (end - begin) * self.info.time_base
        if seconds + _MISSING < declared:
            raise VideoError(
                f"{self.name} breaks off after {float(seconds):.2f} of {float(declared):.2f} s; "
                "the file is cut short or damaged"
            )

    def _convert(self, frame: VideoFrame) -> Picture:
        try:
            pixels = to_rgb(frame, self.info.colour, deep=self._deep, alpha=self.info.has_alpha)
        except Exception as error:
            raise VideoError(f"cannot convert the colours of {self.name}: {error}") from error
        pixels = self._turn.apply(pixels)
        if pixels.shape[:2] != (self.info.height, self.info.width):
            raise VideoError(
                f"{self.name} changes its size to {pixels.shape[1]} x {pixels.shape[0]} on "
                "the way; cut it there and do the parts one by one"
            )
        alpha = None
        if self.info.has_alpha:
            alpha = to_float(pixels[..., 3])
            pixels = np.ascontiguousarray(pixels[..., :3])
        return Picture(pixels, alpha, name=self.name)


class _Reader:
    """One pass over an opened file."""

    def __init__(self, container: InputContainer, name: str) -> None:
        import av

        self.container = container
        self.stream: Any = _video_streams(container)[0]
        self.is_used = False
        self.damaged = 0
        self._first: VideoFrame | None = None
        self._packets = container.demux(self.stream)
        self._frames = self._decoded()
        context = self.stream.codec_context
        if context is None:
            raise VideoError(f"{name} is coded in a way that this FFmpeg cannot decode")
        self._decoder: Any = context
        special = _ALPHA_DECODERS.get(context.name)
        if special and self.stream.metadata.get("alpha_mode") == "1":
            try:
                self._decoder = av.CodecContext.create(special, "r")
            except (av.FFmpegError, ValueError) as error:
                raise VideoError(
                    f"the alpha of {name} needs FFmpeg's {special}, which this build lacks"
                ) from error
            self._decoder.extradata = context.extradata
        self._decoder.thread_type = "AUTO"

    def first(self, name: str) -> VideoFrame:
        """The first frame, which `frames` gives again."""
        import av

        stopped: BaseException | None = None
        try:
            frame = next(self._frames, None)
        except av.FFmpegError as error:
            frame, stopped = None, error
        if frame is None:
            because = f" ({reason(stopped)})" if stopped else ""
            raise VideoError(f"{name} has no frame that can be decoded{because}")
        self._first = frame
        return frame

    def frames(self) -> Iterator[VideoFrame]:
        self.is_used = True
        if self._first is not None:
            yield self._first
            self._first = None
        yield from self._frames

    def _decoded(self) -> Iterator[VideoFrame]:
        for packet in self._packets:
            yield from self._decode(packet)

    def _decode(self, packet: Packet) -> list[VideoFrame]:
        import av

        try:
            if self._decoder is self.stream.codec_context:
                return self._decoder.decode(packet)
            return self._decoder.decode(packet if packet.size else None)
        except av.error.InvalidDataError:
            self.damaged += 1  # players go on, too
            return []
        except EOFError:
            return []


class _Turn:
    """One of the eight ways to turn and mirror a picture along its axes."""

    def __init__(self, transposes: bool, flips_rows: bool, flips_columns: bool) -> None:
        self.transposes = transposes
        self._rows = slice(None, None, -1 if flips_rows else None)
        self._columns = slice(None, None, -1 if flips_columns else None)

    def apply(self, pixels: Pixels) -> Pixels:
        if self.transposes:
            pixels = pixels.swapaxes(0, 1)
        return np.ascontiguousarray(pixels[self._rows, self._columns])


def _orientation(frame: VideoFrame) -> _Turn:
    """How the display matrix of a frame (ISO/IEC 14496-12, 8.3.2) wants it turned.

    The matrix sends column x and row y to x' = a x + c y, y' = b x + d y.
    """
    side: Any = frame.side_data.get("DISPLAYMATRIX")
    if side is None:
        return _Turn(False, False, False)
    a, b, _, c, d = np.frombuffer(side, np.int32)[:5].tolist()
    if abs(a) + abs(d) >= abs(b) + abs(c):
        return _Turn(False, flips_rows=d < 0, flips_columns=a < 0)
    return _Turn(True, flips_rows=b < 0, flips_columns=c < 0)


def _video_streams(container: InputContainer) -> list[VideoStream]:
    """Moving pictures first; the cover of an album is none at all."""
    return [
        stream
        for stream in container.streams.video
        if not int(stream.disposition) & int(stream.disposition.attached_pic)
    ]


def _has_alpha(frame: VideoFrame) -> bool:
    is_indexed = frame.format.name == "pal8"  # its palette may hold transparent colours
    return is_indexed or any(part.is_alpha for part in frame.format.components)


def _declared_duration(stream: Any) -> Fraction | None:
    """How long the file says that this stream is [s]."""
    if stream.duration:
        return Fraction(stream.duration * stream.time_base)
    text = stream.metadata.get("DURATION", "")  # Matroska's statistics
    try:
        hours, minutes, seconds = text.split(":")
        return 3600 * int(hours) + 60 * int(minutes) + Fraction(seconds)
    except ValueError:
        return None


def _declares_end(container: InputContainer, stream: Any) -> bool:
    """Whether the declared duration is the time of the end, wherever the first frame stands.

    So it is in ASF, and in Matroska but for mkvmerge's statistics.
    """
    is_such = container.format.name in ("matroska,webm", "asf")
    return is_such and "_STATISTICS_TAGS" not in stream.metadata


def _zero(container: InputContainer, stream: Any, first: VideoFrame) -> int:
    """The time stamp where the file begins: that of its earliest stream, if above 0.

    Recordings of broadcasts begin anywhere. Sound that begins before 0 (the lead-in of AAC and
    Opus) moves nothing.
    """
    start = container.start_time
    earliest = stream.start_time if stream.start_time is not None else first.pts
    if earliest is None or start is None or start <= 0:
        return 0
    ticks = round(Fraction(start, 1_000_000) / stream.time_base)
    # Microseconds may round to a neighbour of the video's own first stamp.
    return int(earliest) if abs(ticks - earliest) <= 1 else min(ticks, int(earliest))
