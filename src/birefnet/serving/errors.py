"""Failures of the server, and their form: a status, a code and one sentence."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from birefnet.errors import (
    BiRefNetError,
    DeviceError,
    ImageError,
    MissingExtraError,
    WeightsError,
    needs_extra,
)

with needs_extra("serve", __name__):
    from fastapi.exceptions import RequestValidationError
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect
    from starlette.responses import JSONResponse, Response


log = logging.getLogger("birefnet.serving")

_LONGEST = 600  # characters of a message

INTERNAL = "something went wrong inside the server; its log has the details under this request's id"


CLOSE = {"Connection": "close"}
"""Headers of an answer that comes before the request's body has been read."""


class ServingError(HTTPException):
    """Base of what the server itself refuses.

    It is an `HTTPException` so that FastAPI passes it through where a body is being read.

    Attributes:
        status: of HTTP.
        code: one word for programs.
        retry_after: when to try again [s], for the header of this name.

    Args:
        message: one sentence; by default that of the class.
        headers: others to send along.
    """

    status = 400
    code = "invalid_request"
    message = ""
    retry_after: int | None = None

    def __init__(self, message: str = "", headers: Mapping[str, str] | None = None) -> None:
        self.message = message or self.message
        super().__init__(
            self.status, self.message, {**_retry_after(self.retry_after), **(headers or {})}
        )

    def __str__(self) -> str:
        return self.message


class InvalidRequest(ServingError):
    """Fields that cannot be understood."""


class Unauthorised(ServingError):
    status, code = 401, "unauthorised"


class NotFound(ServingError):
    status, code = 404, "not_found"


class UnknownModel(ServingError):
    status, code = 404, "unknown_model"


class NotReady(ServingError):
    status, code = 409, "not_ready"


class TooSlow(ServingError):
    status, code = 408, "too_slow"


class TooLarge(ServingError):
    status, code = 413, "too_large"


class Unsupported(ServingError):
    status, code = 415, "unsupported"


class FetchError(ServingError):
    """A URL that must not be fetched, or whose server did not give the file."""

    code = "url_not_fetched"


class Busy(ServingError):
    """The queue is full; `retry_after` is a guess of when it will not be [s]."""

    status, code = 429, "busy"

    def __init__(self, retry_after: int, message: str = "") -> None:
        self.retry_after = max(1, retry_after)
        super().__init__(message or f"the queue is full; try again in {self.retry_after} s")


class TimedOut(ServingError):
    status, code, retry_after = 503, "timed_out", 10


class Overloaded(ServingError):
    status, code, retry_after = 503, "overloaded", 10
    message = (
        "the server works on as many pixels as it may; try again later, or send a smaller picture"
    )


class Stopping(ServingError):
    status, code, retry_after = 503, "stopping", 10
    message = "the server is shutting down; try again soon"


class ClientGone(Exception):
    """The client closed the connection before its answer began."""


@dataclass(frozen=True)
class Failure:
    """An error as it leaves the server.

    Attributes:
        status: of HTTP.
        code: one word for programs.
        message: one sentence for people; of what a client sent, it repeats a little at most.
        headers: to send along, such as Retry-After.
    """

    status: int
    code: str
    message: str
    headers: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "message", sayable(self.message))


def sayable(message: str) -> str:
    """A message that can be sent: without lone surrogates, and not as long as a client likes."""
    message = message.encode("utf-8", "replace").decode("utf-8")
    if len(message) <= _LONGEST:
        return message
    return f"{message[: _LONGEST // 2]} … {message[-_LONGEST // 3 :]}"


def _retry_after(seconds: int | None) -> dict[str, str]:
    return {} if seconds is None else {"Retry-After": str(seconds)}


# Errors of the package, the more special first: their status, code and `retry_after`.
_OF_PACKAGE: tuple[tuple[type[BiRefNetError], int, str, int | None], ...] = (
    (DeviceError, 503, "device", 10),
    (WeightsError, 503, "model", 60),
    (ImageError, 400, "invalid_picture", None),
    (BiRefNetError, 400, "invalid_request", None),
)
_OF_HTTP = {
    404: ("not_found", "there is nothing at this path; /docs lists what there is"),
    405: ("method_not_allowed", "this path takes another method; /docs lists what there is"),
    413: ("too_large", ""),
}


def failure_of(error: BaseException) -> Failure:
    """How any exception is told; what is unexpected tells nothing of the inside."""
    for cause in _causes(error):
        if isinstance(cause, OSError) and cause.errno in _FULL:
            message = "the server's disk is full; try again later"
            return Failure(507, "disk_full", message, _retry_after(30))
        if isinstance(cause, MemoryError) or getattr(cause, "code", None) == _CV2_NO_MEMORY:
            message = (
                "the server has not enough memory for this now; try again later, or send a smaller "
                "picture"
            )
            return Failure(503, "out_of_memory", message, _retry_after(30))
        if isinstance(cause, ClientDisconnect):
            return Failure(499, "client_gone", "the client left before its request was complete")
    if isinstance(error, ServingError):
        return Failure(error.status_code, error.code, error.message, error.headers or {})
    if isinstance(error, RequestValidationError):
        return Failure(422, "invalid_request", _first_problem(error))
    if isinstance(error, HTTPException):
        code, sentence = _OF_HTTP.get(error.status_code, ("invalid_request", ""))
        message = sentence or str(error.detail)
        return Failure(error.status_code, code, message, error.headers or {})
    if isinstance(error, MissingExtraError):
        return Failure(415, "unsupported", f"this server lacks something: {error}")
    for kind, status, code, seconds in _OF_PACKAGE:
        if isinstance(error, kind):
            return Failure(status, code, str(error), _retry_after(seconds))
    if isinstance(error, TimeoutError):
        return Failure(503, "timed_out", "the server took too long", _retry_after(10))
    return Failure(500, "internal", INTERNAL)


def reported(error: BaseException, what: str) -> Failure:
    """`failure_of`; what failed in the server goes to its log, the unexpected with its traceback.

    Args:
        error: any exception.
        what: failed, for the log.
    """
    failure = failure_of(error)
    if failure.code in _EXPECTED:
        log.warning("%s failed: %s", what, failure.message)
    elif failure.status >= 500:
        log.error("%s failed", what, exc_info=error)
    return failure


_FULL = (errno.ENOSPC, errno.EDQUOT)
_CV2_NO_MEMORY = -4  # cv2.Error.StsNoMem
_EXPECTED = frozenset({"timed_out", "stopping", "overloaded", "disk_full", "out_of_memory"})
"""Codes whose sentence says everything; the log needs no traceback."""


def _causes(error: BaseException) -> Iterator[BaseException]:
    """An exception and those that it was raised from or beside."""
    seen: set[int] = set()
    cause: BaseException | None = error
    while cause is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        cause = cause.__cause__ or cause.__context__


def _first_problem(error: RequestValidationError) -> str:
    first = error.errors()[0]
    location = ".".join(str(part) for part in first["loc"] if part != "body")
    return f"{location}: {first['msg']}" if location else str(first["msg"])


Form = Callable[[Failure], Response]
"""How a family of routes says a failure."""


def native_form(failure: Failure) -> Response:
    """{"error": {"code", "message"}}."""
    content = {"error": {"code": failure.code, "message": failure.message}}
    return JSONResponse(content, failure.status, failure.headers)


class ErrorForms:
    """Which form errors take, by the beginning of the path; the longest beginning wins."""

    def __init__(self) -> None:
        self._forms: dict[str, Form] = {}

    def add(self, prefix: str, form: Form) -> None:
        self._forms[prefix] = form

    def answer(self, path: str, error: BaseException, request_id: str = "") -> Response:
        """The response for an error; unexpected ones are logged whole."""
        failure = reported(error, f"request {request_id} to {path}")
        matching = [prefix for prefix in self._forms if path.startswith(prefix)]
        form = self._forms[max(matching, key=len)] if matching else native_form
        return form(failure)
