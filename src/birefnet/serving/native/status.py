"""Whether the server is well, what it has, and what it did."""

from __future__ import annotations

from fastapi import APIRouter
from fastapi.responses import JSONResponse, Response

import birefnet
from birefnet.serving.service import Service


def router(service: Service) -> APIRouter:
    """`/health`, `/ready`, `/metrics` and `/v1/models`."""
    routes = APIRouter(tags=["server"])

    @routes.get("/health", summary="Whether the process answers")
    async def health() -> dict[str, object]:
        return {"status": "ok", "version": birefnet.__version__}

    state = {"type": "object", "properties": {"status": {"enum": ["loading", "stopping"]}}}
    not_ready = {"description": "No.", "content": {"application/json": {"schema": state}}}

    @routes.get("/ready", summary="Whether it takes work", responses={503: not_ready})
    async def ready() -> JSONResponse:
        if service.is_stopping:
            return JSONResponse({"status": "stopping"}, 503)
        if not service.is_ready:
            return JSONResponse({"status": "loading"}, 503)
        return JSONResponse({"status": "ready"})

    @routes.get(
        "/metrics",
        summary="Figures for Prometheus",
        response_class=Response,
        responses={200: {"content": {"text/plain": {}}}},
    )
    async def metrics() -> Response:
        media_type = "text/plain; version=0.0.4; charset=utf-8"
        return Response(service.metrics.text(), media_type=media_type)

    @routes.get("/v1/models", summary="The models that requests may name")
    async def models() -> dict[str, object]:
        return {"object": "list", "data": service.pool.about()}

    return routes
