"""From a video to a video: decode, run the network, render and encode, all at the same time."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING

import birefnet
from birefnet.errors import counted
from birefnet.inference.stabilise import RADIUS
from birefnet.video import join
from birefnet.video.audio import Sound
from birefnet.video.encode import OutputFormat, written_time_base
from birefnet.video.errors import VideoCancelled, VideoError, load_av
from birefnet.video.frames import Frame, decoded, matted
from birefnet.video.opening import open_source
from birefnet.video.pipeline import Line, OutputPlan, Segments
from birefnet.video.segments import Workplace
from birefnet.video.settings import Settings, Target, plan_targets
from birefnet.video.source import VideoSource

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor

_GUESSED_RATE = Fraction(25)


@dataclass(frozen=True)
class Progress:
    """How far it is.

    Attributes:
        frames: done, those of an earlier run included.
        total: about how many there will be; None if unknown.
        seconds: since the start.
        resumed: frames of an earlier run.
    """

    frames: int
    total: int | None
    seconds: float
    resumed: int = 0

    @property
    def rate(self) -> float:
        """Frames per second so far."""
        return (self.frames - self.resumed) / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        if self.total is None or self.rate == 0:
            return None
        return max(0, self.total - self.frames) / self.rate


@dataclass(frozen=True)
class VideoResult:
    """The result of a run.

    Attributes:
        outputs: the files (or folders of pictures).
        frames: in the result.
        duration: of the result [s].
        width, height: of a frame of the source [px].
        seconds: of work.
        resumed: frames that an earlier run had finished.
        notes: what the user may want to know, a sentence each.
    """

    outputs: list[Path]
    frames: int
    duration: float
    width: int
    height: int
    seconds: float
    resumed: int = 0
    notes: list[str] = field(default_factory=list)


Report = Callable[[Progress], object]


def run(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    predictor: Predictor,
    settings: Settings,
    *,
    mask_output: str | os.PathLike[str] | None = None,
    resume: bool | None = None,
    progress: Report | None = None,
    cancel: threading.Event | None = None,
) -> VideoResult:
    """As `birefnet.video.process_video`, with the settings in one."""
    start = time.perf_counter()
    targets = plan_targets(source, output, mask_output, settings)
    deep = any(target.bits == 16 for target in targets)
    with closing(open_source(source, rate=settings.rate, deep=deep)) as video:
        workplace = Workplace(
            targets[0].path,
            _fingerprint(source, targets, predictor, settings),
            resume=False if video.info.is_live else resume,
        )
        try:
            resumed = workplace.frames
            conversion = _Conversion(video, targets, settings, workplace)
            broken = conversion.do_frames(predictor, progress, cancel or threading.Event(), start)
            notes = conversion.join(source)
        except BaseException:
            workplace.release()
            raise
        finished, info = workplace.finished, video.info
        workplace.remove()
        if broken is not None:
            raise VideoError(
                f"{broken}; {targets[0].path} has the {counted(workplace.frames, 'frame')} "
                "before that"
            )
        if video.damage:
            notes.append(f"{info.name}: {video.damage}")
        return VideoResult(
            outputs=[target.path for target in targets],
            frames=workplace.frames,
            duration=float((finished[-1].end - finished[0].pts[0]) * info.time_base),
            width=info.width,
            height=info.height,
            seconds=time.perf_counter() - start,
            resumed=resumed,
            notes=notes,
        )


class _Conversion:
    """One video under way: the frames in segments, then the segments in one file."""

    def __init__(
        self,
        video: VideoSource,
        targets: list[Target],
        settings: Settings,
        workplace: Workplace,
    ) -> None:
        self.video, self.targets, self.settings = video, targets, settings
        self.workplace = workplace
        self.output_formats = [self._output_format(target) for target in targets]

    def do_frames(
        self, predictor: Predictor, progress: Report | None, cancel: threading.Event, start: float
    ) -> VideoError | None:
        """All frames that are not finished yet; gives the error with which the source broke off.

        Raises:
            VideoCancelled: `cancel` was set; the segment at hand is finished, too.
            VideoError: nothing to do, or a result cannot be written.
        """
        broken: list[VideoError] = []
        settings, info = self.settings, self.video.info
        done = [pts for segment in self.workplace.finished for pts in segment.pts]
        # A steady matte depends on its neighbours: those before the first new one come again.
        lead = RADIUS if settings.video.stabilise else 0
        after = done[-1 - lead] if len(done) > lead else None

        raw = decoded(self.video, settings.clip, after)

        def frames() -> Iterator[Frame]:
            try:
                for frame in raw:
                    if info.is_live and cancel.is_set():
                        return
                    yield frame
            except VideoError as error:
                broken.append(error)

        pairs = matted(
            frames(),
            predictor,
            resolution=settings.options.resolution,
            batch_size=settings.options.batch_size,
            steady=settings.video.stabilise,
        )
        total = settings.clip.expected(info.frames, info.rate)
        plan = OutputPlan(
            self.targets, self.output_formats, settings, self.workplace, self._first_time()
        )
        # The decoder's thread must have ended before anybody closes the video.
        with closing(raw), Line(Segments(plan)) as written:
            for number, (frame, matte) in enumerate(pairs, -min(lead, len(done))):
                if cancel.is_set() and not info.is_live:
                    written.finish()
                    raise VideoCancelled(
                        f"stopped after {counted(self.workplace.frames, 'frame')}; kept in "
                        f"{self.workplace.folder}; resume to go on"
                    )
                if number < 0:
                    continue
                written.put(frame, matte)
                if progress is not None:
                    frames_done = len(done) + number + 1
                    seconds = time.perf_counter() - start
                    progress(Progress(frames_done, total, seconds, len(done)))
            written.finish()
        if not self.workplace.finished:
            raise (
                broken[0]
                if broken
                else VideoError(f"{info.name} has no frames between start and end; check both")
            )
        return broken[0] if broken else None

    def _first_time(self) -> Fraction | None:
        """Time in the source that becomes 0 [s]; None if its frame is still to come."""
        if self.settings.clip.start is None:
            return Fraction(0)
        if not self.workplace.finished:
            return None
        info = self.video.info
        return (self.workplace.finished[0].pts[0] - info.zero) * info.time_base

    def join(self, source: str | os.PathLike[str]) -> list[str]:
        """All segments into the results; returns notes."""
        notes: list[str] = []
        segments, info = self.workplace.finished, self.video.info
        pts = [value for segment in segments for value in segment.pts]
        origin = info.zero if self.settings.clip.start is None else pts[0]
        for number, (target, output_format) in enumerate(
            zip(self.targets, self.output_formats, strict=True)
        ):
            stamps = list(output_format.stamps([*pts, segments[-1].end], origin))
            try:
                target.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise VideoError(f"cannot make {target.path.parent}: {error.strerror}") from error
            if target.codec is None:
                if target.format.name != "png":
                    frames = self.workplace.path(0, number, "") / "frames"
                    notes += join.join_animation(
                        frames,
                        target.path,
                        target.format,
                        self.settings.video.quality,
                        stamps,
                        plays=info.plays,
                    )
                else:
                    join.write_times(target.path, stamps, output_format.time_base)
                continue
            with ExitStack() as stack:
                sound = None
                if number == 0 and self.settings.video.audio and _has_sound(self.video):
                    sound = stack.enter_context(closing(self._sound(source, target, origin)))
                notes += join.join_movie(
                    [
                        self.workplace.path(segment.number, number, target.suffix)
                        for segment in segments
                    ],
                    segments,
                    target.path,
                    self.workplace.folder / f"joined{target.suffix}",
                    target.format,
                    output_format.time_base,
                    stamps,
                    reorder=max(segment.reorder[number] for segment in segments),
                    sound=sound,
                    has_alpha=target.has_alpha,
                    pixel_aspect=output_format.pixel_aspect,
                )
        return notes + self._remarks()

    def _sound(self, source: str | os.PathLike[str], target: Target, origin: int) -> Sound:
        clip, info = self.settings.clip, self.video.info
        begin = origin * info.time_base
        end = self.workplace.finished[-1].end * info.time_base
        return Sound(
            os.fspath(source),
            target.format,
            begin=begin,
            start=begin if clip.start is not None else None,
            end=end if clip.end is not None else None,
        )

    def _remarks(self) -> list[str]:
        info, notes = self.video.info, []
        is_odd = info.width % 2 or info.height % 2
        if is_odd and any(target.codec and target.codec.even for target in self.targets):
            even = f"{info.width + info.width % 2} x {info.height + info.height % 2}"
            notes.append(
                f"the frames are {even} pixels instead of {info.width} x {info.height}, because "
                "H.264 needs even numbers: the last row or column is there twice"
            )
        if self.settings.video.audio and _has_sound(self.video) and self.targets[0].codec is None:
            notes.append(f"the sound was left out, because {self.targets[0].format.title} has none")
        squeezed = [target.format.title for target in self.targets if target.codec is None]
        if info.pixel_aspect != 1 and squeezed:
            notes.append(
                f"{squeezed[0]} has only square pixels: show these frames of {info.width} x "
                f"{info.height} {round(info.width * info.pixel_aspect)} pixels wide"
            )
        return notes

    def _output_format(self, target: Target) -> OutputFormat:
        info = self.video.info
        colour = info.colour
        if target.codec is not None and not target.codec.full_range:
            colour = colour.limited()
        return OutputFormat(
            time_base=written_time_base(target.format, info.time_base),
            source_time_base=info.time_base,
            rate=(info.rate or _GUESSED_RATE) / self.settings.clip.stride,
            colour=colour,
            pixel_aspect=info.pixel_aspect,
        )


def _has_sound(video: VideoSource) -> bool:
    return video.info.has_audio and not video.info.is_live


def _fingerprint(
    source: str | os.PathLike[str],
    targets: list[Target],
    predictor: Predictor,
    settings: Settings,
) -> dict[str, object]:
    """Whatever the parts depend on."""
    path = Path(source)
    state = path.stat() if path.is_file() else None
    return {
        "input": str(path.resolve()) if path.exists() else os.fspath(source),
        "input state": [state.st_size, state.st_mtime_ns] if state else None,
        "outputs": [[target.path.name, target.kind, target.suffix] for target in targets],
        "model": predictor.name,
        "versions": [birefnet.__version__, load_av().__version__],
        **settings.fingerprint(),
    }
