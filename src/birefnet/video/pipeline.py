"""From mattes to files: rendered by some threads, coded by another, in segments."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

from birefnet.imaging.picture import Picture, Pixels
from birefnet.video.clip import Clip, pick
from birefnet.video.encode import FrameWriter, MovieWriter, OutputFormat, PictureWriter
from birefnet.video.errors import VideoError
from birefnet.video.frames import Frame
from birefnet.video.opening import open_source
from birefnet.video.segments import Segment, Workplace
from birefnet.video.settings import Settings, Target
from birefnet.video.source import RawFrame

if TYPE_CHECKING:
    from birefnet.imaging.values import Kind
    from birefnet.matte import Matte

SEGMENT_FRAMES = 240  # a crash costs that many at most,
SEGMENT_SECONDS = 60  # or what was done in this time
_RENDERERS = 2  # threads that refine and compose
_WAITING = 6  # frames between the network and the encoder, at most


@dataclass(frozen=True)
class OutputPlan:
    """The files to write, and how: the same for all frames.

    Attributes:
        targets: the files to write.
        output_formats: how, one for each.
        settings: the options.
        workplace: where the parts go.
        begin: time in the source that becomes 0 [s]; None for that of the first frame.
    """

    targets: list[Target]
    output_formats: list[OutputFormat]
    settings: Settings
    workplace: Workplace
    begin: Fraction | None


class Segments:
    """Writes frames into segment after segment."""

    def __init__(self, plan: OutputPlan) -> None:
        self._plan = plan
        self._writers: list[FrameWriter] = []
        self._pts: list[int] = []
        self._end = 0
        self._since = 0.0

    def write(self, frame: Frame, rendered: list[Pixels]) -> None:
        if not self._writers:
            self._writers = [
                self._writer(number, target) for number, target in enumerate(self._plan.targets)
            ]
            self._since = time.monotonic()
        for writer, pixels in zip(self._writers, rendered, strict=True):
            writer.write(pixels, frame.pts)
        self._pts.append(frame.pts)
        self._end = frame.pts + frame.duration
        is_late = time.monotonic() - self._since > SEGMENT_SECONDS
        if len(self._pts) >= SEGMENT_FRAMES or is_late:
            self.close()

    def close(self) -> None:
        """Finish the segment at hand, if one is begun."""
        if not self._writers:
            return
        for writer in self._writers:
            writer.close(self._end)
        workplace = self._plan.workplace
        reorder = [writer.reorder for writer in self._writers]
        workplace.add(Segment(len(workplace.finished), self._pts, self._end, reorder))
        self._writers, self._pts = [], []

    def discard(self) -> None:
        for writer in self._writers:
            writer.discard()
        self._writers = []

    def _writer(self, number: int, target: Target) -> FrameWriter:
        workplace = self._plan.workplace
        if target.codec is not None:
            path = workplace.path(len(workplace.finished), number, target.suffix)
            return MovieWriter(
                path, target.format, target.codec, target.options, self._plan.output_formats[number]
            )
        folder = target.path
        if target.format.name != "png":
            folder = workplace.path(0, number, "") / "frames"
        return PictureWriter(folder, workplace.frames + 1, target.bits)


class Line:
    """From mattes to encoded frames: rendered by some threads, written in order by one."""

    def __init__(self, segments: Segments) -> None:
        self._segments = segments
        self._plan = segments._plan
        self._movies = [
            MovieBackground(target.movie) if target.movie else None for target in self._plan.targets
        ]
        self._renderers = ThreadPoolExecutor(_RENDERERS, thread_name_prefix="birefnet-render")
        self._encoder = ThreadPoolExecutor(1, thread_name_prefix="birefnet-encode")
        self._pending: deque[Future[None]] = deque()
        self._begin = self._plan.begin

    def __enter__(self) -> Line:
        return self

    def __exit__(self, *_: object) -> None:
        """After an error the segment at hand is given up; `finish` has emptied it otherwise."""
        self._renderers.shutdown(cancel_futures=True)
        self._encoder.shutdown(cancel_futures=True)
        self._segments.discard()
        for movie in filter(None, self._movies):
            movie.close()

    def put(self, frame: Frame, matte: Matte) -> None:
        if self._begin is None:
            self._begin = frame.time
        shown = frame.time - self._begin
        backgrounds = [movie.at(shown) if movie else None for movie in self._movies]
        rendered = self._renderers.submit(self._render, matte, backgrounds)
        self._pending.append(
            self._encoder.submit(lambda: self._segments.write(frame, rendered.result()))
        )
        if len(self._pending) > _WAITING:
            self._pending.popleft().result()

    def finish(self) -> None:
        """Write what is under way, and close the segment."""
        while self._pending:
            self._pending.popleft().result()
        self._encoder.submit(self._segments.close).result()

    def _render(self, matte: Matte, backgrounds: list[Picture | None]) -> list[Pixels]:
        options = self._plan.settings.options
        matte = matte.adjusted(
            offset=options.mask_offset, blur=options.mask_blur, threshold=options.threshold
        )
        return [
            matte.render(
                cast("Kind", target.kind),
                background=target.background if movie is None else movie,
                refine=options.refine,
            )
            for target, movie in zip(self._plan.targets, backgrounds, strict=True)
        ]


class MovieBackground:
    """Frames of a video by time, which must not go back; it begins again when it is over."""

    def __init__(self, path: Path) -> None:
        self._source = open_source(path, deep=False)
        self._frames = self._start()
        self._begin = Fraction(0)  # when this round began [s]
        self._current = self._next()
        if self._current is None:
            raise VideoError(f"the background {path} has no frames")
        self._picture: Picture | None = None

    def at(self, time: Fraction) -> Picture:
        """The picture at `time` [s]."""
        while self._end <= time:
            following = self._next()
            if following is None:
                self._begin = self._end
                self._frames = self._start()
                following = self._next()
                assert following is not None
            self._current, self._picture = following, None
        if self._picture is None:
            assert self._current is not None
            self._picture = self._current.convert()
        return self._picture

    def close(self) -> None:
        self._source.close()

    @property
    def _end(self) -> Fraction:
        """When the current frame is over [s]."""
        assert self._current is not None
        info = self._source.info
        until = self._current.pts + self._current.duration - info.zero
        return self._begin + until * info.time_base

    def _start(self) -> Iterator[RawFrame]:
        return pick(self._source, Clip())

    def _next(self) -> RawFrame | None:
        return next(self._frames, None)
