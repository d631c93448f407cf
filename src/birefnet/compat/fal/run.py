"""The work of fal.ai's endpoints, done by the service."""

from __future__ import annotations

import secrets
import tempfile
from pathlib import Path
from typing import Any

from birefnet.compat.fal.fields import FORMATS, ImageInput, MediaFile, VideoInput
from birefnet.compat.http.body import file_at
from birefnet.imaging.compose import parse_colour
from birefnet.imaging.io import encode, encode_animation
from birefnet.imaging.picture import to_uint8
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.serving.jobs import Job
from birefnet.serving.native.video import (
    VideoFields,
    cut_out_video,
    keep_video,
    load_video,
)
from birefnet.serving.service import Service

STILL_MS = 100  # a GIF of one picture needs some duration

Results = dict[str, MediaFile | None]
"""By the names of the output."""


async def cut_image(service: Service, inputs: ImageInput, job: Job | None, model: str) -> Results:
    """`image`, and `mask_image` on request; a job waits where the queue is full."""
    data = await file_at(inputs.image_url, "image_url", service)
    options = Options(
        kind="mask" if inputs.mask_only else "cutout",
        refine=inputs.refine_foreground,
        resolution=inputs.resolution,
    )
    async with service.removing(
        data, options, model=model, encode=False, wait=job is not None
    ) as done:

        def make() -> Results:
            mask = _still(done.matte, "mask", inputs) if inputs.output_mask else None
            return {"image": _still(done.matte, options.kind, inputs), "mask_image": mask}

        return await service.in_thread(make)


def _still(matte: Matte, kind: str, inputs: ImageInput) -> MediaFile:
    is_mask = kind == "mask"
    pixels = to_uint8(matte.mask() if is_mask else matte.cutout(refine=inputs.refine_foreground))
    alpha = None if is_mask else pixels[..., 3]
    colours = pixels if is_mask else pixels[..., :3]
    if inputs.output_format == "gif":
        data = encode_animation([(colours, alpha, STILL_MS)], format="gif")
    else:
        data = encode(colours, alpha, format=inputs.output_format)
    sides = {"width": matte.width, "height": matte.height}
    return _media(inputs.output_format, data, f"image/{inputs.output_format}", sides)


async def cut_video(service: Service, inputs: VideoInput, job: Job | None, model: str) -> Results:
    """`video`, and `mask_video` on request."""
    assert job is not None
    load_video()
    with tempfile.TemporaryFile(dir=job.folder) as file:
        if inputs.video_url[:5].lower() == "data:":
            file.write(await file_at(inputs.video_url, "video_url", service))
        else:
            await service.fetch_into(inputs.video_url, file)
        source = await service.in_thread(keep_video, file, job.folder, service.settings)
    format = FORMATS[inputs.video_output_type]
    # H.264 holds no alpha, and fal's answer has none there.
    background = parse_colour("black") if format == "mp4" else None
    fields = VideoFields.model_validate(
        {
            "format": format,
            "mask": inputs.output_mask,
            "quality": inputs.video_quality,
            "preset": inputs.video_write_mode,
            "resolution": inputs.resolution,
            "refine": inputs.refine_foreground,
        }
    )
    made = await cut_out_video(service, source, model, background, fields, job)
    facts: dict[str, object] = {name: made.facts[name] for name in ("width", "height", "duration")}
    facts["num_frames"] = made.facts["frames"]
    if made.facts["duration"]:
        facts["fps"] = round(made.facts["frames"] / made.facts["duration"], 3)
    mask = None if made.mask is None else _media(format, made.mask, made.media_type, facts)
    return {"video": _media(format, made.video, made.media_type, facts), "mask_video": mask}


def _media(suffix: str, data: bytes | Path, media_type: str, facts: dict[str, Any]) -> MediaFile:
    return MediaFile(f"{secrets.token_hex(8)}.{suffix}", data, media_type, facts)
