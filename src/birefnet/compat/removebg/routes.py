"""remove.bg's API: `POST /v1.0/removebg`, `GET /v1.0/account`, and CarveKit's bare paths.

Read from https://www.remove.bg/api, the recorded answers in the tests of its Ruby client
(https://github.com/remove-bg/ruby), and CarveKit (https://github.com/OPHoperHPO/image-background-
remove-tool), in November 2026.
"""

from __future__ import annotations

import asyncio
import io
import time
import zipfile
from dataclasses import replace
from typing import Any, NamedTuple

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from starlette.responses import JSONResponse, Response

from birefnet.compat.http.body import Body, file_at, picture_of, read_body
from birefnet.compat.http.describe import forms_and_json
from birefnet.compat.removebg.fields import SCHEMA, FieldError, Fields, read_fields
from birefnet.compat.removebg.placement import place, shrink, with_pixels
from birefnet.imaging.box import Box
from birefnet.imaging.compose import WHITE, Colour
from birefnet.imaging.framing import VISIBLE
from birefnet.imaging.io import decode, encode
from birefnet.imaging.picture import Alpha, Limits, Picture, Pixels, to_uint8
from birefnet.imaging.shadow import Shadow
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.serving.answers import base64_text, in_header, json_answer
from birefnet.serving.errors import Failure, FetchError
from birefnet.serving.registry import Registry
from birefnet.serving.service import Service

SOURCES = ("image_file", "image_file_b64", "image_url")
GROUNDS = ("bg_color", "bg_image_url", "bg_image_file")

CREDITS = 99_999
"""The number that `account` reports. Nothing is charged here, but clients stop without credits."""

_CODES = {
    "unauthorised": "auth_failed",
    "busy": "rate_limit_exceeded",
    "too_large": "file_too_large",
    "url_not_fetched": "failed_image_download",
    "invalid_picture": "failed_to_read_image",
    "invalid_request": "invalid_parameter",
}
_STATUS = {401: 403, 413: 400, 415: 400, 422: 400}

_JPEG_QUALITY = 90


def error_response(failure: Failure) -> Response:
    """{"errors": [{"title", "code"}]}."""
    error = {
        "title": failure.message,
        "code": _CODES.get(failure.code, failure.code),
    }
    status = _STATUS.get(failure.status, failure.status)
    return JSONResponse({"errors": [error]}, status, failure.headers)


_ERROR = {
    "type": "object",
    "required": ["title", "code"],
    "properties": {"title": {"type": "string"}, "code": {"type": "string"}},
}
ERROR_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["errors"],
    "properties": {"errors": {"type": "array", "minItems": 1, "items": _ERROR}},
}


class Rendered(NamedTuple):
    """One answer: the bytes of a file, its media type, and its width and height [px]."""

    data: bytes
    media_type: str
    width: int
    height: int


def register_routes(registry: Registry) -> None:
    """Add the versioned routes of remove.bg, and those of CarveKit, whose default is full size."""
    service, settings = registry.service, registry.service.settings
    routes = APIRouter(tags=["compatible: remove.bg"])

    def rate() -> dict[str, str]:
        free = max(0, settings.queue - service.slots_taken)
        return {
            "X-RateLimit-Limit": str(settings.queue),
            "X-RateLimit-Remaining": str(free),
            "X-RateLimit-Reset": str(int(time.time()) + 1),
        }

    async def remove(request: Request, default_size: str) -> Response:
        body = await read_body(request, service)
        fields = read_fields(body, default_size=default_size)
        data, ground = await asyncio.gather(_source(body, service), _ground(body, fields, service))
        # The mask is all that is needed: colours are refined at the size of the result.
        options = Options(kind="mask", boxes=_boxes(fields))
        async with service.removing(data, options, encode=False) as result:
            rendered, box = await service.in_thread(
                render, result.matte, fields, ground, service.limits
            )
        sides = {"top": box.top, "left": box.left, "width": box.width, "height": box.height}
        position = {f"foreground_{name}": value for name, value in sides.items()}
        headers = {
            **rate(),
            "X-Credits-Charged": "0",
            "X-Width": str(rendered.width),
            "X-Height": str(rendered.height),
            "X-Model": in_header(result.model),
        }
        headers |= {
            "X-" + name.replace("_", "-").title(): str(value) for name, value in position.items()
        }
        if fields.type_level != "none":
            headers["X-Type"] = "other" if fields.type == "auto" else fields.type
        if "application/json" in request.headers.get("accept", ""):
            text = await service.in_thread(base64_text, rendered.data)
            content = {"data": {"result_b64": text, **position}}
            return await service.in_thread(json_answer, content, headers)
        return Response(rendered.data, media_type=rendered.media_type, headers=headers)

    described: dict[str, Any] = {
        "response_class": Response,
        "responses": {200: {"content": {kind: {} for kind in ("image/png", "application/json")}}},
        "openapi_extra": forms_and_json(SCHEMA, ("image_file", "bg_image_file")),
    }

    @routes.post("/v1.0/removebg", summary="remove.bg: remove the background", **described)
    async def removebg(request: Request) -> Response:
        return await remove(request, "preview")

    @routes.post("/removebg", summary="CarveKit: remove the background", **described)
    async def carvekit(request: Request) -> Response:
        return await remove(request, "full")

    @routes.get("/v1.0/account", summary="remove.bg: credits (nothing is charged)")
    @routes.get("/account", summary="CarveKit: credits (nothing is charged)")
    async def account() -> JSONResponse:
        credits = {"total": CREDITS, "subscription": CREDITS, "payg": 0, "enterprise": 0}
        attributes = {"credits": credits, "api": {"free_calls": CREDITS, "sizes": "all"}}
        return JSONResponse({"data": {"attributes": attributes}}, headers=rate())

    registry.add(
        routes,
        error_forms=dict.fromkeys(("/v1.0/", "/removebg", "/account"), error_response),
        error_schema=ERROR_SCHEMA,
    )


def _one_of(body: Body, names: tuple[str, ...], code: str) -> str | None:
    """Which of these fields is given; more than one are a `FieldError` of this code."""
    given = [name for name in names if body.get(name)]
    if len(given) > 1:
        raise FieldError(code, f"got {' and '.join(given)}; send one of {', '.join(names)}")
    return given[0] if given else None


async def _source(body: Body, service: Service) -> bytes:
    name = _one_of(body, SOURCES, "multiple_sources")
    if name is None:
        raise FieldError("missing_source", f"no picture is given; send one of {', '.join(SOURCES)}")
    if name != "image_url":
        return await picture_of(body[name], name, service)
    try:
        return await file_at(body[name], name, service)
    except FetchError as error:
        code = "failed_image_download" if "answered" in error.message else "invalid_image_url"
        raise FieldError(code, error.message) from error


async def _ground(body: Body, fields: Fields, service: Service) -> bytes | Colour | None:
    name = _one_of(body, GROUNDS, "multiple_bg_sources")
    if name == "bg_image_url":
        try:
            return await file_at(body[name], name, service)
        except FetchError as error:
            raise FieldError("failed_bg_download", error.message) from error
    if name == "bg_image_file":
        return await picture_of(body[name], name, service)
    return fields.bg_color


def _boxes(fields: Fields) -> tuple[str, ...]:
    """The region of interest as guidance; see `Fields.roi`."""
    if fields.roi is None:
        return ()
    if all(length.is_share for length in fields.roi):
        return (",".join(f"{length.value:.6f}" for length in fields.roi),)
    # Whatever the picture's size, all of it in pixels reaches beyond; zero is zero in both.
    whole = 10**6
    values = []
    for length in fields.roi:
        if length.is_share and length.value not in (0, 1):
            raise FieldError("invalid_roi", "the roi mixes px and %; give all four in one of them")
        values.append(whole * length.value if length.is_share else length.value)
    return (",".join(f"{value:.0f}" for value in values),)


def render(
    matte: Matte, fields: Fields, ground: bytes | Colour | None, limits: Limits
) -> tuple[Rendered, Box]:
    """Everything that follows the network, in a thread; and where the subject was.

    Raises:
        FieldError: there is no foreground, or the region of interest is not in the picture.
        BiRefNetError: a background that cannot be read.
    """
    matte = _inside(matte, fields)
    box = Box.around(matte.alpha, VISIBLE)
    if box is None or matte.is_empty:
        raise FieldError("unknown_foreground", "no foreground could be identified in the picture")
    matte = shrink(matte, fields.max_pixels)
    matte = place(with_pixels(matte, matte.alpha, matte.foreground()), fields.placement)
    if fields.shadow and fields.shadow_opacity != 0:
        opacity = fields.shadow_opacity
        matte = matte.with_shadow(Shadow("drop", None if opacity is None else opacity / 100))
    if fields.channels == "alpha":
        return _file(matte, matte.mask(), None, fields.format), box
    behind = decode(ground, limits=limits) if isinstance(ground, bytes) else ground
    if fields.format == "jpg" and not isinstance(behind, Picture):
        behind = _on_white(behind)
    pixels = matte.cutout(refine=False) if behind is None else matte.on(behind, refine=False)
    alpha = pixels[..., 3] if pixels.shape[2] == 4 else None
    return _file(matte, pixels[..., :3], alpha, fields.format), box


def _on_white(colour: Colour | None) -> Colour:
    """A colour on white, for formats without transparency."""
    if colour is None:
        return WHITE
    share = colour[3] / 255
    red, green, blue = (round(255 + (value - 255) * share) for value in colour[:3])
    return red, green, blue, 255


def _inside(matte: Matte, fields: Fields) -> Matte:
    """Without what lies outside the region of interest."""
    if fields.roi is None:
        return matte
    sides = (matte.width, matte.height) * 2
    for length, side in zip(fields.roi, sides, strict=True):
        if not length.is_share and length.value > side:
            raise FieldError(
                "roi_exceeds_bounds",
                f"the roi exceeds the picture of {matte.width} x {matte.height} pixels",
            )
    left, top, right, bottom = (
        round(length.of(side)) for length, side in zip(fields.roi, sides, strict=True)
    )
    alpha = np.zeros_like(matte.alpha)
    alpha[top:bottom, left:right] = matte.alpha[top:bottom, left:right]
    return replace(matte, alpha=alpha)


def _file(matte: Matte, pixels: Pixels, alpha: Alpha | None, format: str) -> Rendered:
    pixels = to_uint8(pixels)
    opacity = None if alpha is None else to_uint8(alpha)
    if format == "auto":
        is_clear = opacity is not None and bool((opacity < 255).any())
        format = "png" if is_clear or pixels.ndim == 2 else "jpg"
    if format == "zip":
        if opacity is None:
            opacity = np.full(pixels.shape[:2], 255, np.uint8)
        data = _zip(pixels, opacity)
    elif format == "jpg":
        data = encode(pixels, format="jpeg", quality=_JPEG_QUALITY)
    else:
        data = encode(pixels, opacity, format=format)
    kinds = {"zip": "application/zip", "jpg": "image/jpeg"}
    media_type = kinds.get(format, f"image/{format}")
    return Rendered(data, media_type, matte.width, matte.height)


def _zip(pixels: Pixels, alpha: NDArray[np.uint8]) -> bytes:
    """color.jpg and alpha.png, which hold less than one PNG with both."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("color.jpg", encode(pixels, format="jpeg", quality=_JPEG_QUALITY))
        archive.writestr("alpha.png", encode(alpha, format="png"))
    return buffer.getvalue()
