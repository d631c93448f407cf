"""rembg's server: `GET` and `POST /api/remove`.

Parameters: https://github.com/danielgatis/rembg, `rembg s` and its page /api (read November 2026).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Annotated, Any

from birefnet.errors import BiRefNetError, needs_extra

with needs_extra("serve", __name__):
    from fastapi import APIRouter, Form, Query, Request, UploadFile
    from pydantic import BaseModel, Field
    from starlette.responses import JSONResponse, Response

from birefnet.compat.http.describe import PROBLEM
from birefnet.compat.http.models import model_for
from birefnet.compat.rembg.arguments import GUIDANCE, guidance_of
from birefnet.compat.rembg.names import BACKGROUND, ERODE, FOREGROUND, MODELS, OTHERS
from birefnet.compat.rembg.render import band_of, render
from birefnet.imaging.encoding import encode
from birefnet.options import Options
from birefnet.serving.errors import Failure, InvalidRequest
from birefnet.serving.json_guard import read_object
from birefnet.serving.registry import Registry
from birefnet.serving.service import MOST_MARKS, Service, safe_colour

PATH = "/api/remove"

NAMES = {**MODELS, **dict.fromkeys(OTHERS, "")}
"""Names of networks that rembg's clients send, and those here that they mean."""


def error_response(failure: Failure) -> Response:
    """FastAPI's own form, which rembg's server uses."""
    message = failure.message
    status = 422 if failure.code in ("invalid_request", "unknown_model") else failure.status
    detail: object = message
    if status == 422:  # as FastAPI documents it
        location = ["body", "model"] if failure.code == "unknown_model" else ["body"]
        detail = [{"loc": location, "msg": message, "type": "value_error"}]
    return JSONResponse({"detail": detail}, status, failure.headers)


ERROR_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "string"}},
}
_PROBLEMS = {
    "type": "object",
    "required": ["detail"],
    "properties": {"detail": {"type": "array", "minItems": 1, "items": PROBLEM}},
}


class Parameters(BaseModel):
    """The fields of both methods, by rembg's names."""

    model: str = Field("", max_length=200, description="one of /v1/models; empty: the default")
    a: bool = Field(False, description="find alpha anew inside the uncertain band")
    af: int = Field(FOREGROUND, ge=0, le=255, description="accepted, not used")
    ab: int = Field(BACKGROUND, ge=0, le=255, description="accepted, not used")
    ae: int = Field(ERODE, ge=0, le=1000, description="width of that band")
    om: bool = Field(False, description="only the mask")
    ppm: bool = Field(False, description="smooth the mask and make it all or nothing")
    dc: bool = Field(False, description="accepted; the old background's colour always goes")
    vm: bool = Field(False, description="there is no ViTMatte here: the same as `a`")
    bgc: str = Field("", max_length=100, description="background colour: R,G,B,A")
    extras: str = Field("", max_length=100_000, description="JSON: boxes, points, sam_prompt")


class FromUrl(Parameters):
    """`GET`."""

    url: str = Field(min_length=1, description="of the picture")


class FromFile(Parameters):
    """`POST`."""

    file: UploadFile = Field(description="the picture")


def register_routes(registry: Registry) -> None:
    """Add `GET` with a URL, and `POST` with a file."""
    service = registry.service
    # Of the newer and the older releases of Gradio.
    registry.page_endpoints |= dict.fromkeys(("inference", "predict"), _page_endpoint(service))
    routes = APIRouter(tags=["compatible: rembg"])
    answers: dict[int | str, dict[str, object]] = {
        200: {"content": {"image/png": {}}},
        422: {
            "description": "A field that cannot be used.",
            "content": {"application/json": {"schema": _PROBLEMS}},
        },
    }

    async def answer(data: bytes, parameters: Parameters) -> Response:
        png, headers = await _remove(service, data, parameters)
        return Response(png, media_type="image/png", headers=headers)

    @routes.get(PATH, summary="rembg: remove from URL", response_class=Response, responses=answers)
    async def from_url(parameters: Annotated[FromUrl, Query()]) -> Response:
        return await answer(await service.fetch(parameters.url), parameters)

    @routes.post(
        PATH, summary="rembg: remove from file", response_class=Response, responses=answers
    )
    async def from_file(
        request: Request, parameters: Annotated[FromFile, Form(media_type="multipart/form-data")]
    ) -> Response:
        # Some releases of rembg take these two from the address of a POST.
        for name in ("bgc", "extras"):
            if not getattr(parameters, name):
                setattr(parameters, name, request.query_params.get(name, ""))
        return await answer(await parameters.file.read(), parameters)

    registry.add(routes, error_forms={PATH: error_response}, error_schema=ERROR_SCHEMA)


async def _remove(
    service: Service, data: bytes, parameters: Parameters
) -> tuple[bytes, dict[str, str]]:
    """A PNG, and headers that name the model."""
    model, headers = model_for(service, parameters.model, NAMES)
    options = options_of(parameters)
    network = replace(options, kind="mask", background=None, matting="none", band=None)
    async with service.removing(data, network, model=model, encode=False) as result:

        def make() -> bytes:
            pixels = render(result.matte, options, post_process=parameters.ppm)
            return encode(pixels, format="png")

        return await service.in_thread(make), headers


def _page_endpoint(service: Service) -> Callable[..., Awaitable[tuple[bytes, str]]]:
    """The endpoint of the page of rembg's server, for programs."""

    # Names and defaults are those that Gradio gives rembg's form: a client may leave out arguments.
    async def inference(
        input_image: bytes,
        model: str = "",
        param_2: bool = True,
        param_3: float = 240,
        param_4: float = 10,
        param_5: float = 40,
        param_6: bool = False,
        param_7: bool = True,
        param_8: bool = False,
        param_9: bool = False,
        param_10: str = "",
    ) -> tuple[bytes, str]:
        """rembg's own endpoint: a, af, ab, ae, om, ppm, dc, vm and extras of its server."""
        values: dict[str, Any] = {
            "a": param_2,
            "af": param_3,
            "ab": param_4,
            "ae": param_5,
            "om": param_6,
            "ppm": param_7,
            "dc": param_8,
            "vm": param_9,
            "extras": param_10 or "",
        }
        png, _ = await _remove(service, input_image, Parameters(model=model, **values))
        return png, "png"

    return inference


def options_of(parameters: Parameters) -> Options:
    """The options for these parameters.

    Raises:
        InvalidRequest: extras that are no JSON or hold something unknown.
    """
    choices: dict[str, Any] = {"kind": "mask" if parameters.om else "cutout", "format": "png"}
    if parameters.bgc and not parameters.om:
        choices["background"] = safe_colour("background", parameters.bgc)  # never a path
    if parameters.a or parameters.vm:
        choices |= {"matting": "guided", "band": band_of(parameters.ae)}
    return Options(**choices | _guidance_in(parameters.extras)).prepared()


def _guidance_in(extras: str) -> dict[str, Any]:
    """Boxes and points of rembg's extras, as `Options` takes them.

    Raises:
        InvalidRequest: see `options_of`.
    """
    if not extras:
        return {}
    named = read_object(extras, "extras")
    if not set(named) <= set(GUIDANCE):
        raise InvalidRequest(f"extras is an object with one of {', '.join(GUIDANCE)}")
    texts = [mark for marks in named.values() if isinstance(marks, list) for mark in marks]
    if any(isinstance(mark, str) for mark in texts):
        raise InvalidRequest("a mark in extras is not a list of numbers")
    if any(len(marks) > MOST_MARKS for marks in named.values() if isinstance(marks, list)):
        raise InvalidRequest(f"extras holds a list of more than {MOST_MARKS} marks; give fewer")
    try:
        return guidance_of(named)
    except BiRefNetError as error:
        raise InvalidRequest(f"extras: {error}") from error
