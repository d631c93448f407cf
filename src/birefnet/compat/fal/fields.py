"""Inputs and outputs of fal.ai's BiRefNet endpoints, and the form of its errors.

Read from https://fal.ai/models/fal-ai/birefnet/v2/api, …/v2/video/api and https://docs.fal.ai/errors
in November 2026.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from starlette.responses import JSONResponse, Response

from birefnet.compat.http.describe import PROBLEM
from birefnet.serving.errors import Failure, sayable

MODELS = {
    "General Use (Light)": "general",
    "General Use (Light 2K)": "lite-2k",
    "General Use (Heavy)": "general",
    "Matting": "matting",
    "Portrait": "portrait",
    "General Use (Dynamic)": "dynamic",
}
"""Names of the released networks for those of fal; any name of `/v1/models` is taken, too."""

FORMATS = {
    "X264 (.mp4)": "mp4",
    "VP9 (.webm)": "webm",
    "PRORES4444 (.mov)": "mov",
    "GIF (.gif)": "gif",
}
"""Our names for fal's kinds of videos."""

Resolution = Literal["1024x1024", "2048x2048", "2304x2304"]


class Input(BaseModel):
    """The fields of both endpoints."""

    model_config = ConfigDict(extra="ignore")

    model: str | None = Field(
        None,
        max_length=200,
        description=f"{', '.join(MODELS)}, or one of /v1/models; left out: the server's default",
    )
    operating_resolution: Resolution | None = Field(
        None, description="Of the network's input; left out: as its weights were trained."
    )
    output_mask: bool = Field(False, description="Give the mask, too.")
    refine_foreground: bool = Field(True, description="Take the old background's colour out.")
    sync_mode: bool = Field(False, description="Answer with data URIs instead of URLs.")

    @model_validator(mode="after")
    def _largest(self) -> Input:
        largest, dynamic = "2304x2304", "General Use (Dynamic)"
        if self.operating_resolution == largest and self.model in MODELS and self.model != dynamic:
            raise ValueError(f"{largest} is for {dynamic} alone; choose 2048x2048 for {self.model}")
        return self

    @property
    def resolution(self) -> tuple[int, int] | None:
        """Width and height."""
        if self.operating_resolution is None:
            return None
        width, _, height = self.operating_resolution.partition("x")
        return int(width), int(height)


class ImageInput(Input):
    """`fal-ai/birefnet/v2`."""

    image_url: str = Field(description="URL or data URI of the picture.")
    output_format: Literal["webp", "png", "gif"] = Field("png", description="Of the results.")
    mask_only: bool = Field(False, description="The image is the mask itself.")


class VideoInput(Input):
    """`fal-ai/birefnet/v2/video`."""

    video_url: str = Field(description="URL or data URI of the video.")
    video_output_type: Literal["X264 (.mp4)", "VP9 (.webm)", "PRORES4444 (.mov)", "GIF (.gif)"] = (
        Field("X264 (.mp4)", description="mp4 cannot be transparent: the ground is black.")
    )
    video_quality: Literal["low", "medium", "high", "maximum"] = "high"
    video_write_mode: Literal["fast", "balanced", "small"] = "balanced"


@dataclass(frozen=True, eq=False)
class MediaFile:
    """A result on its way to the client.

    Attributes:
        name: of the file.
        data: its bytes, or where it lies.
        media_type: such as image/png.
        facts: width, height and the like.
    """

    name: str
    data: bytes | Path
    media_type: str
    facts: dict[str, Any]

    @property
    def bytes(self) -> int:
        return self.data.stat().st_size if isinstance(self.data, Path) else len(self.data)


_PROBLEM = PROBLEM | {"properties": {**PROBLEM["properties"], "url": {"type": "string"}}}
ERROR_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"anyOf": [{"type": "string"}, {"type": "array", "items": _PROBLEM}]}},
}
"""The schema of both."""

_DOCUMENTED = "https://docs.fal.ai/errors#"
_TYPES = {
    "url_not_fetched": "file_download_error",
    "invalid_picture": "image_load_error",
    "too_large": "file_too_large",
    "unknown_model": "value_error",
    "invalid_request": "value_error",
    "unsupported": "unsupported_image_format",
}
_PLACES = {"unknown_model": ["body", "model"]}
_OF_FILE = ("url_not_fetched", "invalid_picture", "too_large")


def error_response(failure: Failure, field: str | None = None) -> Response:
    """{"detail": [{"loc", "msg", "type", "url"}]} for what a request got wrong, with 422; otherwise
    {"detail": "…"}.

    `field` is that of the file, where it is known.
    """
    message = failure.message
    headers = {**failure.headers, "X-Fal-Retryable": str(failure.status >= 429).lower()}
    if failure.status not in (400, 413, 415, 422) and failure.code != "unknown_model":
        return JSONResponse({"detail": message}, failure.status, headers)
    kind = _TYPES.get(failure.code, "value_error")
    location = _PLACES.get(failure.code, ["body"])
    if field is not None and failure.code in _OF_FILE:
        location = ["body", field]
    detail = {"loc": location, "msg": message, "type": kind, "url": _DOCUMENTED + kind}
    return JSONResponse({"detail": [detail]}, 422, headers)


def validation_response(error: ValidationError) -> Response:
    """Fields that do not fit, in the same form."""
    detail = [
        {
            "loc": ["body", *entry["loc"]],
            "msg": sayable(str(entry["msg"])),
            "type": entry["type"],
        }
        for entry in error.errors(include_url=False, include_input=False, include_context=False)
    ]
    return JSONResponse({"detail": detail}, 422, {"X-Fal-Retryable": "false"})
