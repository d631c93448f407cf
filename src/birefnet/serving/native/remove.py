"""POST /v1/remove: one picture in, its cut-out out."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import Any
from urllib.parse import quote

from fastapi import APIRouter, Request
from fastapi.responses import Response

from birefnet.imaging.encoding import encode
from birefnet.serving.answers import data_uri, in_header, json_answer
from birefnet.serving.errors import InvalidRequest
from birefnet.serving.native import describe
from birefnet.serving.native.options import Answer, OptionFields, options_of
from birefnet.serving.native.request import read_options, read_source, read_values, with_format
from birefnet.serving.service import Result, Service


def router(service: Service) -> APIRouter:
    """`/v1/remove`."""
    routes = APIRouter(tags=["pictures"])
    tiny = {"image": describe.TINY_PNG}

    @routes.post(
        "/v1/remove",
        summary="Cut the subject out of a picture",
        response_class=Response,
        responses=describe.PICTURE | describe.ERRORS,
        openapi_extra=describe.body_of(
            "a picture: JPEG, PNG, WebP, TIFF, BMP, GIF, AVIF or HEIC",
            "image/*",
            examples={
                "cutout": tiny,
                "white ground as JPEG": tiny | {"background": "white", "format": "jpeg"},
                "mask with its figures": tiny | {"kind": "mask", "answer": "json"},
            },
        ),
    )
    async def remove(request: Request) -> Response:
        values = await read_values(request)
        source, name = await read_source(values, service)
        fields = await read_options(values, service, OptionFields)
        accept = request.headers.get("accept", "")
        options = with_format(options_of(fields), accept)
        wants_json = fields.answer == "json" or (
            fields.answer is None and "application/json" in accept
        )
        if options.objects and not wants_json:
            raise InvalidRequest(
                "objects makes a picture of each; ask for answer=json, or send a zip to /v1/batch"
            )
        encoded = not wants_json or fields.include_image
        async with service.removing(source, options, model=fields.model, encode=encoded) as result:
            if wants_json:
                return await service.in_thread(lambda: json_answer(as_json(result, fields)))
            assert result.data is not None
            return Response(
                result.data, media_type=result.media_type, headers=picture_headers(result, name)
            )

    return routes


def facts_of(result: Result) -> dict[str, Any]:
    """The facts of a result, without its pixels."""
    return {
        "model": result.model,
        **dict(zip(("width", "height"), result.size, strict=True)),
        "coverage": round(result.matte.coverage, 6),
        "confidence": round(result.matte.confidence, 6),
        "is_empty": result.matte.is_empty,
        "seconds": round(result.seconds, 4),
    }


def as_json(result: Result, fields: Answer) -> dict[str, Any]:
    """A result for programs; pictures are data URIs."""
    content = facts_of(result)
    if result.data is not None:
        content |= {"format": result.format, "image": data_uri(result.data, result.media_type)}
    if result.objects is not None:
        content["format"] = result.format
        content["objects"] = [
            {**facts, "image": data_uri(data, result.media_type)} for data, facts in result.objects
        ]
    if fields.include_mask:
        mask = encode(result.matte.mask(), format="png")
        content["mask"] = data_uri(mask, "image/png")
    return content


def picture_headers(result: Result, name: str = "") -> dict[str, str]:
    """The facts of a result as headers, for an answer that is the picture itself."""
    headers = {
        "X-Model": in_header(result.model),
        "X-Coverage": f"{result.matte.coverage:.6f}",
        "X-Confidence": f"{result.matte.confidence:.6f}",
        "X-Empty": str(result.matte.is_empty).lower(),
        "X-Seconds": f"{result.seconds:.4f}",
    }
    stem = PurePosixPath(name.replace("\\", "/")).stem[:100]
    if stem:
        file_name = quote(f"{stem}.{result.format}", safe="")
        headers["Content-Disposition"] = f"inline; filename*=UTF-8''{file_name}"
    return headers
