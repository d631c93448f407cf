"""What happens around every request: its id, its key, its size, its end when the client leaves."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import hmac
import logging
import secrets
import time
from collections.abc import Sequence

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birefnet.serving.errors import Busy, ErrorForms, TooLarge, TooSlow, Unauthorised
from birefnet.serving.metrics import Metrics
from birefnet.serving.settings import ServerSettings

log = logging.getLogger("birefnet.serving")

OPEN_PATHS = frozenset({"/health", "/ready"})
"""Answered without a key: those that watch over a server have none."""

OPEN_PREFIX = "/files/"
"""Results whose URL nobody can guess: who was given it fetches the file without a key."""

UPLOADS = frozenset({"/v1/batch", "/v1/video", "/gradio_api/upload"})
"""Paths that take zips and videos."""

REQUEST_ID = "X-Request-Id"


class Watch:
    """The outermost layer: gives each request an id, counts it, and lets no exception out.

    Args:
        app: what is inside.
        forms: how errors are said.
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, forms: ErrorForms, metrics: Metrics) -> None:
        self.app, self.forms, self.metrics = app, forms, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        start = time.perf_counter()
        request_id = secrets.token_hex(8)
        scope.setdefault("state", {})["request_id"] = request_id
        status = 0

        async def sending(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = request_id
                headers.setdefault("X-Content-Type-Options", "nosniff")
            await send(message)

        try:
            await self.app(scope, receive, sending)
        except ClientGone:
            status = 499  # as nginx counts it; nobody is there to read it
        except Exception as error:
            if status:  # the answer is under way: all that is left is to break it off
                log.error("request %s broke off", request_id, exc_info=error)
                raise
            response = self.forms.answer(scope["path"], error, request_id)
            await response(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, scope["method"], str(status)).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - start)


class Keys:
    """Lets requests in that carry one of the keys, before a byte of their body is read.

    A key comes as `X-Api-Key: KEY`, as `Authorization: Bearer KEY` (`Key KEY` as fal's clients send
    it, too), or as the password of `Authorization: Basic`, which browsers ask for.

    Args:
        app: what is inside.
        keys: which open; none: everything is open.
        forms: how errors are said.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], forms: ErrorForms) -> None:
        self.app, self.forms = app, forms
        self.keys = [key.encode("ascii") for key in keys]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket") or not self.keys:
            await self.app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        is_open = scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_PREFIX)
        if is_open or _is_preflight(scope, headers) or self._opens(headers):
            await self.app(scope, receive, send)
            return
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        wants_page = "text/html" in headers.get("accept", "")
        challenge = 'Basic realm="birefnet", charset="UTF-8"' if wants_page else "Bearer"
        error = Unauthorised(
            "this server wants an API key: send it as X-Api-Key, or Authorization: Bearer",
            {"WWW-Authenticate": challenge},
        )
        await self.forms.answer(scope["path"], error)(scope, receive, send)

    def _opens(self, headers: Headers) -> bool:
        given = key_of(headers)
        if given is None:
            return False
        # All keys are compared, in constant time each: the time tells nothing.
        matches = [hmac.compare_digest(given, key) for key in self.keys]
        return any(matches)


def key_of(headers: Headers) -> bytes | None:
    """The key that a request carries, if any."""
    if "x-api-key" in headers:
        return headers["x-api-key"].encode("latin-1")
    scheme, _, value = headers.get("authorization", "").partition(" ")
    value = value.strip()
    if scheme.lower() in ("bearer", "key"):
        return value.encode("latin-1")
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return None
    return None


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "OPTIONS"
        and "access-control-request-method" in headers
    )


class BodyLimit:
    """Refuses bodies that are too large or too slow: by their announced length, or as they come.

    Args:
        app: what is inside.
        settings: `max_bytes`, `max_upload` (at one of `UPLOADS`), `max_held` and `body_timeout_s`.
        forms: how errors are said.
    """

    def __init__(self, app: ASGIApp, settings: ServerSettings, forms: ErrorForms) -> None:
        self.app, self.settings, self.forms = app, settings, forms
        self.held = 0  # bytes of all bodies that are being read or worked on

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        settings = self.settings
        is_upload = scope["path"] in UPLOADS  # these go to disk
        limit = settings.max_upload if is_upload else settings.max_bytes
        too_large = TooLarge(
            f"the request is larger than {limit:,} bytes, the limit of this server",
            {"Connection": "close"},
        )
        length = Headers(scope=scope).get("content-length", "")
        if length.isdecimal() and int(length) > limit:
            await self.forms.answer(scope["path"], too_large)(scope, receive, send)
            return
        received, held, is_complete = 0, 0, False

        async def counting() -> Message:
            nonlocal received, held, is_complete
            if is_complete:
                return await receive()
            try:
                message = await asyncio.wait_for(receive(), settings.body_timeout_s)
            except (asyncio.TimeoutError, TimeoutError):
                raise TooSlow(
                    f"nothing of the request's body came for {settings.body_timeout_s:g} s",
                    {"Connection": "close"},
                ) from None
            size = len(message.get("body", b""))
            received += size
            is_complete = not message.get("more_body", False)
            if received > limit:
                raise too_large
            if not is_upload:
                held += size
                self.held += size
                if self.held > settings.max_held and self.held > held:
                    raise Busy(5, "the server holds as many large requests as it can; try again")
            return message

        try:
            await self.app(scope, counting, send)
        finally:
            self.held -= held


class ClientGone(Exception):  # noqa: N818
    """The client closed the connection before its answer was complete."""


class Disconnects:
    """Cancels a request's work when its client leaves.

    Once the body is read, the only thing a client can still do is to go away; somebody must listen
    for that, or the work would be done for nobody.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        gone = asyncio.Event()
        listener: asyncio.Task[None] | None = None

        async def listen() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass
            gone.set()

        async def receiving() -> Message:
            nonlocal listener
            if listener is not None:
                await gone.wait()
                return {"type": "http.disconnect"}
            message = await receive()
            if message["type"] == "http.disconnect":
                gone.set()
            elif not message.get("more_body", False):
                listener = asyncio.create_task(listen())
            return message

        work = asyncio.ensure_future(self.app(scope, receiving, send))
        leaving = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                raise ClientGone
            await work
        finally:
            for task in (work, leaving, listener):
                if task is not None:
                    task.cancel()
