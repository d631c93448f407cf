"""Run the application with uvicorn until it is told to stop."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING

from birefnet.errors import BiRefNetError, needs_extra
from birefnet.serving.settings import MIB, ServerSettings

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

    from birefnet.serving.service import Service

_BACKLOG = 512
_POLL_S = 0.05  # between two checks whether the server is to end
# Longer than the minute after which proxies drop connections of their own; one that the server
# drops first may just then be carrying the next request.
_KEEP_ALIVE_S = 75
# mallopt of glibc: blocks from this size on go back to the system at once [bytes], and so does what
# is free at a heap's end beyond that.
_M_MMAP_THRESHOLD, _LARGE_BLOCK = -3, 16 * MIB
_M_TRIM_THRESHOLD, _FREE_AT_END = -1, 64 * MIB


def bind(host: str, port: int) -> socket.socket:
    """A socket that listens there; taken early, so that a taken port is said before a model loads.

    Raises:
        BiRefNetError: the port is taken or not allowed, or the host is not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # The protocol is named, for asyncio lets small packets leave at once (TCP_NODELAY) only then.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRINUSE:
            raise BiRefNetError(
                f"port {port} is taken by another program; give --port, such as --port {port + 1}, "
                "or --port 0 for any free one"
            ) from None
        reason = error.strerror or str(error)
        raise BiRefNetError(f"cannot listen at {host}, port {port}: {reason}") from None
    return listening


def address(listening: socket.socket) -> str:
    """The address to type into a browser of this machine."""
    host, port = listening.getsockname()[:2]
    if host in ("0.0.0.0", "::", "127.0.0.1", "::1"):
        host = "127.0.0.1" if listening.family == socket.AF_INET else "[::1]"
    return f"http://{host}:{port}"


def keep_memory() -> None:
    """Let the process keep what a picture needed for the next one.

    Left alone, glibc gives the arrays of a picture back to the system after each, and a thousand
    pages are mapped anew for the next; that takes a fifth of the time after the network. Nothing
    happens with another C library.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return
    mallopt(_M_MMAP_THRESHOLD, _LARGE_BLOCK)
    mallopt(_M_TRIM_THRESHOLD, _FREE_AT_END)


def run(
    app: FastAPI,
    listening: socket.socket,
    started: Callable[[], object] = lambda: None,
    *,
    log_level: str = "warning",
    stop: asyncio.Event | None = None,
) -> None:
    """Serve at a socket until SIGINT or SIGTERM.

    While work is finished that runs then (as long as `grace_s`), the server goes on to listen, and
    says to `/ready` and to new work that it stops. A second signal ends it at once.

    Args:
        app: of `create_app`.
        listening: of `bind`.
        started: called once it answers.
        log_level: of uvicorn; with "info" each request is a line.
        stop: set it from the loop to end the server, for those who run it in a thread.

    Raises:
        BiRefNetError: the model cannot be loaded.
        MissingExtraError: uvicorn is not installed.
    """
    with needs_extra("serve", "the server"):
        import uvicorn
    from birefnet.serving.connections import limited

    settings: ServerSettings = app.state.settings
    keep_memory()
    config = uvicorn.Config(
        app,
        http=limited(settings),
        ws="none",
        log_level=log_level,
        lifespan="off",  # it is run below, where its errors can be told
        timeout_keep_alive=_KEEP_ALIVE_S,
        timeout_graceful_shutdown=max(1, round(settings.grace_s)),
        root_path=settings.root_path,
        server_header=False,
    )
    server = _server(config, app.state.service, takes_signals=stop is None)

    async def serve() -> None:
        async with app.router.lifespan_context(app):
            watching = asyncio.create_task(_watch(server, app, started, stop))
            try:
                await server.serve(sockets=[listening])
            finally:
                watching.cancel()

    asyncio.run(serve())


def _server(config: uvicorn.Config, service: Service, *, takes_signals: bool) -> uvicorn.Server:
    """uvicorn's server; at the first signal it tells the service to stop, at the second it ends."""
    import uvicorn

    class Server(uvicorn.Server):
        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            if service.is_stopping:
                super().handle_exit(sig, frame)
            service.is_stopping = True  # `_watch` does the rest

        @contextmanager
        def capture_signals(self) -> Iterator[None]:
            # As uvicorn's, but an end that was asked for is an end, not a signal raised again.
            if not takes_signals:
                yield
                return
            signals = (signal.SIGINT, signal.SIGTERM)
            before = {sig: signal.signal(sig, self.handle_exit) for sig in signals}
            try:
                yield
            finally:
                for sig, handler in before.items():
                    signal.signal(sig, handler)

    return Server(config)


async def _watch(
    server: uvicorn.Server,
    app: FastAPI,
    started: Callable[[], object],
    stop: asyncio.Event | None,
) -> None:
    """Say that the server answers; when it is told to stop, finish what runs, and end it."""
    while not server.started and not server.should_exit:
        await asyncio.sleep(0.02)
    if server.started:
        started()
    service: Service = app.state.service
    while not service.is_stopping:
        if stop is not None:
            await stop.wait()
            service.is_stopping = True
        else:
            await asyncio.sleep(_POLL_S)
    deadline = time.monotonic() + app.state.settings.grace_s
    service.jobs.refuse()
    while service.is_busy and time.monotonic() < deadline:
        await asyncio.sleep(_POLL_S)
    # What is left of the time is for answers that are being sent.
    server.config.timeout_graceful_shutdown = max(1, round(deadline - time.monotonic()))
    server.should_exit = True
