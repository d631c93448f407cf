"""One HTTP transfer into a partial file that the next attempt can continue.

Only http and https; no other scheme and no downgrade to plain http, redirects included.

It uses Python's own urllib. The core install must download published ONNX files, and httpx would
save some 25 lines here for 3.6 MB more of it, and does not use the certificates of the system.
huggingface_hub (27 MB with what it needs) refuses mirrors that are plain file servers, because
these do not send its own headers.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any
from urllib import error, request
from urllib.parse import urljoin, urlsplit

from birefnet.errors import WeightsError
from birefnet.files import patiently, remove_file
from birefnet.weights.cache import hub_token

Report = Callable[[int, "int | None"], None]
"""Called with the bytes that are there and the bytes expected, if known."""

_CHUNK = 1 << 20
_TRANSIENT_STATUS = {408, 425, 429, 500, 502, 503, 504}


class TransientError(Exception):
    """Worth another attempt; `wait` is what the server asked for [s]."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        super().__init__(message)
        self.wait = wait


class PermanentError(Exception):
    """This address will not give the file; `status` is the HTTP status, if there was one."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class WrongBytesError(Exception):
    """The file came whole, but it is another one than expected."""


class _Redirect(request.HTTPRedirectHandler):
    """Follows redirects safely and notes the checksum that Hugging Face announces on the way."""

    announced: str | None = None

    def redirect_request(
        self, req: request.Request, fp: Any, code: int, msg: str, headers: Any, newurl: str
    ) -> request.Request | None:
        target = urljoin(req.full_url, newurl)
        _check_address(target)
        if urlsplit(req.full_url).scheme == "https" and urlsplit(target).scheme != "https":
            raise PermanentError(f"{req.full_url} redirects to an unencrypted address")
        self.announced = headers.get("X-Linked-Etag") or self.announced
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _check_address(address: str) -> None:
    scheme = urlsplit(address).scheme.lower()
    if scheme not in ("http", "https"):
        raise PermanentError(f"{address} is not an http or https address")


def open_address(
    address: str, headers: dict[str, str] | None = None, *, timeout: float
) -> tuple[http.client.HTTPResponse, str | None]:
    """Send a GET request; returns the answer, and the file's SHA-256 if it was announced.

    Hugging Face gets the user's token.
    Failures become `TransientError` or `PermanentError`.
    """
    _check_address(address)
    sent = request.Request(
        address,
        headers={"User-Agent": "birefnet", "Accept-Encoding": "identity", **(headers or {})},
    )
    if token := hub_token(address):  # never handed on to where the server redirects
        sent.add_unredirected_header("Authorization", f"Bearer {token}")
    host = urlsplit(address).netloc
    redirect = _Redirect()
    try:
        answer = request.build_opener(redirect).open(sent, timeout=timeout)
        tag = (answer.headers.get("X-Linked-Etag") or redirect.announced or "").strip('"')
        return answer, tag if re.fullmatch(r"[0-9a-f]{64}", tag) else None
    except error.HTTPError as refusal:
        refusal.close()
        if refusal.code == 416:
            raise _range_refused(refusal) from None
        message = f"{host} answered {refusal.code} ({refusal.reason})"
        if refusal.code in _TRANSIENT_STATUS:
            raise TransientError(message, _retry_after(refusal.headers)) from None
        raise PermanentError(message, refusal.code) from None
    except error.URLError as failure:
        reason = failure.reason
        if isinstance(reason, ssl.SSLCertVerificationError):
            raise PermanentError(f"{host} has no valid certificate ({reason.reason})") from None
        raise TransientError(f"{host} cannot be reached ({_short(reason)})") from None
    except (OSError, http.client.HTTPException) as failure:
        raise TransientError(f"{host} broke off ({_short(failure)})") from None
    except ValueError as failure:
        raise PermanentError(f"{address} is not a usable address ({failure})") from None


class _RangeRefusedError(Exception):
    def __init__(self, total: int | None) -> None:
        super().__init__("range refused")
        self.total = total


def _range_refused(answer: error.HTTPError) -> _RangeRefusedError:
    match = re.fullmatch(r"bytes \*/(\d+)", answer.headers.get("Content-Range", ""))
    return _RangeRefusedError(int(match[1]) if match else None)


def _retry_after(headers: Any) -> float | None:
    value = (headers.get("Retry-After") or "").strip()
    return min(float(value), 60.0) if value.isdigit() else None


def _short(failure: object) -> str:
    return str(failure).strip() or type(failure).__name__


def transfer(
    address: str,
    part: Path,
    report: Report,
    *,
    timeout: float = 30.0,
    checksum_known: bool = False,
) -> str | None:
    """Fetch `address` into `part`, continuing what lies there where that is safe.

    Continuing is safe when the server can confirm that the file has not changed (a strong ETag or a
    date), or when a checksum will be compared afterwards. Returns the SHA-256 that the server
    announced, if it did.

    Raises:
        TransientError: another attempt may succeed; `part` keeps what came.
        PermanentError: it will not.
        WeightsError: the disk is full or may not be written.
    """
    tag_file = part.with_name(part.name + ".tag")
    have, headers = _resume_headers(part, tag_file, checksum_known)
    try:
        answer, announced = open_address(address, headers, timeout=timeout)
    except _RangeRefusedError as refused:
        if have and refused.total == have:  # everything had come already
            return None
        discard(part)
        raise TransientError("the part already here does not fit the file") from None
    with answer:
        if "text/html" in answer.headers.get("Content-Type", ""):
            raise PermanentError(f"{urlsplit(address).netloc} sent a web page in place of the file")
        if have and not _continues(answer, have):
            have = 0
        length = answer.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        _check_space(part.parent, (total or 0) - have)
        with _open_part(part, append=have > 0) as file:
            tag_file.write_text(_validator(answer.headers), encoding="utf-8")
            have = _copy(answer, file, have, total, report)
    if total is not None and have < total:
        raise TransientError(f"the connection broke off after {have:,} of {total:,} bytes")
    return announced


def _resume_headers(part: Path, tag_file: Path, checksum_known: bool) -> tuple[int, dict[str, str]]:
    try:
        have = part.stat().st_size
        tag = tag_file.read_text(encoding="utf-8")
    except OSError:
        return 0, {}
    if not have or not (tag or checksum_known):
        return 0, {}
    return have, {"Range": f"bytes={have}-", **({"If-Range": tag} if tag else {})}


def _continues(answer: http.client.HTTPResponse, have: int) -> bool:
    """Whether the answer goes on at byte `have`; a server may also start anew (status 200)."""
    if answer.status != 206:
        return False
    match = re.match(r"bytes (\d+)-", answer.headers.get("Content-Range", ""))
    if match is None or int(match[1]) != have:
        raise PermanentError("the server sent another part of the file than was asked for")
    return True


def _validator(headers: Any) -> str:
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _copy(
    answer: http.client.HTTPResponse,
    file: IO[bytes],
    have: int,
    total: int | None,
    report: Report,
) -> int:
    report(have, total)
    while True:
        broken: Exception | None = None
        try:
            chunk = answer.read(_CHUNK)
        except http.client.IncompleteRead as failure:
            chunk, broken = failure.partial, failure
        except (OSError, http.client.HTTPException) as failure:
            chunk, broken = b"", failure
        try:
            file.write(chunk)
            file.flush()
        except OSError as failure:
            raise disk_error(Path(file.name).parent, failure) from None
        have += len(chunk)
        report(have, total)
        if broken is not None:
            raise TransientError(f"the connection broke off ({_short(broken)})") from None
        if not chunk:
            return have


def _open_part(part: Path, *, append: bool) -> IO[bytes]:
    try:
        return patiently(lambda: open(part, "ab" if append else "wb"))
    except OSError as failure:
        raise disk_error(part.parent, failure) from None


def _check_space(folder: Path, needed: int) -> None:
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise WeightsError(
            f"the download needs {needed / 1e6:,.0f} MB and {folder} has {free / 1e6:,.0f} MB "
            "left: make room, or set BIREFNET_CACHE to another folder"
        )


def disk_error(folder: Path, failure: OSError) -> WeightsError:
    """The sentence for a folder that cannot be written."""
    reason = os.strerror(failure.errno) if failure.errno else _short(failure)
    return WeightsError(
        f"cannot write to {folder} ({reason}): make room there, or set BIREFNET_CACHE to a folder "
        "you may write to"
    )


def discard(part: Path) -> None:
    """Remove a partial file and what was noted of it."""
    remove_file(part)
    remove_file(part.with_name(part.name + ".tag"))
