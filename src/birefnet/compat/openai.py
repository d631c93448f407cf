"""OpenAI's image editing: `POST /v1/images/edits`, whose only edit here removes the background.

Body and answers: https://platform.openai.com/docs/api-reference/images/createEdit and the types
of the `openai` package for Python 3.54, read in November 2026.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from birefnet.errors import counted, needs_extra

with needs_extra("serve", __name__):
    from fastapi import APIRouter, Request
    from starlette.responses import JSONResponse, Response

from birefnet.compat.http.body import Body, picture_of, read_body
from birefnet.compat.http.describe import forms_and_json
from birefnet.compat.http.files import address, files_of
from birefnet.compat.http.models import model_for
from birefnet.options import Options
from birefnet.serving.answers import base64_text, json_answer
from birefnet.serving.errors import Failure, InvalidRequest, ServingError
from birefnet.serving.registry import Registry
from birefnet.serving.service import Service

PATH = "/v1/images/edits"
MODELS = dict.fromkeys(("gpt-image-*", "chatgpt-image-*", "dall-e-2", "dall-e-3"), "")
"""Names that its clients send; see `model_for`."""
MOST_IMAGES = 16
MOST_COPIES = 10

_TEXT = {"type": "string"}
SCHEMA: dict[str, object] = {
    "prompt": _TEXT | {"description": "accepted, not used: the edit is always the same"},
    "model": _TEXT | {"description": "one of /v1/models; left out: the default"},
    "n": {"type": "integer", "minimum": 1, "maximum": MOST_COPIES, "default": 1},
    "background": _TEXT | {"enum": ["transparent", "opaque", "auto"], "default": "auto"},
    "output_format": _TEXT | {"enum": ["png", "webp", "jpeg"], "default": "png"},
    "output_compression": {"type": "integer", "minimum": 0, "maximum": 100},
    "response_format": _TEXT | {"enum": ["b64_json", "url"], "default": "b64_json"},
    "size": _TEXT | {"description": "accepted, not used: results have the picture's size"},
    "quality": _TEXT | {"description": "accepted, not used"},
    "input_fidelity": _TEXT | {"description": "accepted, not used"},
    "user": _TEXT | {"description": "accepted, not used"},
    "stream": {"type": "boolean", "description": "answer with an event for each picture"},
}
"""The fields beside the pictures, for the OpenAPI document."""

_KINDS = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
_CODES = {
    "unauthorised": "invalid_api_key",
    "unknown_model": "model_not_found",
    "busy": "rate_limit_exceeded",
    "invalid_picture": "invalid_image_file",
    "url_not_fetched": "invalid_image_url",
}


class ParameterError(ServingError):
    """A field that cannot be used; `code` is its name, which the answer calls `param`."""

    def __init__(self, name: str, message: str) -> None:
        super().__init__(message)
        self.code = f"param:{name}"


def error_response(failure: Failure) -> Response:
    """{"error": {"message", "type", "param", "code"}}."""
    param: str | None = None
    code = _CODES.get(failure.code, failure.code)
    if code.startswith("param:"):
        param, code = code.removeprefix("param:"), "invalid_value"
    status = 400 if failure.status in (413, 415, 422) else failure.status
    kind = "server_error" if status >= 500 else _KINDS.get(status, "invalid_request_error")
    error = {"message": failure.message, "type": kind, "param": param, "code": code}
    return JSONResponse({"error": error}, status, failure.headers)


_TEXT_OR_NULL = {"type": ["string", "null"]}
ERROR_SCHEMA: dict[str, object] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": _TEXT,
                "type": _TEXT,
                "param": _TEXT_OR_NULL,
                "code": _TEXT_OR_NULL,
            },
        }
    },
}


def register_routes(registry: Registry) -> None:
    """Add `POST /v1/images/edits` and `GET /v1/models/{model}`."""
    service = registry.service
    routes = APIRouter(tags=["compatible: OpenAI"])
    picture = _TEXT | {"description": "a data URI, base64 or URL"}
    described = forms_and_json(
        {**SCHEMA, "images": {"type": "array", "items": {"type": "object"}}, "image_url": picture},
        ("image", "mask"),
    )

    @routes.post(PATH, summary="OpenAI: remove the background", openapi_extra=described)
    async def edit(request: Request) -> Response:
        body = await read_body(request, service)
        options = await _options(body, service)
        copies = _whole(body, "n", 1, 1, MOST_COPIES)
        as_url = _choice(body, "response_format", ("b64_json", "url")) == "url"
        sources = await _pictures(body, service)
        if len(sources) > 1 and (copies > 1 or options.guide is not None):
            raise ParameterError("n", "several images give one result each; leave out n and mask")
        model, headers = model_for(service, body.get("model"), MODELS)
        is_streamed = _boolean(body, "stream")
        as_url = as_url and not is_streamed  # events hold the picture itself
        entries: list[dict[str, Any]] = []
        first = ""
        for data in sources:
            result = await service.remove(data, options, model=model)
            assert result.data is not None
            if as_url:
                path = await service.in_thread(
                    files_of(service).add,
                    result.data,
                    f"edit.{result.format}",
                    result.media_type,
                )
                entry = {"url": address(request, path)}
            else:
                entry = {"b64_json": await service.in_thread(base64_text, result.data)}
            entries += [entry] * copies
            first = first or "{}x{}".format(*result.size)
        # Nothing is counted in tokens here, but clients read the numbers.
        none = {"image_tokens": 0, "text_tokens": 0}
        counts = dict.fromkeys(("input_tokens", "output_tokens", "total_tokens"), 0)
        content = {
            "created": int(time.time()),
            "background": "transparent" if options.background is None else "opaque",
            "output_format": result.format,
            "size": first,
            "data": entries,
            "usage": {**counts, "input_tokens_details": none},
        }
        if is_streamed:
            return await service.in_thread(_events, content, headers)
        return await service.in_thread(json_answer, content, headers)

    @routes.get("/v1/models/{model:path}", summary="OpenAI: one model")
    async def one_model(model: str) -> JSONResponse:
        name, headers = model_for(service, model, MODELS)
        return JSONResponse({**service.pool.about_one(name), "id": model}, headers=headers)

    registry.add(
        routes,
        error_forms=dict.fromkeys(("/v1/images", "/v1/models/"), error_response),
        error_schema=ERROR_SCHEMA,
    )


def _events(content: dict[str, Any], headers: Mapping[str, str]) -> Response:
    """The answer of `stream=true`: an event for each picture, all at the end."""
    shared = {name: content[name] for name in ("background", "output_format", "size", "usage")}
    shared |= {"type": _EVENT, "created_at": content["created"], "quality": "auto"}
    parts: list[bytes] = []
    for entry in content["data"]:
        data = bytes(json_answer({**shared, **entry}).body)
        parts += [f"event: {_EVENT}\ndata: ".encode(), data, b"\n\n"]
    return Response(b"".join(parts), media_type="text/event-stream", headers=headers)


_EVENT = "image_edit.completed"


async def _options(body: Body, service: Service) -> Options:
    """The options for these fields.

    Raises:
        ParameterError: a field that cannot be used.
    """
    if "model" in body and not isinstance(body["model"], str):
        raise ParameterError("model", "model is not text; give one of /v1/models")
    ground = _choice(body, "background", ("auto", "transparent", "opaque"))
    format = _choice(body, "output_format", ("png", "webp", "jpeg"))
    if ground == "transparent" and format == "jpeg":
        raise ParameterError(
            "output_format", "a JPEG cannot be transparent; give png or webp, or background=opaque"
        )
    is_opaque = ground == "opaque" or (ground == "auto" and format == "jpeg")
    quality = None
    if "output_compression" in body:
        share = _whole(body, "output_compression", 100, 0, 100)
        quality = None if format == "png" else max(1, share)
    guide = None
    if "mask" in body:
        guide = await picture_of(_inner(body["mask"], "mask"), "mask", service)
    return Options(
        format=format, quality=quality, guide=guide, background="white" if is_opaque else None
    )


async def _pictures(body: Body, service: Service) -> list[bytes]:
    """Pictures by any of the names that they come under."""
    images: list[object] = []
    for name in ("image", "image[]", "images", "image_url"):
        value = body.get(name)
        if value is not None:
            images += value if isinstance(value, list) else [value]
    if not images:
        raise ParameterError("image", "no image is given; send one as a file, data URI or URL")
    if len(images) > MOST_IMAGES:
        raise ParameterError(
            "image", f"got {counted(len(images), 'image')}; send at most {MOST_IMAGES}"
        )
    return [await picture_of(_inner(value, "image"), "image", service) for value in images]


def _inner(value: object, name: str) -> object:
    """The picture inside an object such as {"image_url": …} of the JSON form."""
    if isinstance(value, dict):
        if "file_id" in value:
            raise ParameterError(name, "no files are stored here; send the picture itself")
        value = value.get("image_url")
    if isinstance(value, list):
        value = value[0] if len(value) == 1 else None
    if isinstance(value, dict):  # {"image_url": {"url": …}}, as in messages
        value = value.get("url")
    if not isinstance(value, (str, bytes)) or not value:
        raise ParameterError(name, f"{name} holds no picture; give a file, data URI or URL")
    return value


def _choice(body: Body, name: str, choices: tuple[str, ...]) -> str:
    value = body.get(name, choices[0])
    if value not in choices:
        raise ParameterError(
            name, f"{name} is {str(value)[:40]!r}; give one of {', '.join(choices)}"
        )
    return str(value)


def _whole(body: Body, name: str, default: int, least: int, most: int) -> int:
    value = body.get(name, default)
    try:
        number = value if type(value) is int else int(str(value))
    except ValueError:
        number = least - 1
    if not least <= number <= most:
        raise ParameterError(name, f"{name} is {str(value)[:40]!r}; give {least} to {most}")
    return number


def _boolean(body: Body, name: str) -> bool:
    text = str(body.get(name, False)).strip().lower()
    if text in ("true", "1", "yes", "on", "y", "t"):
        return True
    if text in ("false", "0", "no", "off", "n", "f"):
        return False
    raise InvalidRequest(f"{name} is {text[:40]!r}; give true or false")
