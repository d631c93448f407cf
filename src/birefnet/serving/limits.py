"""The layers around every request: its id, its key, its size, its end when the client leaves."""

from __future__ import annotations

import asyncio
import base64
import binascii
import contextlib
import fnmatch
import hashlib
import hmac
import logging
import re
import secrets
import time
from collections.abc import Sequence

from birefnet.errors import needs_extra

with needs_extra("serve", __name__):
    from starlette.datastructures import Headers, MutableHeaders
    from starlette.requests import HTTPConnection
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

from birefnet.serving.errors import (
    CLOSE,
    Busy,
    ClientGone,
    ErrorForms,
    InvalidRequest,
    TooLarge,
    TooSlow,
    Unauthorised,
    failure_of,
)
from birefnet.serving.json_guard import JsonGuard
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


class _Layer:
    """A layer around the requests; what is not HTTP passes by.

    Args:
        app: what is inside.
        forms: how errors are said.
    """

    def __init__(self, app: ASGIApp, forms: ErrorForms) -> None:
        self.app, self.forms = app, forms

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        around = self.around if scope["type"] == "http" else self.app
        await around(scope, receive, send)

    async def around(self, scope: Scope, receive: Receive, send: Send) -> None:
        """A request of HTTP."""
        raise NotImplementedError


class RequestIdMiddleware(_Layer):
    """The outermost layer: gives each request an id, counts it, and lets no exception out.

    Args:
        metrics: where requests are counted.
    """

    def __init__(self, app: ASGIApp, forms: ErrorForms, metrics: Metrics) -> None:
        super().__init__(app, forms)
        self.metrics = metrics

    async def around(self, scope: Scope, receive: Receive, send: Send) -> None:
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
            if failure_of(error).code == "client_gone":
                status = 499
                return
            if status:  # the answer is under way: all that is left is to break it off
                log.error("request %s broke off", request_id, exc_info=error)
                raise
            response = self.forms.answer(scope["path"], error, request_id)
            await response(scope, receive, sending)
        finally:
            route = getattr(scope.get("route"), "path", "other")
            self.metrics.requests.labels(route, scope["method"], str(status)).inc()
            self.metrics.latency.labels(route).observe(time.perf_counter() - start)


class HostMiddleware(_Layer):
    """Lets requests in that call the server by a name that it has; answers hold URLs with it.

    Args:
        allowed: names, or patterns such as *.example.org; none: any that can be a name.
    """

    def __init__(self, app: ASGIApp, forms: ErrorForms, allowed: Sequence[str]) -> None:
        super().__init__(app, forms)
        self.allowed = [name.lower() for name in allowed]

    async def around(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._knows(Headers(scope=scope), scope["path"]):
            await self.app(scope, receive, send)
            return
        error = InvalidRequest("this server is not called so; use the name that it is known by")
        await self.forms.answer(scope["path"], error)(scope, receive, send)

    def _knows(self, headers: Headers, path: str) -> bool:
        hosts = headers.getlist("host")
        if len(hosts) > 1 or not all(map(_HOST.fullmatch, hosts)):
            return False
        if not self.allowed or path in OPEN_PATHS:  # those that watch ask by address
            return True
        name = re.sub(r":\d*$", "", "".join(hosts)).lower()
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self.allowed)


_HOST = re.compile(r"([\w.-]{1,253}|\[[\da-fA-F:.]{2,45}\])(:\d{0,5})?", re.ASCII)


class ApiKeyMiddleware(_Layer):
    """Lets requests in that carry one of the keys, before a byte of their body is read.

    A key comes as `X-Api-Key: KEY`, as `Authorization: Bearer KEY` (`Key KEY` as fal's clients send
    it, too), or as the password of `Authorization: Basic`, which browsers ask for.

    Args:
        keys: which open; none: everything is open.
    """

    def __init__(self, app: ASGIApp, forms: ErrorForms, keys: Sequence[str]) -> None:
        super().__init__(app, forms)
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


def owner_of(request: HTTPConnection, settings: ServerSettings) -> str:
    """Whose a job is: of the key that a request carries, or everybody's where there are no keys."""
    key = key_of(request.headers) if settings.api_keys else None
    return "" if key is None else hashlib.sha256(key).hexdigest()


def _is_preflight(scope: Scope, headers: Headers) -> bool:
    return (
        scope["type"] == "http"
        and scope["method"] == "OPTIONS"
        and "access-control-request-method" in headers
    )


class BodyLimitMiddleware(_Layer):
    """Refuses bodies that are too large or too slow: by their announced length, or as they come.

    Args:
        settings: `max_bytes`, `max_upload` (at one of `UPLOADS`), `max_json`, `max_held` and
            `body_timeout_s`.
    """

    def __init__(self, app: ASGIApp, forms: ErrorForms, settings: ServerSettings) -> None:
        super().__init__(app, forms)
        self.settings = settings
        self.held = 0  # bytes of all bodies that are being read or worked on

    async def around(self, scope: Scope, receive: Receive, send: Send) -> None:
        settings = self.settings
        is_upload = scope["path"] in UPLOADS  # these go to disk
        limit = settings.max_upload if is_upload else settings.max_bytes
        too_large = TooLarge(
            f"the request is larger than {limit:,} bytes, the limit of this server",
            CLOSE,
        )
        headers = Headers(scope=scope)
        check = _check_of(headers.get("content-type", ""), scope["path"], settings)
        length = headers.get("content-length", "")
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
            except TimeoutError:
                raise TooSlow(
                    f"nothing of the request's body came for {settings.body_timeout_s:g} s",
                    CLOSE,
                ) from None
            size = len(message.get("body", b""))
            received += size
            is_complete = not message.get("more_body", False)
            if received > limit:
                raise too_large
            if check is not None:
                check.feed(message.get("body", b""))
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


class FormGuard:
    """Counts what reading a form of one line (`a=1&b=2`) would cost, as `JsonGuard` does for JSON.

    Args:
        most_bytes: of the whole body; base64 of so many bytes has an escape for each 30 or so.
    """

    def __init__(self, most_bytes: int) -> None:
        self._most_bytes, self._most_escapes = most_bytes, most_bytes // 28
        self._bytes = self._fields = self._escapes = 0

    def feed(self, part: bytes) -> None:
        """The next part of the body. Raises `TooLarge`."""
        self._bytes += len(part)
        self._fields += part.count(b"&") + part.count(b";")
        self._escapes += part.count(b"%")
        if (
            self._bytes > self._most_bytes
            or self._fields > MOST_PAIRS
            or self._escapes > self._most_escapes
        ):
            raise TooLarge(
                f"the form has more than {self._most_bytes:,} bytes, {MOST_PAIRS:,} fields or "
                f"{self._most_escapes:,} escapes; send multipart/form-data",
                CLOSE,
            )


MOST_PAIRS = 500
"""Of a form of one line."""

_READ_BY_FRAMEWORKS = ("/api/", "/gradio_api/")
"""Beginnings of paths whose forms FastAPI and Gradio read, on the event loop."""


def _check_of(kind: str, path: str, settings: ServerSettings) -> JsonGuard | FormGuard | None:
    """The check of a body of this content type, before it is parsed."""
    kind = kind.partition(";")[0].strip().lower()
    if "json" in kind or (not kind and path.startswith("/gradio_api/")):
        return JsonGuard(settings.max_json)
    if kind == "application/x-www-form-urlencoded":
        is_ours = not path.startswith(_READ_BY_FRAMEWORKS)
        return FormGuard(settings.max_json if is_ours else min(settings.max_json, 2**19))
    return None


class HeadMiddleware(_Layer):
    """Answers HEAD as GET, without the body: those that watch a server often ask so."""

    async def around(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["method"] != "HEAD":
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            if message["type"] == "http.response.start":
                await send(message)
            elif message["type"] == "http.response.body" and not message.get("more_body", False):
                await send({"type": "http.response.body"})

        # A copy, because the server outside must know that it is HEAD; metrics need its route.
        asked: Scope = {**scope, "method": "GET"}
        try:
            await self.app(asked, receive, without_body)
        finally:
            scope["route"] = asked.get("route")


class CancellationMiddleware(_Layer):
    """Cancels a request's work when its client leaves.

    Once the body is read, the only thing a client can still do is to go away; somebody must listen
    for that, or the work would be done for nobody.
    """

    async def around(self, scope: Scope, receive: Receive, send: Send) -> None:
        gone = asyncio.Event()
        listener: asyncio.Task[None] | None = None
        is_answered = False

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

        async def sending(message: Message) -> None:
            nonlocal is_answered
            if gone.is_set() and not is_answered:
                raise ClientGone  # whatever it was, nobody is there to read it
            is_answered = True
            await send(message)

        work = asyncio.ensure_future(self.app(scope, receiving, sending))
        leaving = asyncio.create_task(gone.wait())
        try:
            await asyncio.wait({work, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if not work.done():
                work.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await work
                raise ClientGone
            try:
                await work
            except Exception:
                if gone.is_set() and not is_answered:
                    raise ClientGone from None
                raise
        finally:
            for task in (work, leaving, listener):
                if task is not None:
                    task.cancel()
