"""Which frames of a video are wanted: from one time or frame to another, every Nth."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING

from birefnet.imaging.values import Position, parse_position
from birefnet.video.errors import VideoError

if TYPE_CHECKING:
    from birefnet.video.source import RawFrame, VideoSource


@dataclass(frozen=True)
class Clip:
    """From `start` (included) to `end` (excluded), every `stride`-th frame."""

    start: Position | None = None
    end: Position | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        if self.stride < 1:
            raise VideoError(f"stride is {self.stride}; give 1 (every frame) or more")
        for unit in ("seconds", "frame"):
            first, last = getattr(self.start, unit, None), getattr(self.end, unit, None)
            if last is not None and last <= (first or 0):
                raise VideoError("the end does not lie after the start; nothing would be left")

    @classmethod
    def of(
        cls,
        start: str | float | Position | None = None,
        end: str | float | Position | None = None,
        stride: int = 1,
    ) -> Clip:
        return cls(
            None if start is None else parse_position(start),
            None if end is None else parse_position(end),
            stride,
        )

    @property
    def counts_frames(self) -> bool:
        """Whether frames must be counted from the very beginning, so that nothing can be sought."""
        return any(position and position.frame is not None for position in (self.start, self.end))

    def expected(self, frames: int | None, rate: Fraction | None) -> int | None:
        """About how many frames there will be, of a video of so many at this rate."""

        def number(position: Position | None, otherwise: int | None) -> int | None:
            if position is None:
                return otherwise
            if position.frame is not None:
                return position.frame
            assert position.seconds is not None
            return None if rate is None else -int(-position.seconds * rate // 1)

        first, last = number(self.start, 0), number(self.end, frames)
        if last is None or first is None:
            return None
        last = last if frames is None else min(last, frames)
        return max(0, -(-(last - first) // self.stride))


def pick(source: VideoSource, clip: Clip, after: int | None = None) -> Iterator[RawFrame]:
    """The wanted frames, not converted yet, each lasting until the next.

    Args:
        source: the video.
        clip: what is wanted of it.
        after: go on behind the wanted frame with this time stamp.

    Raises:
        VideoError: the source breaks off; after the last frame that it has.
    """
    waiting: RawFrame | None = None
    broken: VideoError | None = None
    try:
        for frame in _wanted(source, clip, after):
            if waiting is not None:
                waiting.duration = frame.pts - waiting.pts
                yield waiting
            waiting = frame
    except VideoError as error:
        broken = error  # the frame before it is whole
    if waiting is not None:
        # The last frame was not followed by a wanted one: with a stride it stands for more.
        waiting.duration = max(1, waiting.duration) * clip.stride
        yield waiting
    if broken is not None:
        raise broken


def _wanted(source: VideoSource, clip: Clip, after: int | None) -> Iterator[RawFrame]:
    start = _ticks(source, clip.start)
    end = _ticks(source, clip.end)
    target = start if after is None else after
    phase = 0
    for number, frame in enumerate(source.raw(None if clip.counts_frames else target)):
        if clip.start and clip.start.frame is not None and number < clip.start.frame:
            continue
        if start is not None and frame.pts < start:
            continue
        if clip.end and clip.end.frame is not None and number >= clip.end.frame:
            return
        if end is not None and frame.pts >= end:
            return
        if after is not None and frame.pts < after:
            continue
        if after is not None and frame.pts == after:
            phase = 1
            continue
        if phase % clip.stride == 0:
            yield frame
        phase += 1


def _ticks(source: VideoSource, position: Position | None) -> int | None:
    """The first time stamp at or behind a time."""
    if position is None or position.seconds is None:
        return None
    info = source.info
    return info.zero - int(-position.seconds / info.time_base // 1)
