"""POST /v1/batch: a zip of pictures in, a zip of results out, sent while it is made."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import Response, StreamingResponse

from birefnet.errors import ImageError
from birefnet.options import Options
from birefnet.serving.errors import failure_of, report
from birefnet.serving.native import describe
from birefnet.serving.native.options import OptionFields, options_of
from birefnet.serving.native.remove import facts_of
from birefnet.serving.native.request import open_source, read_options, read_values
from birefnet.serving.service import ObjectResult, Service, checked_format, safe_options
from birefnet.serving.settings import ServerSettings
from birefnet.serving.zips import Entry, Names, Unzipped, ZipStream

MANIFEST = "manifest.jsonl"
_Done = tuple[dict[str, Any], bytes | None, tuple[ObjectResult, ...] | None]

ABREAST = 8  # pictures of one zip that are under way; others of the server go between


def router(service: Service, settings: ServerSettings) -> APIRouter:
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
        openapi_extra=describe.body_of_file("a zip of pictures", "application/zip", OptionFields),
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
        unzipped = await service.in_thread(Unzipped, source, settings)
        return StreamingResponse(
            _stream(service, unzipped, options, model, f".{format}"),
            media_type="application/zip",
            headers={"Content-Disposition": 'attachment; filename="cutouts.zip"'},
        )

    return routes


async def _stream(
    service: Service, unzipped: Unzipped, options: Options, model: str, suffix: str
) -> AsyncIterator[bytes]:
    """The zip's bytes, in the order of the entries, whichever is done first."""
    stream = ZipStream()
    lines: list[dict[str, Any]] = []
    names = Names(unzipped.entries, suffix)
    waiting = deque(unzipped.entries)
    width = min(ABREAST, service.settings.queue)
    running: deque[tuple[Entry, asyncio.Task[_Done]]] = deque()
    reading = asyncio.Lock()  # a zip is one file: entries are read one after the other

    async def one(entry: Entry) -> _Done:
        if entry.path is not None and not entry.is_picture:
            raise ImageError("its name is not that of a picture")
        async with reading:
            data = await service.in_thread(unzipped.read, entry)
        result = await service.remove(data, options, model=model, wait=True)
        return facts_of(result), result.data, result.objects  # not its matte, which is large

    try:
        while waiting or running:
            while waiting and len(running) < width:
                entry = waiting.popleft()
                running.append((entry, asyncio.create_task(one(entry))))
            entry, task = running.popleft()
            try:
                facts, data, objects = await task
            except Exception as error:
                failure = failure_of(error)
                report(f"{entry.name[:100]!r} of a zip", failure, error)
                problem = {"code": failure.code, "message": failure.message}
                lines.append({"input": entry.name, "status": "failed", "error": problem})
                continue
            line = {"input": entry.name, "status": "done", **facts}
            if data is not None:
                line["output"] = names.of(entry)
                yield await service.in_thread(stream.add, line["output"], data)
            elif objects is not None:
                line["objects"] = []
                for part in objects:
                    name = names.numbered(entry, part.number)
                    line["objects"].append({"output": name, **part.facts})
                    yield await service.in_thread(stream.add, name, part.data)
            lines.append(line)
        text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        yield stream.add(MANIFEST, text.encode())
        yield stream.end()
    finally:
        for _, task in running:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)
