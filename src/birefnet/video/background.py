"""A video behind the subject: at each time the frame that it shows then, again and again."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

from birefnet.imaging.picture import Picture
from birefnet.video.clip import Clip, pick
from birefnet.video.errors import VideoError
from birefnet.video.opening import open_source
from birefnet.video.source import RawFrame


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
