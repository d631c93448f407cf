"""fal.ai's BiRefNet: direct answers, and its queue.

`POST /fal-ai/birefnet/v2` (and `/v2/video`) answers directly, as https://fal.run does; it queues,
as https://queue.fal.run does, below `/queue/` or under a host name that begins with `queue.`. Read
from https://docs.fal.ai/model-endpoints/queue and the package `fal-client` 1.0 in November 2026.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import ValidationError
from starlette.responses import JSONResponse, Response, StreamingResponse

from birefnet.compat.fal.fields import (
    ERROR_SCHEMA,
    MODELS,
    ImageInput,
    Input,
    MediaFile,
    VideoInput,
    error_response,
    validation_response,
)
from birefnet.compat.fal.run import cut_image, cut_video
from birefnet.compat.http.body import read_body
from birefnet.compat.http.describe import json_only
from birefnet.compat.http.files import address, files_of
from birefnet.compat.http.models import model_for
from birefnet.errors import BiRefNetError
from birefnet.serving.answers import data_uri, json_answer
from birefnet.serving.errors import (
    Failure,
    InvalidRequest,
    NotFound,
    ServingError,
    reported,
)
from birefnet.serving.jobs import Job
from birefnet.serving.limits import owner_of
from birefnet.serving.registry import Registry
from birefnet.serving.service import Service

APP = "/fal-ai/birefnet"
QUEUE = "/queue"
_POLL_S = 0.1

Output = dict[str, object]


@dataclass(frozen=True)
class Endpoint:
    """One endpoint: a path and its work.

    Attributes:
        paths: below `APP`.
        kind: of its input.
        file: the field that names the file.
        work: gives the results by the names of the output.
        job_kind: kind of its jobs; only so many of a kind run at the same time.
    """

    paths: tuple[str, ...]
    kind: type[Input]
    file: str
    work: Callable[[Any, Job | None, str], Awaitable[dict[str, MediaFile | None]]]
    job_kind: str


def register_routes(registry: Registry) -> None:
    """Add both endpoints, directly and queued."""
    service = registry.service
    routes = APIRouter(tags=["compatible: fal.ai"])
    image = Endpoint(("/v2", ""), ImageInput, "image_url", partial(cut_image, service), "fal")
    video = Endpoint(("/v2/video",), VideoInput, "video_url", partial(cut_video, service), "video")

    def output(request: Request, inputs: Input, files: Mapping[str, MediaFile | None]) -> Output:
        return {
            name: None if result is None else _file(request, inputs, result, service)
            for name, result in files.items()
        }

    async def submit(request: Request, endpoint: Endpoint) -> Response:
        host = request.url.hostname or ""
        is_queued = request.url.path.startswith(QUEUE) or host.startswith("queue.")
        body = await read_body(request, service)
        try:
            inputs = endpoint.kind.model_validate(body)
        except ValidationError as error:
            return validation_response(error)
        model, headers = model_for(service, inputs.model, MODELS)
        if is_queued and "fal_webhook" in request.query_params:
            raise InvalidRequest("this server calls no webhooks; poll the status_url instead")

        if not is_queued and endpoint is image:
            try:
                files = await endpoint.work(inputs, None, model)
            except (BiRefNetError, ServingError) as error:
                return error_response(reported(error, "a request to fal.ai's route"), endpoint.file)
            return await service.in_thread(
                lambda: json_answer(output(request, inputs, files), headers)
            )

        async def work(job: Job) -> Output:
            files = await endpoint.work(inputs, job, model)
            return await service.in_thread(output, request, inputs, files)

        job = service.jobs.create(endpoint.job_kind, owner_of(request, service.settings))
        job.detail = {"endpoint": endpoint.kind.__name__, "file": endpoint.file, "headers": headers}
        service.jobs.start(job, work)
        if is_queued:
            return JSONResponse(
                {"queue_position": 0, **_status(request, job, service)}, headers=headers
            )
        assert job.task is not None
        try:
            await job.task
        finally:  # done, or the client has gone
            service.jobs.remove(job)
        return _answer(job)

    for endpoint in (image, video):
        _add_submit(routes, endpoint, partial(submit, endpoint=endpoint))
    _add_requests(routes, service)
    registry.add(
        routes,
        error_forms={APP: error_response, QUEUE + APP: error_response},
        error_schema=ERROR_SCHEMA,
    )


def _add_requests(routes: APIRouter, service: Service) -> None:
    """Add the paths below which clients ask about a queued request."""

    def job_of(request: Request, request_id: str) -> Job:
        job = service.jobs.get(request_id, owner=owner_of(request, service.settings))
        if "endpoint" not in job.detail:
            raise NotFound("there is no such request; results are kept for a limited time")
        return job

    async def status(request: Request, request_id: str) -> Response:
        job = job_of(request, request_id)
        return JSONResponse(_status(request, job, service), 200 if job.is_over else 202)

    async def stream(request: Request, request_id: str) -> Response:
        job = job_of(request, request_id)

        async def events() -> AsyncIterator[str]:
            last = ""
            while True:
                is_over = job.is_over  # asked first: it may end while its state is being sent
                now = json.dumps(_status(request, job, service))
                if now != last:
                    yield f"data: {now}\n\n"
                    last = now
                if is_over:
                    return
                await asyncio.sleep(_POLL_S)

        return StreamingResponse(events(), media_type="text/event-stream")

    async def result(request: Request, request_id: str) -> Response:
        job = job_of(request, request_id)
        if not job.is_over:
            return JSONResponse({"detail": "Request is still in progress"}, 400)
        return _answer(job)

    async def cancel(request: Request, request_id: str) -> Response:
        job = job_of(request, request_id)
        if job.is_over:
            return JSONResponse({"status": "ALREADY_COMPLETED"}, 400)
        service.jobs.cancel(job)
        return JSONResponse({"status": "CANCELLATION_REQUESTED"}, 202)

    # Clients ask below the app's name; some below the whole path that they submitted to.
    for base in (APP, f"{APP}/v2", f"{APP}/v2/video"):
        for prefix in ("", QUEUE):
            is_shown = base == APP and not prefix
            for path, call, method, summary in (
                ("/status", status, "GET", "fal.ai: how far a request is"),
                ("/status/stream", stream, "GET", "fal.ai: the same as events"),
                ("", result, "GET", "fal.ai: the result of a request"),
                ("/cancel", cancel, "PUT", "fal.ai: cancel a request"),
            ):
                routes.add_api_route(
                    f"{prefix}{base}/requests/{{request_id}}{path}",
                    call,
                    methods=[method],
                    summary=summary,
                    include_in_schema=is_shown,
                    response_class=Response,
                    responses={
                        200: {"content": {"text/event-stream": {}}}
                        if path.endswith("stream")
                        else _JSON,
                        202: _JSON,
                        **({400: _OVER} if call is cancel else {}),
                    },
                )


def _answer(job: Job) -> Response:
    """The result of a job that is over."""
    if job.failure is not None:
        return error_response(job.failure, job.detail["file"])
    if job.status == "cancelled":
        return error_response(Failure(410, "cancelled", "the request was cancelled"))
    return json_answer(job.result, job.detail["headers"])


_OVER: dict[str, object] = {
    "description": "The request is over, or cannot be understood.",
    "content": {
        "application/json": {
            "schema": {
                "anyOf": [
                    {
                        "type": "object",
                        "required": ["status"],
                        "properties": {"status": {"const": "ALREADY_COMPLETED"}},
                    },
                    ERROR_SCHEMA,
                ]
            }
        }
    },
}
_JSON: dict[str, object] = {"description": "How far it is.", "content": {"application/json": {}}}


def _add_submit(
    routes: APIRouter, endpoint: Endpoint, submit: Callable[..., Awaitable[Response]]
) -> None:
    async def call(request: Request) -> Response:
        return await submit(request)

    what = "video" if endpoint.kind is VideoInput else "image"
    ways = (("", "directly"), (QUEUE, "queued"))
    for path, (prefix, how) in product(endpoint.paths, ways):
        routes.add_api_route(
            prefix + APP + path,
            call,
            methods=["POST"],
            summary=f"fal.ai: {what}, {how}",
            include_in_schema=bool(path),
            name=f"fal_{what}_{how}",
            response_class=Response,
            responses={200: {"content": {"application/json": {}}}},
            openapi_extra=json_only(endpoint.kind.model_json_schema()),
        )


def _status(request: Request, job: Job, service: Service) -> Output:
    """How far a request is, as its client's library reads it."""
    path = request.url.path
    prefix = QUEUE if path.startswith(QUEUE) else ""
    base = address(request, f"{prefix}{APP}/requests/{job.id}")
    answer: Output = {
        "status": {"queued": "IN_QUEUE", "running": "IN_PROGRESS"}.get(job.status, "COMPLETED"),
        "request_id": job.id,
        "response_url": base,
        "status_url": f"{base}/status",
        "cancel_url": f"{base}/cancel",
        "logs": [],
    }
    if job.status == "queued":
        ahead = (
            other
            for other in service.jobs.all()
            if other.kind == job.kind and other.status == "queued" and other.created < job.created
        )
        answer["queue_position"] = sum(1 for _ in ahead)
    if job.is_over:
        started = job.started or job.created
        answer["metrics"] = {"inference_time": round((job.finished or started) - started, 4)}
    if job.failure is not None:
        answer |= {"error": job.failure.message, "error_type": job.failure.code}
    elif job.status == "cancelled":
        answer |= {"error": "the request was cancelled", "error_type": "client_cancelled"}
    return answer


def _file(request: Request, inputs: Input, result: MediaFile, service: Service) -> Output:
    """fal's description of a file, which is kept for its URL, or is in it."""
    size = result.bytes
    if inputs.sync_mode:
        data = result.data.read_bytes() if isinstance(result.data, Path) else result.data
        url = data_uri(data, result.media_type)
    else:
        url = address(request, files_of(service).add(result.data, result.name, result.media_type))
    return {
        "url": url,
        "content_type": result.media_type,
        "file_name": result.name,
        "file_size": size,
        **result.facts,
    }
