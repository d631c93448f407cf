"""Answers of JSON, with files in them as base64."""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Mapping
from urllib.parse import quote

from birefnet.errors import needs_extra

with needs_extra("serve", __name__):
    from starlette.responses import Response


_PIECE = 3 * 2**16  # bytes of base64, without padding between them
_MARK = f"<{secrets.token_hex(16)}>"


def in_header(text: str) -> str:
    """Text as a header can hold it: what is not ASCII is percent-encoded."""
    return quote(text, safe=" /:.()")


def data_uri(data: bytes, media_type: str) -> str:
    """data:image/png;base64,…"""
    return f"data:{media_type};base64,{base64_text(data)}"


def base64_text(data: bytes) -> str:
    """Base64, made in pieces, between which other threads have their turn."""
    pieces = range(0, len(data), _PIECE)
    return b"".join(base64.b64encode(data[at : at + _PIECE]) for at in pieces).decode("ascii")


def json_answer(content: object, headers: Mapping[str, str] | None = None) -> Response:
    """An answer of JSON. Long base64 in it is put in as it is, for an encoder would hold up all
    other requests while it looks for what to escape."""
    texts: list[str] = []

    def lift(value: object) -> object:
        if isinstance(value, dict):
            return {name: lift(item) for name, item in value.items()}
        if isinstance(value, list):
            return [lift(item) for item in value]
        if isinstance(value, str) and len(value) > _PIECE:
            texts.append(value)
            return _MARK
        return value

    parts = json.dumps(lift(content), ensure_ascii=False, allow_nan=False).split(_MARK)
    body = [parts[0].encode()]
    for text, part in zip(texts, parts[1:], strict=True):
        body += [text.encode(), part.encode()]
    return Response(b"".join(body), media_type="application/json", headers=headers)
