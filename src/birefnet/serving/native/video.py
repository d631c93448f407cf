"""POST /v1/video: a video is cut out in the background; ask how far it is, and fetch the result."""

from __future__ import annotations

import asyncio
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Literal

from fastapi import APIRouter, Request
from fastapi.responses import FileResponse, JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, create_model

from birefnet.errors import BiRefNetError, counted
from birefnet.imaging.picture import Picture
from birefnet.inference.predictor import Predictor
from birefnet.matte import Background
from birefnet.options import OPTIONS, VIDEO, VIDEO_OPTIONS, Options
from birefnet.serving.errors import InvalidRequest, NotReady, TooLarge, Unsupported
from birefnet.serving.jobs import Job
from birefnet.serving.limits import owner_of
from birefnet.serving.native import describe
from birefnet.serving.native.options import LEFT_OUT, option_annotations
from birefnet.serving.native.request import open_source, read_options, read_values
from birefnet.serving.service import Service, safe_colour
from birefnet.serving.settings import ServerSettings

MEDIA_TYPES = {
    "mp4": "video/mp4",
    "webm": "video/webm",
    "mov": "video/quicktime",
    "gif": "image/gif",
    "webp": "image/webp",
    "apng": "image/apng",
}
_MPEG_TS = 188  # bytes of a packet


class _VideoFields(BaseModel):
    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    model: str | None = Field(None, description="One of /v1/models.", max_length=200)
    format: Literal["mp4", "webm", "mov", "gif", "webp", "apng"] = Field(
        "webm", description="Of the result; mp4 cannot be transparent and needs a background."
    )
    mask: bool = Field(False, description="Make a second video of the mattes alone.")


_OWN = {name: about for name, about in VIDEO_OPTIONS.items() if name != "rate"}  # of pictures
_OF_FRAMES = {name: about for name, about in OPTIONS.items() if name in VIDEO}
_PASSED_ON = {*_OWN, *_OF_FRAMES} - {*LEFT_OUT, "background"}
VideoFields: type[_VideoFields] = create_model(
    "VideoFields",
    __base__=_VideoFields,
    **option_annotations(_OWN),
    **option_annotations(_OF_FRAMES),
)
"""The fields of a request for a video."""


@dataclass(frozen=True)
class VideoFiles:
    """The files that a job has made.

    Attributes:
        video: the result.
        mask: of the mattes alone, if asked for.
        media_type: of both.
        facts: frames, duration and the like, for JSON.
    """

    video: Path
    mask: Path | None
    media_type: str
    facts: dict[str, Any]


def router(service: Service) -> APIRouter:
    """`/v1/video`, and what belongs to one of its jobs."""
    routes = APIRouter(tags=["videos"])
    errors = describe.ERRORS
    job_answer = {"description": "The job.", "content": {"application/json": {}}}

    def job_of(id: str, request: Request) -> Job:
        return service.jobs.get(id, "video", owner_of(request, service.settings))

    @routes.post(
        "/v1/video",
        status_code=202,
        summary="Cut the subject out of a video, in the background",
        response_class=JSONResponse,
        responses={202: job_answer, **errors},
        openapi_extra=describe.body_of("a video", "video/*", VideoFields),
    )
    async def start(request: Request) -> Response:
        job = await _start(request, service)
        location = str(request.url_for("video_status", id=job.id).path)
        return JSONResponse(about(job, request), 202, {"Location": location})

    @routes.get(
        "/v1/video/{id}",
        name="video_status",
        summary="How far a video is",
        response_class=JSONResponse,
        responses={200: job_answer, 404: errors[404]},
    )
    async def status(id: str, request: Request) -> Response:
        return JSONResponse(about(job_of(id, request), request))

    @routes.get(
        "/v1/video/{id}/result",
        name="video_result",
        summary="The video without its background",
        response_class=FileResponse,
        responses={
            200: {"content": {name: {} for name in MEDIA_TYPES.values()}},
            404: errors[404],
            409: {"description": "It is not done."},
        },
    )
    async def result(id: str, request: Request) -> Response:
        files = files_of(job_of(id, request))
        return FileResponse(files.video, media_type=files.media_type, filename=files.video.name)

    @routes.get(
        "/v1/video/{id}/mask",
        name="video_mask",
        summary="The mattes alone",
        response_class=FileResponse,
        responses={404: errors[404], 409: {"description": "It is not done."}},
    )
    async def mask(id: str, request: Request) -> Response:
        files = files_of(job_of(id, request))
        if files.mask is None:
            raise InvalidRequest("this job made no mask; start one with mask=true")
        return FileResponse(files.mask, media_type=files.media_type, filename=files.mask.name)

    @routes.delete(
        "/v1/video/{id}",
        summary="Stop a video, and delete what there is of it",
        status_code=204,
        responses={404: errors[404]},
    )
    async def cancel(id: str, request: Request) -> Response:
        service.jobs.remove(job_of(id, request))
        return Response(status_code=204)

    return routes


async def _start(request: Request, service: Service) -> Job:
    """Read a request, keep its video in the folder of a new job, and begin the work."""
    load_video()
    values = await read_values(request)
    source = await open_source(values, service)
    fields = await read_options(values, service, VideoFields)
    model = service.pool.name_of(fields.model)
    background = await service.in_thread(_background, fields, service)
    job = service.jobs.create("video", owner_of(request, service.settings))
    try:
        path = await service.in_thread(keep_video, source, job.folder, service.settings)
    except BaseException:
        service.jobs.remove(job)
        raise
    work = partial(cut_out_video, service, path, model, background, fields)
    service.jobs.start(job, work)
    return job


async def cut_out_video(
    service: Service,
    source: Path,
    model: str,
    background: Background | None,
    fields: object,
    job: Job,
) -> VideoFiles:
    """The work of a job whose video is in its folder."""
    async with service.pool.use(model) as loaded:
        mine = service.shared(loaded, job.cancelled)
        return await asyncio.to_thread(
            make_video, job, source, mine, background, fields, service.settings
        )


def make_video(
    job: Job,
    source: Path,
    predictor: Predictor,
    background: Background | None,
    fields: Any,
    settings: ServerSettings,
) -> VideoFiles:
    """In a thread: the whole work, which says how far it is and stops when it is told to."""
    from birefnet.video import Progress, process_video

    def report(progress: Progress) -> None:
        if progress.frames > settings.max_frames:
            raise TooLarge(
                f"the video has more than {counted(settings.max_frames, 'frame')}, the limit"
            )
        done = None if not progress.total else min(1.0, progress.frames / progress.total)
        left = progress.seconds_left
        job.report(
            done,
            frames=progress.frames,
            total=progress.total,
            frames_per_second=round(progress.rate, 3),
            seconds_left=None if left is None else round(left, 1),
        )

    output = job.folder / f"cutout.{fields.format}"
    mask = job.folder / f"mask.{fields.format}" if fields.mask else None
    made = process_video(
        source,
        output,
        predictor=predictor,
        background=background,
        mask_output=mask,
        **{name: getattr(fields, name) for name in _PASSED_ON},
        progress=report,
        cancel=job.cancelled,
    )
    source.unlink(missing_ok=True)
    facts = {
        "frames": made.frames,
        "duration": round(made.duration, 3),
        "width": made.width,
        "height": made.height,
        "seconds": round(made.seconds, 3),
        "notes": made.notes,
    }
    return VideoFiles(output, mask, MEDIA_TYPES[fields.format], facts)


def keep_video(source: BinaryIO, folder: Path, settings: ServerSettings) -> Path:
    """In a thread: the video as a file in the job's folder, if it is one that may be worked on.

    Only files that begin as known containers do reach FFmpeg: a playlist would name other files and
    addresses, which it would open.

    Raises:
        Unsupported: no known container.
        TooLarge: too many pixels or frames.
        VideoError: it cannot be decoded.
    """
    from birefnet.video import video_info

    source.seek(0)
    suffix = container_of(source.read(4 * _MPEG_TS))
    if suffix is None:
        raise Unsupported(
            "the file is not a video that is read here; send MP4, MOV, WebM, MKV, AVI, MPEG, FLV, "
            "WMV, OGG, or an animated GIF, WebP or PNG"
        )
    source.seek(0)
    path = folder / f"source{suffix}"
    with path.open("wb") as file:
        shutil.copyfileobj(source, file)
    info = video_info(path)
    if info.width * info.height > settings.max_pixels:
        raise TooLarge(
            f"the video has {info.width} x {info.height} pixels; at most {settings.max_pixels:,} "
            "are accepted"
        )
    if info.frames is not None and info.frames > settings.max_frames:
        raise TooLarge(
            f"the video has {counted(info.frames, 'frame')}; at most {settings.max_frames:,} are "
            "accepted"
        )
    return path


def container_of(head: bytes) -> str | None:
    """A suffix for what a video's first bytes say it is; None if that is unknown."""
    brand = head[4:8]
    if brand in (b"ftyp", b"moov", b"mdat", b"wide", b"skip", b"free"):
        return ".mp4"
    if head[:4] == b"RIFF":
        return {b"AVI ": ".avi", b"WEBP": ".webp"}.get(head[8:12])
    is_transport = len(head) > _MPEG_TS and head[0] == head[_MPEG_TS] == 0x47
    return ".ts" if is_transport else _suffix_of(head)


def _suffix_of(head: bytes) -> str | None:
    signatures = {
        b"\x1aE\xdf\xa3": ".mkv",
        b"GIF8": ".gif",
        b"\x89PNG\r\n\x1a\n": ".png",
        b"OggS": ".ogv",
        b"FLV\x01": ".flv",
        b"\x30\x26\xb2\x75\x8e\x66\xcf\x11": ".wmv",
        b"\0\0\x01\xba": ".mpg",
        b"\0\0\x01\xb3": ".mpg",
    }
    return next((name for start, name in signatures.items() if head.startswith(start)), None)


def files_of(job: Job) -> VideoFiles:
    """The files of a finished job.

    Raises:
        NotReady: it is not done, or never will be.
    """
    if isinstance(job.result, VideoFiles):
        return job.result
    reason = f": {job.failure.message}" if job.failure else ""
    raise NotReady(f"the job is {job.status}{reason}")


def about(job: Job, request: Request) -> dict[str, Any]:
    """A job for programs."""
    content: dict[str, Any] = {
        "id": job.id,
        "status": job.status,
        "progress": job.progress,
        **job.detail,
        "created": job.created,
        "started": job.started,
        "finished": job.finished,
        "urls": {"status": request.url_for("video_status", id=job.id).path},
    }
    if job.failure is not None:
        content["error"] = {"code": job.failure.code, "message": job.failure.message}
    if isinstance(job.result, VideoFiles):
        content |= job.result.facts
        content["urls"]["result"] = request.url_for("video_result", id=job.id).path
        if job.result.mask is not None:
            content["urls"]["mask"] = request.url_for("video_mask", id=job.id).path
    return content


def load_video() -> None:
    """Raises `MissingExtraError` where videos cannot be read."""
    from birefnet.video.errors import load_av

    load_av()


def _background(fields: Any, service: Service) -> Background | None:
    """A colour or a decoded picture; and the options checked against each other."""
    background = fields.background
    if isinstance(background, bytes):
        from birefnet.imaging.io import decode

        background = decode(background, limits=service.limits)
    elif background is not None and not isinstance(background, (Picture, tuple)):
        background = safe_colour("background", background)
    Options(kind=fields.kind, background=background).checked()
    if fields.format == "mp4" and fields.kind == "cutout" and background is None:
        raise BiRefNetError("MP4 cannot be transparent; give a background, or another format")
    return background
