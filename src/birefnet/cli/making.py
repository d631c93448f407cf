"""From a matte to a file: refine, encode, write, and say what became of it."""

from __future__ import annotations

import errno
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from birefnet.cli.common import is_debugging
from birefnet.cli.inputs import Job, result_format
from birefnet.cli.places import Fetched, write
from birefnet.cli.removal import Plan
from birefnet.cli.report import Outcome, facts_of
from birefnet.errors import BiRefNetError
from birefnet.imaging.encoding import ANIMATIONS, encode_animation
from birefnet.matte import Matte
from birefnet.profiling import timed

if TYPE_CHECKING:
    from birefnet.predictor import Predictor

DEFAULT_FRAME_MS = 100  # of a still picture that is written as an animation

# Errors of the system that will be the same a moment later.
_LASTING = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENOSPC,
    errno.EROFS, errno.ENAMETOOLONG, errno.EDQUOT, errno.EEXIST, errno.EINVAL,
}  # fmt: skip


def source_of(job: Job, plan: Plan) -> Any:
    """What the predictor reads."""
    if job.source is None:
        return plan.search.stream
    return job.source if isinstance(job.source, Path) else Fetched(job.source)


def make_picture(job: Job, matte: Matte, plan: Plan) -> Outcome:
    """Write what the plan's settings make of one matte."""
    settings = plan.settings
    try:
        with timed(plan.profile, "refine"):
            matte = settings.finish(matte)
        with timed(plan.profile, "encode"):
            data = settings.encode(matte, result_format(job, settings.format))
        with timed(plan.profile, "write"):
            _put(job, data)
    except Exception as error:  # whatever it is, the other pictures go on
        return failed(job, error)
    return Outcome(job, "done", facts=facts_of(matte))


def make_animation(job: Job, plan: Plan, predictor: Predictor) -> Outcome:
    """Every frame of an animation into one file; its facts are those of the fullest frame."""
    settings = plan.settings
    format = result_format(job, settings.format)
    facts: list[dict[str, Any]] = []

    def frames() -> Iterator[tuple[NDArray[Any], NDArray[Any] | None, int]]:
        for matte in predictor.predict_frames(
            source_of(job, plan), resolution=settings.resolution, batch_size=settings.batch_size
        ):
            with timed(plan.profile, "refine"):
                matte = settings.finish(matte)
            facts.append(facts_of(matte))
            rendered = settings.render(matte)
            has_alpha = rendered.ndim == 3 and rendered.shape[2] == 4
            colours, alpha = (
                (rendered[..., :3], rendered[..., 3]) if has_alpha else (rendered, None)
            )
            yield colours, alpha, matte.picture.duration_ms or DEFAULT_FRAME_MS

    try:
        if format not in ANIMATIONS:
            raise BiRefNetError(
                f"the picture is animated, and {format} holds one frame; choose gif, webp or png"
            )
        _put(job, encode_animation(frames(), format=format, quality=settings.quality))
    except Exception as error:
        return failed(job, error)
    fullest = max(facts, key=lambda found: found["coverage"])
    return Outcome(job, "done", facts={**fullest, "frames": len(facts)})


def failed(job: Job, error: Exception) -> Outcome:
    """The outcome of a job that raised this error."""
    if is_debugging():
        raise error
    if isinstance(error, BiRefNetError):
        sentence = str(error)
    elif isinstance(error, OSError):
        sentence = f"cannot write {job.target}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        sentence = "not enough memory for this picture; give a smaller one"
    else:
        sentence = f"{type(error).__name__}: {error} (BIREFNET_DEBUG=1 shows where)"
    return Outcome(job, "failed", sentence, may_pass=_may_pass(error))


def _may_pass(error: BaseException | None) -> bool:
    """Whether the system or the network failed, not the picture: worth another try."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno not in _LASTING
        error = error.__cause__ or error.__context__
    return False


def _put(job: Job, data: bytes) -> None:
    if job.target is None:
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    else:
        write(job.target, data)
