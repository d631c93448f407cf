"""rembg for Python: `from birefnet.compat.rembg import remove, new_session`; see docs/drop_in.md.

Beside it stand its command, `birefnet rembg`, and the routes of its server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from birefnet.compat.rembg.api import (
        MODELS,
        BaseSession,
        Session,
        download_models,
        new_session,
        post_processed,
        remove,
        resolve_name,
        sessions_names,
    )

__all__ = [
    "MODELS",
    "BaseSession",
    "Session",
    "download_models",
    "new_session",
    "post_processed",
    "remove",
    "resolve_name",
    "sessions_names",
]


def __getattr__(name: str) -> Any:
    # Looked up on first use: `birefnet --help` imports this package for its command.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from birefnet.compat.rembg import api

    return getattr(api, name)
