"""Fetch weights: once, verified, resumable, safe beside other processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import random
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from filelock import FileLock, Timeout

from birefnet.errors import WeightsError, counted
from birefnet.files import replace_file
from birefnet.terminal import progress_bar
from birefnet.weights.cache import (
    HUB,
    cache_directory,
    hub_cached,
    is_offline,
    mirrored,
)
from birefnet.weights.catalogue import Checkpoint, find
from birefnet.weights.transfer import (
    PermanentError,
    Report,
    TransientError,
    WrongBytesError,
    discard,
    disk_error,
    transfer,
)

SWITCHED_OFF = "downloads are switched off (BIREFNET_OFFLINE, HF_HUB_OFFLINE; unset them to fetch)"
_LOCK_SECONDS = 6 * 3600


class FetchError(WeightsError):
    """Weights that cannot be downloaded; the message ends with the ways round it.

    Attributes:
        reason: what happened, in a clause.
        address: of the file or repository.
    """

    def __init__(self, reason: str, address: str) -> None:
        self.reason, self.address = reason, address
        super().__init__(
            f"{reason}; download {address} elsewhere and give its path, or set BIREFNET_MIRROR to "
            "a server that has it"
        )


@dataclass(frozen=True)
class _Item:
    """A file to fetch: its label for messages, where from, where to, and how to check it."""

    label: str
    addresses: tuple[str, ...]
    path: Path
    bytes: int | None
    sha256: str | None
    needs_terms: str | None = None

    def is_there(self) -> bool:
        # A file gets its name only after its checksum was compared, so its size is check enough.
        return self.path.is_file() and self.bytes in (None, self.path.stat().st_size)


def fetch(
    what: Checkpoint | str,
    *,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
    sha256: str | None = None,
    verify: bool = True,
    retries: int = 4,
    backoff: float = 0.5,
    timeout: float = 30.0,
) -> Path:
    """The local path of a checkpoint's file; downloads it if it is not there yet.

    Args:
        what: a checkpoint of the catalogue, its name, or an http(s) address.
        cache_dir: folder for downloads; default BIREFNET_CACHE, or the user's cache folder. A file
            in Hugging Face's cache is used where it lies.
        offline: refuse to download; default BIREFNET_OFFLINE or HF_HUB_OFFLINE.
        progress: a bar on the terminal, or a function of (bytes there, bytes expected or None);
            default: a bar if the error output is a terminal.
        sha256: expected checksum of an address's file.
        verify: compare the checksum, if one is known.
        retries: attempts after the first, not counting those that made the file grow.
        backoff: first pause between attempts [s], doubled each time.
        timeout: of the server's silence [s].

    Raises:
        FetchError: offline and not there, not reachable, wrong bytes.
        WeightsError: no such name, no room.
    """
    item = _item(what, cache_directory(cache_dir), sha256)
    path = item.path if item.is_there() else _in_hub_cache(what)
    if path is not None:
        return path
    if is_offline(offline):
        raise FetchError(
            f"{item.label} is not in {cache_directory(cache_dir)} and {SWITCHED_OFF}",
            item.addresses[0],
        )
    try:
        item.path.parent.mkdir(parents=True, exist_ok=True)
        with _locked(item), _reporter(progress, item) as report:
            if not item.is_there():  # another process may have fetched it meanwhile
                _download(item, report, verify, retries, backoff, timeout)
    except OSError as failure:
        raise disk_error(item.path.parent, failure) from None
    return item.path


def cached(
    what: Checkpoint | str, *, cache_dir: str | os.PathLike[str] | None = None
) -> Path | None:
    """The local path of a file that has been fetched before, else `None`; never downloads."""
    item = _item(what, cache_directory(cache_dir), None)
    return item.path if item.is_there() else _in_hub_cache(what)


def file_sha256(path: Path) -> str:
    """SHA-256 of a file, lowercase hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _item(what: Checkpoint | str, folder: Path, sha256: str | None) -> _Item:
    if isinstance(what, str) and "://" in what:
        name = re.sub(r"[^\w.\-]", "_", unquote(urlsplit(what).path).rpartition("/")[2]) or "file"
        # The same file name at another address is another file.
        digest = hashlib.sha256(what.encode()).hexdigest()[:12]
        return _Item(what, (what,), folder / f"url-{digest}" / name, None, sha256)
    checkpoint = find(what) if isinstance(what, str) else what
    expected = sha256 or checkpoint.sha256
    return _Item(
        checkpoint.name,
        checkpoint.addresses,
        folder / checkpoint.name / checkpoint.filename,
        checkpoint.bytes,
        expected,
        checkpoint.repo if checkpoint.gated else None,
    )


def _in_hub_cache(what: Checkpoint | str) -> Path | None:
    if isinstance(what, str) and "://" in what:
        return None
    checkpoint = find(what) if isinstance(what, str) else what
    if checkpoint.repo is None:
        return None
    for address in checkpoint.addresses:
        match = re.match(
            rf"{re.escape(HUB)}/{re.escape(checkpoint.repo)}/resolve/([^/]+)/", address
        )
        if match is None:
            continue
        filename = address[match.end() :]
        for revision in dict.fromkeys((match[1], "main")):
            path = hub_cached(
                checkpoint.repo,
                filename,
                revision,
                bytes=checkpoint.bytes,
                sha256=checkpoint.sha256,
            )
            if path is not None:
                return path
    return None


@contextlib.contextmanager
def _locked(item: _Item) -> Iterator[None]:
    """Hold the file's lock; the system lets go of it when a process dies, so it is never stale."""
    lock = FileLock(item.path.with_name(item.path.name + ".lock"))
    try:
        lock.acquire(timeout=0.2)
    except Timeout:
        if sys.stderr.isatty():
            print(f"another process is fetching {item.label}; waiting", file=sys.stderr)
        try:
            lock.acquire(timeout=_LOCK_SECONDS)
        except Timeout:
            raise WeightsError(
                f"another process has been fetching {item.label} for hours: stop it and try again"
            ) from None
    try:
        yield
    finally:
        lock.release()


def _download(
    item: _Item, report: Report, verify: bool, retries: int, backoff: float, timeout: float
) -> None:
    part = item.path.with_name(item.path.name + ".part")
    reasons: list[str] = []
    addresses = [address for own in item.addresses for address in mirrored(own)]
    while addresses:
        address = addresses.pop(0)
        continued = part.exists()
        try:
            announced = _attempts(address, part, report, item, retries, backoff, timeout)
            _check(part, item, announced, verify)
        except WrongBytesError as failure:
            if continued:  # what lay there may have been at fault: once more from the start
                addresses.insert(0, address)
            else:
                reasons.append(str(failure))
        except (PermanentError, TransientError) as failure:
            reasons.append(_explained(failure, item))
        else:
            replace_file(part, item.path)
            discard(part)
            return
    raise FetchError(
        f"cannot fetch {item.label}: {'; '.join(dict.fromkeys(reasons))}", item.addresses[0]
    )


def _attempts(
    address: str,
    part: Path,
    report: Report,
    item: _Item,
    retries: int,
    backoff: float,
    timeout: float,
) -> str | None:
    """Transfer, and again after passing failures; the count starts anew when the file has grown."""
    failures, largest = 0, part.stat().st_size if part.exists() else 0
    while True:
        try:
            return transfer(
                address,
                part,
                report,
                timeout=timeout,
                checksum_known=item.sha256 is not None,
            )
        except TransientError as failure:
            size = part.stat().st_size if part.exists() else 0
            failures = 0 if size > largest else failures + 1
            largest = max(largest, size)
            if failures > retries:
                raise TransientError(f"{failure}, {counted(failures, 'time')} in a row") from None
            pause = min(backoff * 2 ** max(failures - 1, 0), 30.0) * random.uniform(1.0, 1.25)
            time.sleep(pause if failure.wait is None else failure.wait)


def _check(part: Path, item: _Item, announced: str | None, verify: bool) -> None:
    size = part.stat().st_size
    if item.bytes is not None and size != item.bytes:
        discard(part)
        raise WrongBytesError(f"got {size:,} bytes, expected {item.bytes:,}")
    expected = item.sha256 or announced
    if expected is None or not verify:
        return
    actual = file_sha256(part)
    if actual != expected:
        discard(part)
        raise WrongBytesError(
            f"the file's SHA-256 is {actual}, expected {expected}: it was damaged on the way or "
            "replaced by its publisher"
        )


def _explained(failure: Exception, item: _Item) -> str:
    refused = isinstance(failure, PermanentError) and failure.status in (401, 403)
    if refused and item.needs_terms:
        return (
            f"{failure}; accept the terms at {HUB}/{item.needs_terms} and set HF_TOKEN to a token "
            "of that account"
        )
    return str(failure)


def _reporter(
    progress: bool | Report | None, item: _Item
) -> contextlib.AbstractContextManager[Report]:
    if callable(progress):
        return contextlib.nullcontext(progress)
    return progress_bar(item.label, show=progress is not False, in_bytes=True)
