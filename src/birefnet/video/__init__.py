"""Cut the subject out of videos: any codec in, videos with or without alpha out.

from birefnet.video import process_video

process_video("dance.mp4", "dance.webm", stabilise=True)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from typing import TYPE_CHECKING

from birefnet.imaging.values import Position, parse_rate
from birefnet.options import Options, VideoOptions
from birefnet.video.clip import Clip
from birefnet.video.errors import UnfinishedRunError, VideoCancelled, VideoError
from birefnet.video.frames import Frame, decoded, matted
from birefnet.video.opening import open_source
from birefnet.video.process import Progress, VideoResult, run
from birefnet.video.settings import Settings
from birefnet.video.source import VideoInfo

if TYPE_CHECKING:
    from birefnet.imaging.values import Kind, Resolution
    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Background, Matte
    from birefnet.options import Preset, Quality

__all__ = [
    "Frame",
    "Progress",
    "UnfinishedRunError",
    "VideoCancelled",
    "VideoError",
    "VideoInfo",
    "VideoResult",
    "process_video",
    "read_mattes",
    "video_info",
]

Time = float | str | Position


# Long: its parameters and their documentation are the Python interface of every option.
def process_video(
    source: str | os.PathLike[str],
    output: str | os.PathLike[str],
    *,
    predictor: Predictor | None = None,
    kind: Kind = "cutout",
    background: Background | None = None,
    mask_output: str | os.PathLike[str] | None = None,
    quality: Quality = "high",
    preset: Preset = "balanced",
    crf: int | None = None,
    start: Time | None = None,
    end: Time | None = None,
    stride: int = 1,
    resolution: Resolution | None = None,
    batch_size: int | None = None,
    refine: bool = True,
    stabilise: bool = False,
    threshold: float | None = None,
    mask_blur: float = 0,
    mask_offset: float = 0,
    audio: bool = True,
    rate: Fraction | int | None = None,
    resume: bool | None = None,
    progress: Callable[[Progress], object] | None = None,
    cancel: threading.Event | None = None,
) -> VideoResult:
    """Remove the background of a video and write another, with its sound and its time stamps.

    Memory does not grow with the length (but for GIF, WebP and APNG, whose file is made at once).
    Work is kept in `OUTPUT.parts/` until the end.

    Args:
        source: see `birefnet.video.opening.open_source`.
        output: `.mp4` (H.264), `.webm` (VP9), `.mov` (ProRes), `.gif`, `.webp`, `.apng`, or for PNG
            pictures a folder (ending in /) or a pattern such as `frames/%05d.png`.
        predictor: from `birefnet.load`; None loads the default model.
        kind: what to make of each frame, see `Matte.render`.
        background: a colour, a picture, or the path of a video, which is repeated to the length.
        mask_output: a second output for the mattes alone, in grey.
        quality: low, medium, high or maximum.
        preset: fast, balanced or small: speed of coding against size; ProRes has none.
        crf: constant rate factor of H.264 (0 to 51) or VP9 (0 to 63) instead of a quality.
        start, end: seconds, "1:02.5" or a frame such as "250f"; the end is left out.
        stride: use every Nth frame; each is shown for longer then.
        resolution: see `Predictor.predict`.
        batch_size: frames that run together; None leaves it to the engine.
        refine: take the old background's colour out of the edges.
        stabilise: compare each matte with those of the frames around it, against flicker.
        threshold, mask_blur, mask_offset: see `Matte.adjusted`.
        audio: take the sound along.
        rate: frames per second of a folder of pictures.
        resume: True goes on where an earlier run stopped, False throws its parts away, None refuses
            if there are some.
        progress: called in this thread after each frame.
        cancel: set it from anywhere to stop; a camera's recording is finished, otherwise
            `VideoCancelled` is raised and the parts are kept.

    Raises:
        VideoError: one sentence on what is wrong with the source or the result. If the source
            breaks off, what came before is written first.
        VideoCancelled, UnfinishedRunError: see above.
        MissingExtraError: PyAV is not installed.
    """
    settings = Settings(
        Options(
            kind=kind,
            background=background,
            resolution=resolution,
            batch_size=batch_size,
            refine=refine,
            threshold=threshold,
            mask_blur=mask_blur,
            mask_offset=mask_offset,
        ),
        VideoOptions(
            quality=quality,
            preset=preset,
            crf=crf,
            start=start,
            end=end,
            stride=stride,
            stabilise=stabilise,
            audio=audio,
            rate=rate,
        ),
    ).checked()
    return run(
        source,
        output,
        predictor or _default_predictor(),
        settings,
        mask_output=mask_output,
        resume=resume,
        progress=progress,
        cancel=cancel,
    )


def read_mattes(
    source: str | os.PathLike[str],
    *,
    predictor: Predictor | None = None,
    start: Time | None = None,
    end: Time | None = None,
    stride: int = 1,
    resolution: Resolution | None = None,
    batch_size: int | None = None,
    stabilise: bool = False,
    rate: Fraction | int | None = None,
) -> Iterator[tuple[Frame, Matte]]:
    """The frames of a video with their mattes, in order and lazily; arguments as `process_video`.

    Frames of more than 8 bits come as uint16.
    """
    clip = Clip.of(start, end, stride)
    with (
        closing(open_source(source, rate=parse_rate(rate))) as video,
        closing(decoded(video, clip)) as frames,
    ):
        yield from matted(
            frames,
            predictor or _default_predictor(),
            resolution=resolution,
            batch_size=batch_size,
            steady=stabilise,
        )


def video_info(source: str | os.PathLike[str]) -> VideoInfo:
    """Size, rate, length, colours and codec of a video, without decoding more than a frame."""
    with closing(open_source(source)) as video:
        return video.info


def _default_predictor() -> Predictor:
    from birefnet.api import load

    return load()
