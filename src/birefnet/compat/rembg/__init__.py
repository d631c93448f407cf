"""rembg for Python: `from birefnet.compat.rembg import remove, new_session`; see docs/drop_in.md.

Modules and classes are where rembg has them: `bg`, `session_factory`, `sessions`. Beside them stand
its command, `birefnet rembg`, and the routes of its server.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import birefnet

if TYPE_CHECKING:
    from birefnet.compat.rembg.bg import download_models, remove
    from birefnet.compat.rembg.session_factory import new_session
    from birefnet.compat.rembg.sessions import BaseSession, Session, sessions_names

__version__ = birefnet.__version__

__all__ = [
    "BaseSession",
    "Session",
    "__version__",
    "download_models",
    "new_session",
    "remove",
    "sessions_names",
]


def __getattr__(name: str) -> object:
    # Looked up on first use: `birefnet --help` imports this package for its command.
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from birefnet.compat.rembg import bg

    return getattr(bg, name)
