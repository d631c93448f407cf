"""The page for people: bring a picture, see it before and after, take the result along."""

from __future__ import annotations

from typing import TYPE_CHECKING

from birefnet.errors import MissingExtraError

try:
    import gradio as gr
except ImportError:
    raise MissingExtraError("the page", "ui") from None

from fastapi import FastAPI
from starlette.responses import Response

from birefnet.serving.errors import NotFound
from birefnet.serving.page.layout import build_page
from birefnet.serving.page.store import Store
from birefnet.serving.page.theme import FOLDER, text_of, theme

if TYPE_CHECKING:
    from birefnet.serving.service import Service

__all__ = ["build_page", "mount_page"]


def mount_page(app: FastAPI, service: Service, path: str = "/") -> FastAPI:
    """Serve the page at `path`; other routes of the app must be there already.

    Raises:
        MissingExtraError: Gradio is not installed (when this module is imported).
    """
    store = Store()

    @app.get(f"{path.rstrip('/')}/page/{{token}}/{{name}}", include_in_schema=False)
    async def kept(token: str, name: str) -> Response:
        file = store.file(token)
        if file is None:
            raise NotFound("this file is no longer kept here")
        headers = {"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"}
        return Response(file.data, media_type=file.media_type, headers=headers)

    return gr.mount_gradio_app(
        app,
        build_page(service, store),
        path=path,
        theme=theme(),
        css=text_of("page.css"),
        favicon_path=str(FOLDER / "favicon.svg"),
        footer_links=[],
        run_history=False,
        ssr_mode=False,
        pwa=False,
        mcp_server=False,
        enable_monitoring=False,
        show_error=False,
        max_file_size=service.settings.max_bytes,
    )
