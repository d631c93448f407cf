"""The page in an application: mounted last, and answering for its own paths alone."""

from __future__ import annotations

from collections.abc import Mapping

import gradio as gr
from fastapi import FastAPI
from starlette.responses import FileResponse, Response
from starlette.routing import Mount
from starlette.types import ASGIApp, Receive, Scope, Send

from birefnet.serving.errors import NotFound
from birefnet.serving.page.endpoints import Endpoint
from birefnet.serving.page.layout import build_page
from birefnet.serving.page.store import Store
from birefnet.serving.page.theme import FOLDER, text_of, theme
from birefnet.serving.service import Service

OWN = frozenset(
    {
        "",
        "gradio_api",
        "config",
        "static",
        "assets",
        "svelte",
        "favicon.ico",
        "theme.css",
    }
)
"""First parts of the paths that Gradio's page needs. It knows more, such as a sign-in, a manual of
its own and `robots.txt`; those are not there."""


TEXTS = {
    "common.upload": "Add files",
    "upload_text.drop_file": "Drop pictures or zips here",
    "upload_text.drop_video": "Drop a video here",
    "upload_text.click_to_upload": "Choose from this device",
    "video.drop_to_upload": "Drop a video here, or choose one",
}
"""Ours for Gradio's."""


def mount_page(
    app: FastAPI,
    service: Service,
    path: str = "/",
    endpoints: Mapping[str, Endpoint] | None = None,
) -> Store:
    """Serve the page at `path`; other routes of the app must be there already.

    Gives the store with what visitors work on.
    """
    base = path.rstrip("/")
    store = Store()

    @app.get(f"{base}/page/{{token}}/{{name}}", include_in_schema=False)
    async def kept(token: str, name: str) -> Response:
        file = store.file(token)
        if file is None:
            raise NotFound("this file is no longer kept here")
        headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
        if file.path is not None:
            return FileResponse(file.path, media_type=file.media_type, headers=headers)
        return Response(file.data, media_type=file.media_type, headers=headers)

    @app.get("/manifest.json", include_in_schema=False)
    async def manifest() -> dict[str, object]:
        icon = {"src": f"{base}/favicon.ico", "type": "image/svg+xml", "sizes": "any"}
        return {"name": "birefnet", "start_url": f"{base}/", "icons": [icon]}

    page = build_page(service, store, endpoints)
    # Gradio checks the paths that clients send only after a launch, and mounting is none: without
    # this, a request could name any file of this machine as an upload.
    page.has_launched = True
    gr.mount_gradio_app(
        app,
        page,
        path=path,
        theme=theme(),
        css=text_of("page.css"),
        favicon_path=str(FOLDER / "favicon.svg") if path == "/" else None,
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        i18n=gr.I18n(en=TEXTS),
        max_file_size=service.settings.max_upload,
    )
    mounted = app.routes[-1]
    assert isinstance(mounted, Mount)
    mounted.app = _Own(mounted.app, base)
    return store


class _Own:
    """Lets only the page's own paths in; others are unknown to the whole application."""

    def __init__(self, app: ASGIApp, base: str) -> None:
        self.app, self.base = app, base

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            inside = scope["path"].removeprefix(scope.get("root_path", ""))
            if inside.lstrip("/").split("/")[0] not in OWN:
                raise NotFound("there is nothing at this path; /docs lists what there is")
        await self.app(scope, receive, send)
