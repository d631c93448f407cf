"""The ASGI application: the routes, and what surrounds them."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import birefnet
from birefnet.errors import needs_extra
from birefnet.inference.predictor import Predictor
from birefnet.serving.settings import ServerSettings

with needs_extra("serve", "the server"):
    from fastapi import FastAPI, Request
    from fastapi.exceptions import RequestValidationError
    from fastapi_offline import FastAPIOffline
    from starlette.exceptions import HTTPException
    from starlette.middleware.cors import CORSMiddleware
    from starlette.responses import Response

from birefnet.compat.routes import register_routes
from birefnet.errors import BiRefNetError
from birefnet.serving.errors import ErrorForms
from birefnet.serving.limits import (
    REQUEST_ID,
    ApiKeyMiddleware,
    BodyLimitMiddleware,
    CancellationMiddleware,
    HeadMiddleware,
    HostMiddleware,
    RequestIdMiddleware,
)
from birefnet.serving.native import batch, remove, status, video
from birefnet.serving.registry import Registry
from birefnet.serving.service import Service

log = logging.getLogger("birefnet.serving")


def create_app(
    predictor: Predictor | None = None, settings: ServerSettings | None = None
) -> FastAPI:
    """The application, for uvicorn or any other ASGI server.

    Args:
        predictor: the default model, if it is loaded already; otherwise `settings` names it and it
            is loaded as the server starts.
        settings: see `ServerSettings`.

    Its `state.service` is the `Service` behind the routes, `state.error_forms` says errors.

    Raises:
        MissingExtraError: FastAPI is not installed.
    """
    settings = settings or ServerSettings()
    service = Service(settings, predictor)
    forms = ErrorForms()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        if settings.preload:
            await service.start()
        else:
            service.is_ready = True
        yield
        await service.stop()

    app = FastAPIOffline(  # the viewer of /docs comes from this server, not from elsewhere
        redoc_url=None,
        static_url="/docs/viewer",
        title="birefnet",
        version=birefnet.__version__,
        summary="Cut the subject out of pictures and videos.",
        lifespan=lifespan,
        root_path=settings.root_path,
    )
    app.state.service, app.state.settings, app.state.error_forms = service, settings, forms

    async def answer(request: Request, error: Exception) -> Response:
        request_id = request.scope.get("state", {}).get("request_id", "")
        return forms.answer(request.url.path, error, request_id)

    for kind in (BiRefNetError, HTTPException, RequestValidationError):
        app.add_exception_handler(kind, answer)
    registry = Registry(app, service, forms)
    for module in (status, remove, batch, video):
        registry.add(module.router(service))
    register_routes(registry)
    # Last, for it is asked about every path that no other route takes.
    if settings.page and importlib.util.find_spec("gradio") is not None:
        from birefnet.serving.page import mount_page

        mount_page(app, service, endpoints=registry.page_endpoints)
    _add_middleware(app, service, forms)
    return app


def _add_middleware(app: FastAPI, service: Service, forms: ErrorForms) -> None:
    """The layers around the routes; the one added last is the outermost."""
    settings = service.settings
    app.add_middleware(HeadMiddleware, forms=forms)
    app.add_middleware(CancellationMiddleware, forms=forms)
    app.add_middleware(BodyLimitMiddleware, settings=settings, forms=forms)
    app.add_middleware(ApiKeyMiddleware, keys=settings.api_keys, forms=forms)
    if settings.cors:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=list(settings.cors),
            allow_methods=["GET", "POST", "DELETE"],
            allow_headers=["*"],
            expose_headers=[REQUEST_ID, "Retry-After", "X-Model", "X-Model-Requested"],
        )
    app.add_middleware(HostMiddleware, allowed=settings.allowed_hosts, forms=forms)
    app.add_middleware(RequestIdMiddleware, forms=forms, metrics=service.metrics)
