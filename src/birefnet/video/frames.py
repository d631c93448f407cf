"""Frames with their mattes: the part of the work that is of use without writing a video."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any

from birefnet.imaging.picture import Picture
from birefnet.inference.stabilise import stabilise
from birefnet.video.clip import Clip, pick
from birefnet.video.source import VideoSource

if TYPE_CHECKING:
    from birefnet.imaging.values import Resolution
    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Matte

AHEAD = 4  # frames that are decoded before they are needed


@dataclass(frozen=True, eq=False)
class Frame:
    """One frame of a video.

    Attributes:
        pts: when it is shown, in units of the source's time base, `VideoInfo.time_base`.
        duration: until the next frame that is used, in the same units.
        time: when it is shown, from the beginning of the source [s].
        picture: its pixels.
    """

    pts: int
    duration: int
    time: Fraction
    picture: Picture


def decoded(
    source: VideoSource, clip: Clip, after: int | None = None
) -> Generator[Frame, None, None]:
    """The wanted frames, converted in a thread of their own, a few ahead.

    Args:
        source: the video.
        clip: what is wanted of it.
        after: go on behind the frame with this time stamp.
    """
    info = source.info

    def frames() -> Iterator[Frame]:
        for raw in pick(source, clip, after):
            time = (raw.pts - info.zero) * info.time_base
            yield Frame(raw.pts, raw.duration, time, raw.convert())

    return _ahead(frames(), AHEAD)


def matted(
    frames: Iterable[Frame],
    predictor: Predictor,
    *,
    resolution: Resolution | None = None,
    batch_size: int | None = None,
    steady: bool = False,
) -> Iterator[tuple[Frame, Matte]]:
    """Each frame with its matte, in order; `steady` compares it with its neighbours."""
    waiting: deque[Frame] = deque()

    def pictures() -> Iterator[Picture]:
        for frame in frames:
            waiting.append(frame)
            yield frame.picture

    mattes = predictor.predict(pictures(), resolution=resolution, batch_size=batch_size)
    return ((waiting.popleft(), matte) for matte in (stabilise(mattes) if steady else mattes))


def _ahead(items: Iterator[Frame], count: int) -> Generator[Frame, None, None]:
    """The same items, made in a thread that is `count` ahead at most."""
    line: queue.Queue[Any] = queue.Queue(count)
    stopped = threading.Event()
    end = object()

    def put(item: object) -> bool:
        while not stopped.is_set():
            try:
                line.put(item, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def work() -> None:
        try:
            for item in items:
                if not put(item):
                    return
            put(end)
        except BaseException as error:  # for the thread that reads
            put(error)

    thread = threading.Thread(target=work, name="birefnet-video", daemon=True)
    thread.start()
    try:
        while (item := line.get()) is not end:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stopped.set()
        thread.join()
