"""POST /v1/batch: a zip of pictures in, a zip of results out, sent while it is made."""

from __future__ import annotations

import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from birefnet.options import Options
from birefnet.serving.errors import Failure
from birefnet.serving.native import describe
from birefnet.serving.native.options import OptionFields, options_of
from birefnet.serving.native.remove import facts_of
from birefnet.serving.native.request import open_source, read_options, read_values
from birefnet.serving.service import Service, checked_format, safe_options
from birefnet.serving.zips import Names, Unzipped, ZipStream, results

MANIFEST = "manifest.jsonl"

ABREAST = 8  # pictures of one zip that are under way; others of the server go between


def router(service: Service) -> APIRouter:
    """`/v1/batch`."""
    routes = APIRouter(tags=["pictures"])

    @routes.post(
        "/v1/batch",
        summary="Cut the subjects out of all pictures in a zip",
        response_class=StreamingResponse,
        responses={
            200: {
                "description": "A zip of the same structure, with manifest.jsonl at its end: a "
                "line of JSON for each file, with its error where it failed.",
                "content": {"application/zip": {}},
            },
            **describe.ERRORS,
        },
        openapi_extra=describe.body_of("a zip of pictures", "application/zip"),
    )
    async def batch(request: Request) -> Response:
        values = await read_values(request)
        source = await open_source(values, service)
        fields = await read_options(values, service, OptionFields)
        # What is wrong for all pictures is said once, before the answer begins.
        model = service.pool.name_of(fields.model)
        options = options_of(fields)
        format = checked_format(options)
        options = await service.in_thread(lambda: safe_options(options, service.limits).prepared())
        unzipped = await service.in_thread(Unzipped, source, service.settings)
        return StreamingResponse(
            _stream(service, unzipped, options, model, f".{format}"),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="cutouts.zip"'},
        )

    return routes


async def _stream(
    service: Service, unzipped: Unzipped, options: Options, model: str, suffix: str
) -> AsyncIterator[bytes]:
    """The zip's bytes."""
    stream = ZipStream()
    lines: list[dict[str, Any]] = []
    names = Names(unzipped.entries, suffix)
    done = results(
        unzipped.entries,
        service,
        options,
        model,
        abreast=min(ABREAST, service.settings.queue),
        keep=lambda result: (facts_of(result), result.data, result.objects),
    )
    async with contextlib.aclosing(done):
        async for entry, kept in done:
            if isinstance(kept, Failure):
                problem = {"code": kept.code, "message": kept.message}
                lines.append({"input": entry.name, "status": "failed", "error": problem})
                continue
            facts, data, objects = kept
            line = {"input": entry.name, "status": "done", **facts}
            if data is not None:
                line["output"] = names.of(entry)
                yield await service.in_thread(stream.add, line["output"], data)
            elif objects is not None:
                line["objects"] = []
                for part, about in objects:
                    name = names.numbered(entry, about["number"])
                    line["objects"].append({"output": name, **about})
                    yield await service.in_thread(stream.add, name, part)
            lines.append(line)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    yield stream.add(MANIFEST, text.encode())
    yield stream.end()
