"""Run the page for people on this machine."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable

from birefnet.errors import BiRefNetError
from birefnet.serving.settings import ServerSettings

# Before Gradio is imported: it must tell nobody that it runs, nor ask for newer versions.
os.environ.setdefault("GRADIO_ANALYTICS_ENABLED", "False")


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; taken early, so that a taken port is said before a model loads.

    Raises:
        BiRefNetError: the port is taken or not allowed, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    found = socket.socket(family, socket.SOCK_STREAM)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((host, port))
        found.listen(128)
    except OSError as error:
        found.close()
        if error.errno == errno.EADDRINUSE:
            raise BiRefNetError(
                f"port {port} is taken by another program; give --port, such as --port {port + 1}, "
                "or --port 0 for any free one"
            ) from None
        reason = error.strerror or str(error)
        raise BiRefNetError(f"cannot listen at {host}, port {port}: {reason}") from None
    return found


def address(listening: socket.socket) -> str:
    """What to type into a browser of this machine."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        host = "127.0.0.1" if listening.family == socket.AF_INET else "[::1]"
    return f"http://{host}:{port}"


def run(
    settings: ServerSettings,
    listening: socket.socket,
    started: Callable[[], object] = lambda: None,
) -> None:
    """Serve at a socket until interrupted; calls `started` when it answers.

    Raises:
        BiRefNetError: the model cannot be loaded.
    """
    import uvicorn

    from birefnet.serving.app import create_app

    app = create_app(settings=settings)
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=3, lifespan="on")
    server = uvicorn.Server(config)

    async def serve() -> None:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        while not server.started and not serving.done():
            await asyncio.sleep(0.05)
        if server.started:
            started()
        await serving

    try:
        asyncio.run(serve())
    except KeyboardInterrupt:
        return
