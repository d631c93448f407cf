"""Descriptions of the native routes for the OpenAPI document, with examples that work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from birefnet.serving.native.options import OptionFields

TINY_PNG = (
    "iVBORw0KGgoAAAANSUhEUgAAABgAAAAYCAAAAADFHGIkAAAAS0lEQVR42mMUYcAOmBhoL8GCYF5nYGDQ"
    "hPMYRZCEGZCkmNDE4QwmNHE4k4CrriMLXaeNzzWRhTSJMkoTXQNchyaaOCKscAbiQEQtAOelCX9SZBNp"
    "AAAAAElFTkSuQmCC"
)
"""A bright disc of 24 x 24 pixels, for the examples."""

ERROR: dict[str, object] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_DESCRIPTIONS = {
    400: "The request or its picture makes no sense; the message says why.",
    401: "No API key, or a wrong one.",
    404: "No such model, job or path.",
    413: "Too many bytes.",
    415: "A body of a kind that is not read here.",
    429: "The queue is full; Retry-After says when to come again.",
    503: "The server is overloaded, out of memory or shutting down.",
}
ERRORS: dict[int | str, dict[str, object]] = {
    status: {"description": text, "content": {"application/json": {"schema": ERROR}}}
    for status, text in _DESCRIPTIONS.items()
}


def errors_like(schema: dict[str, object]) -> dict[int | str, dict[str, Any]]:
    """Every error of a family of routes, in the form that it has there."""
    content = {"application/json": {"schema": schema}}
    return {
        "4XX": {"description": "The request cannot be served; it says why.", "content": content},
        "5XX": {"description": "The server cannot serve it now.", "content": content},
    }


_BINARY = {"schema": {"type": "string", "format": "binary"}}
_NUMBER = {"type": "number", "minimum": 0, "maximum": 1}
PICTURE: dict[int | str, dict[str, object]] = {
    200: {
        "description": "The picture; or, with answer=json or Accept: application/json, all of it.",
        "content": {
            **{f"image/{name}": _BINARY for name in ("png", "webp", "jpeg", "tiff", "avif")},
            "application/json": {
                "schema": {
                    "type": "object",
                    "required": ["model", "width", "height", "coverage", "confidence", "is_empty"],
                    "properties": {
                        "model": {"type": "string"},
                        "width": {"type": "integer"},
                        "height": {"type": "integer"},
                        "coverage": _NUMBER,
                        "confidence": _NUMBER,
                        "is_empty": {"type": "boolean"},
                        "seconds": {"type": "number"},
                        "format": {"type": "string"},
                        "image": {"type": "string", "description": "data URI"},
                        "objects": {"type": "array", "items": {"type": "object"}},
                        "mask": {"type": "string", "description": "data URI of a PNG"},
                    },
                }
            },
        },
    }
}


def body_of(
    what: str,
    media_type: str,
    model: type[BaseModel] = OptionFields,
    examples: Mapping[str, object] | None = None,
) -> dict[str, Any]:
    """`openapi_extra` of a route: the ways to send a file and the fields beside it."""
    options = model.model_json_schema()["properties"]
    form = {"file": {"type": "string", "format": "binary", "description": what}, **options}
    image = {"type": "string", "description": f"{what}; base64 or data URI"}
    url = {"type": "string", "format": "uri", "description": f"where to fetch {what}"}
    as_json: dict[str, object] = {
        "schema": {
            "type": "object",
            "properties": {"image": image, "url": url, **options},
            "oneOf": [{"required": ["image"]}, {"required": ["url"]}],
            "additionalProperties": False,
        }
    }
    if examples:
        as_json["examples"] = {name: {"value": value} for name, value in examples.items()}
    content = {
        "multipart/form-data": {
            "schema": {"type": "object", "required": ["file"], "properties": form}
        },
        "application/json": as_json,
        media_type: _BINARY,
    }
    return {"requestBody": {"required": True, "content": content}}
