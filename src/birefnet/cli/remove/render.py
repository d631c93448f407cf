"""From a matte to a file: refine, encode, write, and say what became of it."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

from birefnet.cli.common import is_debugging
from birefnet.cli.remove.jobs import Job, result_format, suffix_of
from birefnet.cli.remove.plan import Plan
from birefnet.cli.remove.report import Outcome, facts_of
from birefnet.cli.remove.storage import StoragePath, is_same, write
from birefnet.errors import BiRefNetError
from birefnet.imaging.encoding import ANIMATIONS, encode_animation, encode_pages
from birefnet.imaging.framing import Area, union
from birefnet.imaging.io import Source, decode_frames
from birefnet.imaging.picture import Pixels
from birefnet.imaging.source import Remote
from birefnet.inference.profiling import timed
from birefnet.matte import Matte
from birefnet.options import Options

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor

DEFAULT_FRAME_MS = 100  # of a still picture that is written as an animation

FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
"""Errors of the system for a disk without room."""

# Errors of the system that will be the same a moment later.
_LASTING = {
    errno.ENOENT, errno.EACCES, errno.EPERM, errno.EISDIR, errno.ENOTDIR, errno.ENOSPC,
    errno.EROFS, errno.ENAMETOOLONG, errno.EDQUOT, errno.EEXIST, errno.EINVAL,
}  # fmt: skip


def source_of(job: Job, plan: Plan) -> Source:
    """The picture of a job, for the predictor."""
    if job.source is None:
        return plan.search.stream
    path = job.source
    if (data := plan.search.pipes.get(str(path))) is not None:
        return Remote(lambda: io.BytesIO(data), str(path))
    return readable(path)


def readable(path: StoragePath) -> Source:
    """A path for the decoder, or a file that opens where it is needed."""
    return path if isinstance(path, Path) else Remote(lambda: path.open("rb"), str(path))


def write_picture(job: Job, matte: Matte, plan: Plan) -> Outcome:
    """Write what the plan's options make of one matte."""
    options = plan.options
    format = result_format(job, options.format)
    try:
        with timed(plan.profile, "refine"):
            matte = options.finish(matte)
        facts = {**facts_of(matte), **crop_of(matte, options)}
        if options.objects:
            facts.pop("crop", None)  # each object has its own
            facts["objects"] = _write_objects(job, matte, plan, format)
            return Outcome(job, "done", facts=facts)
        with timed(plan.profile, "encode"):
            data = options.encode(matte, format)
        with timed(plan.profile, "write"):
            _put(job, data)
    except Exception as error:  # whatever it is, the other pictures go on
        return failed(job, error)
    return Outcome(job, "done", facts=facts)


def crop_of(matte: Matte, options: Options, box: Area | None = None) -> dict[str, Any]:
    """Where a cropped result lies in the picture, as facts: x0, y0, x1, y1 [px]."""
    frame = options.frame(matte, box)
    return {} if frame is None else {"crop": frame.corners}


def _write_objects(job: Job, matte: Matte, plan: Plan, format: str) -> list[dict[str, object]]:
    """A file for each object, NAME.1.png …, then the list of them, NAME.json, which is returned."""
    options, index = plan.options, job.target
    assert index is not None
    listed = []
    for part in options.parts(matte):
        target = index.with_name(f"{index.stem}.{part.number}{suffix_of(format)}")
        if job.source is not None and is_same(target, job.source):
            raise BiRefNetError(f"an object would be written over {job.name}; give another -o")
        with timed(plan.profile, "encode"):
            data = options.encode(part.matte, format)
        with timed(plan.profile, "write"):
            write(target, data)
        listed.append({"file": target.name, **part.facts(), **crop_of(part.matte, options)})
    text = {"input": job.name, "width": matte.width, "height": matte.height, "objects": listed}
    write(index, (json.dumps(text, indent=2) + "\n").encode())
    return listed


def write_animation(job: Job, plan: Plan, predictor: Predictor) -> Outcome:
    """Every frame of an animation, or page of a TIFF, into one file; its facts are those of the
    fullest."""
    options = plan.options
    format = result_format(job, options.format)
    facts: list[dict[str, Any]] = []
    crop: dict[str, object] = {}

    def mattes() -> Iterator[Matte]:
        for matte in _frame_mattes(job, plan, predictor):
            with timed(plan.profile, "refine"):
                finished = options.finish(matte)
            facts.append(facts_of(finished))
            yield finished

    def pages(drawn: Iterable[Matte]) -> Iterator[tuple[Pixels, bytes | None]]:
        for matte in drawn:
            profile = matte.picture.icc_profile if options.keep_profile else None
            yield options.render(matte), profile

    def frames(drawn: Iterable[Matte]) -> Iterator[tuple[Pixels, Pixels | None, int]]:
        finished: Iterable[tuple[Matte, Area | None]] = ((matte, None) for matte in drawn)
        if options.crop:
            finished = _in_one_box(drawn)
        for matte, box in finished:
            crop.update(crop_of(matte, options, box))
            rendered = options.render(matte, box)
            has_alpha = rendered.ndim == 3 and rendered.shape[2] == 4
            colours, alpha = (
                (rendered[..., :3], rendered[..., 3]) if has_alpha else (rendered, None)
            )
            yield colours, alpha, matte.picture.duration_ms or DEFAULT_FRAME_MS

    try:
        if options.objects:
            raise BiRefNetError(
                "--objects is for still pictures; this one is animated or has several pages"
            )
        if job.animation == "tiff" and format != "tiff":
            raise BiRefNetError(
                f"{job.name} has several pages, and {format} holds one; choose tiff for all"
            )
        if job.animation != "tiff" and format not in ANIMATIONS:
            raise BiRefNetError(
                f"the picture is animated, and {format} holds one frame; choose gif, webp or png"
            )
        drawn = mattes()
        first = next(drawn)
        drawn = chain([first], drawn)
        metadata = options.kept_metadata(first)
        if format == "tiff":
            data = encode_pages(pages(drawn), metadata)
        else:
            data = encode_animation(
                frames(drawn),
                format=format,
                quality=options.quality,
                loop=first.picture.plays or 0,
                metadata=metadata,
            )
        _put(job, data)
    except Exception as error:
        return failed(job, error)
    fullest = max(facts, key=lambda each: each["coverage"])
    return Outcome(job, "done", facts={**fullest, **crop, "frames": len(facts)})


def _frame_mattes(job: Job, plan: Plan, predictor: Predictor) -> Iterator[Matte]:
    options, source = plan.options, source_of(job, plan)
    if options.is_plain:
        yield from predictor.predict_frames(
            source, resolution=options.resolution, batch_size=options.batch_size
        )
        return
    for picture in decode_frames(
        source, limits=predictor.limits, convert_to_srgb=predictor.convert_to_srgb
    ):
        yield options.predict(predictor, picture)


def _in_one_box(mattes: Iterable[Matte]) -> Iterator[tuple[Matte, Area | None]]:
    """All frames, each with the box that holds what is seen in any of them.

    It is known after the last frame, so the frames wait in a temporary file, compressed.
    """
    boxes: list[Area | None] = []
    sizes: list[int] = []
    with tempfile.TemporaryFile() as waiting:
        for matte in mattes:
            boxes.append(matte.visible_box)
            sizes.append(waiting.write(zlib.compress(pickle.dumps(matte), 1)))
        box = union(boxes)
        waiting.seek(0)
        for size in sizes:
            yield pickle.loads(zlib.decompress(waiting.read(size))), box


def failed(job: Job, error: Exception) -> Outcome:
    """The outcome of a job that raised this error."""
    if is_debugging():
        raise error
    if isinstance(error, BiRefNetError):
        sentence = str(error)
    elif isinstance(error, OSError):
        path = "standard output" if job.target is None else job.target
        sentence = f"cannot write {path}: {error.strerror or error}"
    elif isinstance(error, MemoryError):
        sentence = "not enough memory for this picture; give a smaller one"
    else:
        sentence = f"{type(error).__name__}: {error} (BIREFNET_DEBUG=1 shows where)"
    number = _system_error(error)
    is_temporary = number is not None and number not in _LASTING | FULL
    disk_full = number in FULL and job.target is not None
    return Outcome(job, "failed", sentence, is_temporary, disk_full=disk_full)


def _system_error(error: BaseException | None) -> int | None:
    """The system's number of what failed, if the system or the network did, not the picture."""
    while error is not None:
        if isinstance(error, OSError) and error.errno is not None:
            return error.errno
        error = error.__cause__ or error.__context__
    return None


def _give_up_standard_output() -> None:
    """Send what waits to be written nowhere: Python would fail on it again at its end."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def _put(job: Job, data: bytes) -> None:
    if job.target is None:
        try:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
        except OSError:
            _give_up_standard_output()
            raise
    else:
        write(job.target, data)
