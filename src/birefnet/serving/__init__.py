"""Background removal over HTTP: `create_app` for any ASGI server, `birefnet serve` for uvicorn."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birefnet.serving.app import create_app
    from birefnet.serving.settings import ServerSettings

__all__ = ["ServerSettings", "create_app"]


def __getattr__(name: str) -> object:
    # Looked up on first use: the settings need no FastAPI.
    if name == "create_app":
        from birefnet.serving.app import create_app

        return create_app
    if name == "ServerSettings":
        from birefnet.serving.settings import ServerSettings

        return ServerSettings
    raise AttributeError(f"module 'birefnet.serving' has no attribute {name!r}")
