"""Results that clients fetch by URL: kept on disk for a while under names nobody can guess."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import time
from collections import OrderedDict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import FileResponse

from birefnet.serving.errors import NotFound
from birefnet.serving.registry import Registry
from birefnet.serving.service import Service
from birefnet.serving.settings import ServerSettings

PREFIX = "/files"
KEPT_BYTES = 2**30
"""Of all results together; the oldest go first."""


@dataclass(frozen=True)
class StoredFile:
    """One file of the store.

    Attributes:
        path: where it lies.
        name: what the client is to call it.
        media_type: such as image/png.
        bytes: its size.
        until: when it is deleted [Unix time].
    """

    path: Path
    name: str
    media_type: str
    bytes: int
    until: float


class ResultFiles:
    """Files by token, forgotten after `keep_s` or when others need the room.

    Args:
        settings: `keep_s` and `jobs_folder`.
        most_bytes: of all together.
    """

    def __init__(self, settings: ServerSettings, most_bytes: int = KEPT_BYTES) -> None:
        self._settings, self._most = settings, most_bytes
        self._files: OrderedDict[str, StoredFile] = OrderedDict()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def add(self, source: bytes | Path, name: str, media_type: str) -> str:
        """Keep bytes, or a file that is moved here; gives the path of its URL."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(
                prefix="birefnet-files-", dir=self._settings.jobs_folder
            )
        token = secrets.token_urlsafe(24)
        path = Path(self._folder.name) / token
        if isinstance(source, Path):
            shutil.move(source, path)
        else:
            path.write_bytes(source)
        size = path.stat().st_size
        self._files[token] = StoredFile(
            path, name, media_type, size, time.time() + self._settings.keep_s
        )
        self._forget()
        return f"{PREFIX}/{token}/{name}"

    def get(self, token: str) -> StoredFile:
        """Raises `NotFound` for what never was or is forgotten."""
        self._forget()
        kept = self._files.get(token)
        if kept is None:
            raise NotFound("there is no such file; results are kept for a limited time")
        return kept

    def close(self) -> None:
        """Delete everything."""
        self._files.clear()
        if self._folder is not None:
            self._folder.cleanup()
            self._folder = None

    def _forget(self) -> None:
        now = time.time()
        total = sum(kept.bytes for kept in self._files.values())
        for token, kept in list(self._files.items()):
            # The newest stays, however large: its client has just been given the URL.
            if kept.until > now and (total <= self._most or len(self._files) == 1):
                break
            del self._files[token]
            kept.path.unlink(missing_ok=True)
            total -= kept.bytes


_stores: WeakKeyDictionary[Service, ResultFiles] = WeakKeyDictionary()


def files_of(service: Service) -> ResultFiles:
    """The store that all families of one service share."""
    return _stores.setdefault(service, ResultFiles(service.settings))


def register_routes(registry: Registry) -> None:
    """Add `GET /files/{token}/{name}`."""
    files = files_of(registry.service)

    @asynccontextmanager
    async def until_the_end(app: object) -> AsyncIterator[None]:
        yield
        files.close()

    routes = APIRouter(tags=["results"], lifespan=until_the_end)

    @routes.get(
        PREFIX + "/{token}/{name}",
        summary="A result that another route gave the URL of",
        response_class=FileResponse,
    )
    async def result_file(token: str, name: str) -> FileResponse:
        kept = files.get(token)
        return FileResponse(
            kept.path,
            media_type=kept.media_type,
            filename=kept.name,
            content_disposition_type="inline",
            headers={"Cache-Control": "private, max-age=3600", "X-Content-Type-Options": "nosniff"},
        )

    registry.add(routes)


def address(request: Request, path: str) -> str:
    """The absolute URL of a path of this server, as the client reached it."""
    return str(request.base_url).rstrip("/") + path
