"""Finished segments into one file: packets are copied, their time stamps made absolute again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from heapq import merge
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birefnet.errors import counted
from birefnet.files import replace_file, write_atomic
from birefnet.imaging.encoding import encode_animation
from birefnet.imaging.io import decode
from birefnet.imaging.picture import Alpha, Pixels
from birefnet.video.aspect import TITLE, write_pixel_aspect
from birefnet.video.audio import Sound
from birefnet.video.encode import muxer_options, sync
from birefnet.video.errors import VideoError, load_av, writing_failed
from birefnet.video.formats import Format, frame_path
from birefnet.video.segments import Segment
from birefnet.video.source import ffmpeg_url

if TYPE_CHECKING:
    from av import Packet

_WEBP_QUALITY: dict[str, dict[str, Any]] = {
    "low": {"quality": 50},
    "medium": {"quality": 75},
    "high": {"quality": 90},
    "maximum": {"lossless": True},
}
_SHORTEST_MS = {"gif": 20}  # browsers show shorter frames of a GIF for 100 ms


def join_movie(
    parts: list[Path],
    segments: list[Segment],
    target: Path,
    temporary: Path,
    format: Format,
    time_base: Fraction,
    stamps: list[int],
    *,
    reorder: int,
    sound: Sound | None,
    has_alpha: bool,
    pixel_aspect: Fraction = Fraction(1),
) -> list[str]:
    """Write `target` from its parts and the sound; returns notes on the sound.

    Args:
        parts: files of the segments, in order.
        segments: their records.
        target: the result.
        temporary: written first, on the same file system, and renamed.
        format: of all of them.
        time_base: of the time stamps that are written.
        stamps: of all frames, and the end.
        reorder: the largest of the segments.
        sound: to be taken along.
        has_alpha: whether the frames are transparent.
        pixel_aspect: width of a pixel by its height.
    """
    av = load_av()
    try:
        options = muxer_options(format, time_base)
        with av.open(
            ffmpeg_url(str(temporary)), "w", format=format.name, options=options
        ) as container:
            stream = None
            notes: list[str] = []
            video = _video_packets(parts, segments, stamps, reorder)
            first = next(video)
            stream = container.add_stream_from_template(first.stream)
            if has_alpha and format.name == "webm":
                stream.pix_fmt = "yuva420p"  # FFmpeg's own decoder takes it for opaque
            stream.time_base = time_base
            if pixel_aspect != 1 and format.name == "webm":
                stream.metadata["title"] = TITLE
            if sound is not None:
                notes = sound.add_streams(container)
            heard = sound.packets() if sound is not None else iter(())
            for packet in merge(chain([first], video), heard, key=_time):
                if packet.stream.type == "video":
                    packet.stream = stream
                container.mux(packet)
        if pixel_aspect != 1:
            write_pixel_aspect(temporary, format.name, pixel_aspect)
        sync(temporary)
        replace_file(temporary, target)
    except (av.FFmpegError, OSError) as error:
        raise writing_failed(error, target) from error
    finally:
        temporary.unlink(missing_ok=True)
    return notes


def join_animation(
    frames: Path, target: Path, format: Format, quality: str, stamps: list[int], *, plays: int = 0
) -> list[str]:
    """Write an animated picture from numbered PNGs; returns notes on frames left out.

    It is shown `plays` times, 0 for ever. Durations are differences of rounded times, so that
    nothing adds up.
    """
    ticks = format.ticks
    assert ticks is not None
    milliseconds = int(1000 * ticks)
    shortest = _SHORTEST_MS.get(format.name, 1)
    chosen: list[int] = []
    for number, time in enumerate(stamps[:-1]):
        if not chosen or (time - stamps[chosen[-1]]) * milliseconds >= shortest:
            chosen.append(number)

    def pictures() -> Iterator[tuple[Pixels, Alpha | None, int]]:
        for index, number in enumerate(chosen):
            until = stamps[chosen[index + 1]] if index + 1 < len(chosen) else stamps[-1]
            picture = decode(frame_path(frames, number + 1))
            yield picture.pixels, picture.alpha, (until - stamps[number]) * milliseconds

    options = _WEBP_QUALITY[quality] if format.name == "webp" else {}
    data = encode_animation(pictures(), format=format.name, loop=plays, **options)
    try:
        write_atomic(target, data)
    except OSError as error:
        raise writing_failed(error, target) from error
    left_out = len(stamps) - 1 - len(chosen)
    if not left_out:
        return []
    return [
        f"left out {counted(left_out, 'frame')}: {format.title} shows at most {1000 // shortest} "
        "a second"
    ]


def _video_packets(
    parts: list[Path], segments: list[Segment], shown: list[int], reorder: int
) -> Iterator[Packet]:
    """Packets of all segments in order of coding, with absolute time stamps.

    A frame is decoded before it is shown, by at most `reorder` frames: packet i gets the time at
    which frame i - `reorder` is shown as its decoding time, which rises over the seams.
    """
    av = load_av()
    step = shown[1] - shown[0]
    begin = index = 0
    for part, segment in zip(parts, segments, strict=True):
        with av.open(ffmpeg_url(str(part)), "r") as container:
            stream = container.streams.video[0]
            index_of = {
                shown[begin + number] - shown[begin]: begin + number
                for number in range(len(segment.pts))
            }
            for packet in container.demux(stream):
                if packet.dts is None:
                    continue
                shows = index_of.get(packet.pts) if reorder else index
                if shows is None or shows + 1 >= len(shown):
                    raise VideoError(f"{part} does not hold what its record says; restart")
                packet.pts = shown[shows]
                packet.duration = shown[shows + 1] - shown[shows]
                decoded = index - reorder
                packet.dts = shown[decoded] if decoded >= 0 else shown[0] + decoded * step
                index += 1
                if index == len(shown) - 1:
                    _reach_end(packet, shown[-1] - reorder * step, shown[-1])
                yield packet
        begin += len(segment.pts)


def _reach_end(packet: Any, least: int, end: int) -> None:
    """Let the last packet's decoding last until `least`.

    MP4 takes the length from decoding times, which lag behind; uneven frames could cut the end.
    """
    decoded = max(packet.dts, least - packet.duration)
    if decoded > packet.pts:
        decoded, packet.duration = packet.pts, end - packet.pts
    packet.dts = decoded


def _time(packet: Any) -> Fraction:
    return packet.dts * packet.time_base


def write_times(output: Path, stamps: list[int], time_base: Fraction) -> None:
    """`timestamps.txt` beside numbered pictures: the times of the frames and of the end [ms].

    The format is mkvmerge's "timestamp format v2", which most tools take.
    """
    lines = [f"{float(1000 * stamp * time_base):.6f}" for stamp in stamps]
    text = "\n".join(["# timestamp format v2", *lines, ""])
    path = frame_path(output, 1).with_name("timestamps.txt")
    try:
        write_atomic(path, text.encode())
    except OSError as error:
        raise writing_failed(error, path) from error
