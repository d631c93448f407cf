"""Bodies and errors that several services share, for the OpenAPI document."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

PROBLEM: dict[str, Any] = {
    "type": "object",
    "required": ["loc", "msg", "type"],
    "properties": {
        "loc": {"type": "array", "items": {"type": ["string", "integer"]}},
        "msg": {"type": "string"},
        "type": {"type": "string"},
    },
}
"""One entry of FastAPI's own list of errors, which rembg's server and fal.ai answer with."""


def forms_and_json(fields: Mapping[str, Any], files: Sequence[str]) -> dict[str, Any]:
    """`openapi_extra` of a route: the same fields in both forms and in JSON.

    Args:
        fields: schema of each by name.
        files: names of those that hold a file, in the multipart form only.
    """
    binary = {"type": "string", "format": "binary"}
    plain = {"type": "object", "properties": dict(fields)}
    multipart = {"type": "object", "properties": {**dict.fromkeys(files, binary), **fields}}
    content = {
        "multipart/form-data": {"schema": multipart},
        "application/x-www-form-urlencoded": {"schema": plain},
        "application/json": {"schema": plain},
    }
    return {"requestBody": {"required": True, "content": content}}


def json_only(schema: Mapping[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that takes a JSON object."""
    content = {"application/json": {"schema": dict(schema)}}
    return {"requestBody": {"required": True, "content": content}}
