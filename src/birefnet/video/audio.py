"""Sound on its way from the source into the result: copied where the container takes it."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from birefnet.video.errors import VideoError, load_av, reason
from birefnet.video.formats import Format, check_encoder
from birefnet.video.source import ffmpeg_url

if TYPE_CHECKING:
    from av import AudioStream, Codec, Packet
    from av.container import OutputContainer

_OPUS_RATES = (48000, 24000, 16000, 12000, 8000)
_AAC_RATES = (96000, 88200, 64000, 48000, 44100, 32000, 24000, 22050, 16000, 12000, 11025, 8000)
_BIT_RATE_PER_CHANNEL = 96_000
_LAYOUTS = ("mono", "stereo", "3.0", "quad", "5.0", "5.1", "6.1", "7.1")  # both encoders take them

_TITLES = {"opus": "Opus", "vorbis": "Vorbis", "ac3": "AC-3", "eac3": "E-AC-3"}


class Sound:
    """All sound streams of a file.

    Args:
        source: path or address of the file.
        format: of the result.
        begin: time in the file that becomes 0 [s].
        start, end: sound outside is left out [s]; None for no bound.
    """

    def __init__(
        self,
        source: str,
        format: Format,
        *,
        begin: Fraction,
        start: Fraction | None,
        end: Fraction | None,
    ) -> None:
        self._av = load_av()
        self._begin, self._start, self._end = begin, start, end
        self._format = format
        self._container = self._av.open(ffmpeg_url(source), "r", metadata_errors="replace")
        self._tracks: dict[int, _Track] = {}

    def add_streams(self, container: OutputContainer) -> list[str]:
        """Make a stream in the result for each; says how each is treated."""
        notes = []
        for stream in self._container.streams.audio:
            if stream.codec_context is None:
                notes.append(f"sound stream {stream.index} was left out: its codec is unknown")
                continue
            is_copied = stream.codec.canonical_name in self._format.copied
            track: _Track = (_Copied if is_copied else _Encoded)(
                self._av, stream, container, self._format.sound
            )
            self._tracks[stream.index] = track
            if not is_copied:
                codec = _title(stream.codec)
                notes.append(
                    f"the sound was re-encoded as {_title(track.out.codec)}, because "
                    f"{self._format.title} cannot hold {codec}"
                )
        return notes

    def packets(self) -> Iterator[Packet]:
        """Packets for the result, nearly in order of time.

        Raises:
            VideoError: sound that cannot be decoded or coded.
        """
        try:
            yield from self._packets()
        except self._av.FFmpegError as error:
            raise VideoError(
                f"the sound cannot be kept ({reason(error)}); the frames are kept: resume "
                "without audio"
            ) from error

    def _packets(self) -> Iterator[Packet]:
        streams = [self._container.streams[index] for index in self._tracks]
        if not streams:
            return
        if self._start is not None and self._start > 0:
            lead = max(Fraction(0), self._start - 1)  # decoders need a run-up
            self._container.seek(int(lead * 1_000_000), backward=True)
        over: set[int] = set()
        for packet in self._demuxed(streams):
            track = self._tracks[packet.stream.index]
            if packet.dts is None or packet.stream.index in over:
                continue
            base = packet.time_base
            time = (packet.pts if packet.pts is not None else packet.dts) * base
            if self._end is not None and time >= self._end:
                over.add(packet.stream.index)
                if len(over) == len(streams):
                    break
                continue
            yield from track.take(packet, self._begin, self._start, self._end)
        for track in self._tracks.values():
            yield from track.finish()

    def _demuxed(self, streams: list[AudioStream]) -> Iterator[Packet]:
        try:
            yield from self._container.demux(streams)
        except self._av.error.InvalidDataError:
            return  # the file breaks off, which the frames have shown already

    def close(self) -> None:
        self._container.close()


def _title(codec: Codec) -> str:
    """A codec's name in sentences: AAC, PCM, Opus."""
    name: str = codec.canonical_name
    return _TITLES.get(name) or name.split("_")[0].upper()


class _Track:
    """One stream, and what becomes of its packets."""

    out: Any

    def take(
        self, packet: Any, begin: Fraction, start: Fraction | None, end: Fraction | None
    ) -> Iterator[Packet]:
        raise NotImplementedError

    def finish(self) -> Iterator[Packet]:
        return iter(())


class _Copied(_Track):
    def __init__(
        self, av: Any, stream: Any, container: OutputContainer, encoder: str | None
    ) -> None:
        self.out = container.add_stream_from_template(stream)
        self.out.metadata.pop("DURATION", None)  # of the source

    def take(
        self, packet: Any, begin: Fraction, start: Fraction | None, end: Fraction | None
    ) -> Iterator[Packet]:
        base = packet.time_base
        pts = packet.pts if packet.pts is not None else packet.dts
        if start is not None and (pts + max(1, packet.duration or 0)) * base <= start:
            return
        shift = round(begin / base)
        packet.pts, packet.dts = pts - shift, packet.dts - shift
        packet.stream = self.out
        yield packet


class _Encoded(_Track):
    def __init__(
        self, av: Any, stream: Any, container: OutputContainer, encoder: str | None
    ) -> None:
        assert encoder is not None
        check_encoder(encoder, "the sound")
        self._av = av
        source = stream.codec_context
        rates = _OPUS_RATES if encoder == "libopus" else _AAC_RATES
        rate = next((rate for rate in rates if rate <= source.sample_rate), rates[-1])
        if source.sample_rate > 24000 and encoder == "libopus":
            rate = 48000
        self.out = container.add_stream(encoder, rate=rate)
        context = self.out.codec_context
        context.layout = _LAYOUTS[min(source.layout.nb_channels, len(_LAYOUTS)) - 1]
        context.bit_rate = _BIT_RATE_PER_CHANNEL * context.layout.nb_channels
        context.time_base = Fraction(1, rate)
        if language := stream.metadata.get("language"):
            self.out.metadata["language"] = language
        self._resampler = av.AudioResampler(
            format=context.format, layout=context.layout.name, rate=rate
        )
        self._rate = rate
        self._decoder = source

    def take(
        self, packet: Any, begin: Fraction, start: Fraction | None, end: Fraction | None
    ) -> Iterator[Packet]:
        try:
            frames = self._decoder.decode(packet)
        except self._av.error.InvalidDataError:
            return  # players go on, too
        for frame in frames:
            yield from self._encode(frame, begin, start, end)

    def finish(self) -> Iterator[Packet]:
        for frame in self._resampler.resample(None):
            yield from self.out.encode(frame)
        yield from self.out.encode(None)

    def _encode(
        self, frame: Any, begin: Fraction, start: Fraction | None, end: Fraction | None
    ) -> Iterator[Packet]:
        time = frame.pts * frame.time_base if frame.pts is not None else None
        if time is not None:
            last = time + Fraction(frame.samples, frame.sample_rate)
            if (start is not None and last <= start) or (end is not None and time >= end):
                return
            frame.pts = frame.pts - round(begin / frame.time_base)
        for part in self._resampler.resample(frame):
            yield from self.out.encode(part)
