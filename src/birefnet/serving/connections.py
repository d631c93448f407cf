"""Limits of connections before a request has begun: their bytes, time and number."""

from __future__ import annotations

import asyncio

from birefnet.errors import needs_extra

with needs_extra("serve", __name__):
    from uvicorn.protocols.http.auto import AutoHTTPProtocol

from birefnet.serving.settings import ServerSettings

_END = b"\r\n\r\n"  # of the headers


def limited(settings: ServerSettings) -> type[asyncio.Protocol]:
    """uvicorn's protocol within `max_header`, `header_timeout_s` and `connections`."""

    class Limited(AutoHTTPProtocol):  # type: ignore[misc, valid-type]
        _head = 0  # bytes of a request whose headers are not complete
        _timer: asyncio.TimerHandle | None = None

        def connection_made(self, transport: object) -> None:
            super().connection_made(transport)
            if len(self.connections) > settings.connections:
                self._refuse("503 Service Unavailable", "there are too many connections")
            else:
                self._wait()

        def data_received(self, data: bytes) -> None:
            if self.transport.is_closing():
                return
            if not self._is_between():
                super().data_received(data)
                return
            end = data.find(_END)
            if self._head + (len(data) if end < 0 else end) > settings.max_header:
                self._refuse(
                    "431 Request Header Fields Too Large",
                    f"the request's headers have more than {settings.max_header:,} bytes",
                )
                return
            before = self.cycle
            self._head += len(data)
            self._wait()
            super().data_received(data)
            if self.cycle is not before:
                self._begin()

        def connection_lost(self, exc: Exception | None) -> None:
            self._begin()
            super().connection_lost(exc)

        def _is_between(self) -> bool:
            """Whether what comes next are headers."""
            return self.cycle is None or self.cycle.response_complete

        def _wait(self) -> None:
            if self._timer is None:
                loop = asyncio.get_running_loop()
                self._timer = loop.call_later(settings.header_timeout_s, self._late)

        def _begin(self) -> None:
            self._head = 0
            if self._timer is not None:
                self._timer.cancel()
                self._timer = None

        def _late(self) -> None:
            self._timer = None
            if self._is_between() and not self.transport.is_closing():
                seconds = f"{settings.header_timeout_s:g} s"
                self._refuse("408 Request Timeout", f"the headers did not come within {seconds}")

        def _refuse(self, status: str, message: str) -> None:
            code = {"503": "busy", "431": "too_large", "408": "too_slow"}[status[:3]]
            body = f'{{"error":{{"code":"{code}","message":"{message}"}}}}'
            again = "Retry-After: 5\r\n" * status.startswith("503")
            head = (
                f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nConnection: close\r\n"
                f"{again}Content-Length: {len(body)}\r\n\r\n"
            )
            self.transport.write((head + body).encode("ascii"))
            self.transport.close()

    return Limited
