"""Zips from strangers: read within limits, and written as they are sent."""

from __future__ import annotations

import asyncio
import contextlib
import io
import stat
import struct
import zipfile
import zlib
from collections import Counter, deque
from collections.abc import AsyncGenerator, Callable
from dataclasses import dataclass
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, BinaryIO, TypeVar

from birefnet.errors import ImageError, counted
from birefnet.files import folded
from birefnet.imaging.formats import is_picture
from birefnet.serving.errors import Failure, InvalidRequest, TooLarge, reported
from birefnet.serving.settings import MIB, ServerSettings

if TYPE_CHECKING:
    from birefnet.options import Options
    from birefnet.serving.service import Result, Service

Kept = TypeVar("Kept")

_RECORD = struct.Struct("<4s4H2LH")  # end of central directory, APPNOTE.TXT 4.3.16
_LOCATOR = struct.Struct("<4sLQL")  # of the record of a ZIP64 file, 4.3.15
_RECORD_64 = struct.Struct("<4sQ2H2L4Q")  # that record, 4.3.14
_LONGEST_COMMENT = 65535
_DIRECTORY_ENTRY = 46 + 1024  # bytes: its fixed part, and a generous name with extra fields
_JUNK = frozenset({".DS_Store", "Thumbs.db", "desktop.ini"})  # what systems leave behind
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Entry:
    """One of many files, such as those in a zip.

    Attributes:
        name: as the zip has it.
        path: the same as a safe relative path with /; None where it would leave the folder.
        read: gives its bytes, in a thread, or raises `ImageError`.
    """

    name: str
    path: PurePosixPath | None
    read: Callable[[], bytes]

    @property
    def is_picture(self) -> bool:
        return self.path is not None and is_picture(self.path)


class Unzipped:
    """The files in a zip, one at a time.

    Args:
        file: of the zip, seekable.
        settings: how many entries, how large, and how far expanded.

    Raises:
        InvalidRequest: not a zip, or a broken one.
        TooLarge: beyond the limits, as the zip itself says.
    """

    def __init__(self, file: BinaryIO, settings: ServerSettings) -> None:
        self._settings = settings
        self._check_directory(file)
        try:
            self._zip = zipfile.ZipFile(file)
        except (*_BROKEN, ValueError, UnicodeError) as error:
            raise InvalidRequest(f"the zip cannot be read: {_reason(error)}") from None
        infos = [info for info in self._zip.infolist() if not info.is_dir()]
        # Of equal names the last counts.
        entries = {info.filename: self._entry(info) for info in infos}
        self.entries = [
            entry
            for entry in entries.values()
            if not entry.path
            or (entry.path.parts[0] != "__MACOSX" and entry.path.name not in _JUNK)
        ]
        if len(infos) > settings.max_entries:
            raise TooLarge(
                f"the zip has {counted(len(infos), 'file')}; this server takes "
                f"{settings.max_entries:,}"
            )
        total = sum(info.file_size for info in infos)
        if total > settings.max_unzipped:
            raise TooLarge(
                f"the zip expands to {total:,} bytes; this server takes {settings.max_unzipped:,}"
            )

    def _entry(self, info: zipfile.ZipInfo) -> Entry:
        path = PurePosixPath(info.filename.replace("\\", "/"))
        parts = [part for part in path.parts if part != "."]
        unsafe = path.is_absolute() or ".." in parts or not parts or ":" in parts[0]
        unsafe = unsafe or any(ord(letter) < 32 for letter in info.filename)
        safe = None if unsafe else PurePosixPath(*parts)
        return Entry(info.filename, safe, partial(self._read, info, safe))

    def _read(self, info: zipfile.ZipInfo, path: PurePosixPath | None) -> bytes:
        """The bytes of one file, never more than the zip announced.

        Raises:
            ImageError: it is unsafe, no picture, too large, packed suspiciously well, or broken.
        """
        settings = self._settings
        if path is None:
            raise ImageError(f"{info.filename[:100]!r} leads out of the zip's folder")
        if not is_picture(path):
            raise ImageError("its name is not that of a picture")
        if stat.S_ISLNK(info.external_attr >> 16):
            raise ImageError("it is a link, not a file")
        if info.flag_bits & 1:
            raise ImageError("it is encrypted")
        if info.file_size > settings.max_bytes:
            raise ImageError(f"it is larger than {settings.max_bytes:,} bytes, the limit")
        ratio = info.file_size / max(1, info.compress_size)
        if info.file_size > MIB and ratio > settings.max_zip_ratio:
            raise ImageError(f"it expands {ratio:,.0f} times; at most {settings.max_zip_ratio:g}")
        try:
            return self._zip.read(info)
        except _BROKEN as error:
            raise ImageError(f"it cannot be unpacked: {_reason(error)}") from None

    def _check_directory(self, file: BinaryIO) -> None:
        """Judge the size of the table of contents before it is read into memory."""
        size = file.seek(0, io.SEEK_END)
        file.seek(max(0, size - _LONGEST_COMMENT - _RECORD.size))
        tail = file.read()
        at = tail.rfind(b"PK\x05\x06")
        if at < 0 or len(tail) - at < _RECORD.size:
            raise InvalidRequest("the file is not a zip, or the end of it is missing")
        directory = max(_RECORD.unpack_from(tail, at)[5], self._zip64_directory(file, tail, at))
        if directory > self._settings.max_entries * _DIRECTORY_ENTRY:
            raise TooLarge(
                f"the zip has too many files; this server takes {self._settings.max_entries:,}"
            )

    def _zip64_directory(self, file: BinaryIO, tail: bytes, at: int) -> int:
        """Bytes of the table of contents as the ZIP64 record says, which counts where there is one.

        Readers look for it at the offset that the locator names, or right before the locator.
        """
        before = at - _LOCATOR.size
        if before < 0 or not tail.startswith(b"PK\x06\x07", before):
            return 0
        end = file.seek(0, io.SEEK_END) - len(tail) + before
        sizes = []
        for position in (_LOCATOR.unpack_from(tail, before)[2], end - _RECORD_64.size):
            if 0 <= position <= end - _RECORD_64.size:
                file.seek(position)
                record = _RECORD_64.unpack(file.read(_RECORD_64.size))
                if record[0] == b"PK\x06\x06":
                    sizes.append(record[8])
        return max(sizes, default=0)


class ZipStream:
    """A zip that is written to a connection: `add` gives the bytes to send next."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_STORED)

    def add(self, path: str, data: bytes) -> bytes:
        """One more file; pictures are stored as they are, for they are compressed already."""
        self._zip.writestr(path, data)
        return self._sink.take()

    def end(self) -> bytes:
        """The table of contents."""
        self._zip.close()
        return self._sink.take()


class _Sink(io.RawIOBase):
    """Takes what a `ZipFile` writes; it cannot seek, so that nothing is changed afterwards."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []

    def writable(self) -> bool:
        return True

    def write(self, data: bytes) -> int:  # type: ignore[override]
        self._parts.append(bytes(data))
        return len(data)

    def take(self) -> bytes:
        data = b"".join(self._parts)
        self._parts.clear()
        return data


class Names:
    """Where the result of each entry goes: same folder and name, another suffix.

    Two pictures whose names differ in the suffix alone keep it, so that none replaces the other,
    also where the zip is unpacked on a file system that does not tell `A.png` from `a.png`.

    Args:
        entries: of the zip that came in.
        suffix: of the results, such as ".png".
    """

    def __init__(self, entries: list[Entry], suffix: str) -> None:
        self._suffix = suffix
        self._taken = {"manifest.jsonl"}
        stems = Counter(folded(entry.path.with_suffix("")) for entry in entries if entry.path)
        self._of: dict[str, str] = {}
        for entry in entries:
            if entry.path is not None:
                stem = entry.path.with_suffix("")
                is_alone = stems[folded(stem)] == 1
                self._of[entry.name] = self._free(str(stem if is_alone else entry.path))

    def of(self, entry: Entry) -> str:
        """For the result of a picture."""
        return self._of[entry.name]

    def numbered(self, entry: Entry, number: int) -> str:
        """For one object of a picture: NAME.1.png."""
        return self._free(f"{self.of(entry).removesuffix(self._suffix)}.{number}")

    def _free(self, stem: str) -> str:
        name, more = f"{stem}{self._suffix}", 2
        while folded(name) in self._taken:
            name, more = f"{stem}.{more}{self._suffix}", more + 1
        self._taken.add(folded(name))
        return name


async def results(
    entries: list[Entry],
    service: Service,
    options: Options,
    model: str | None,
    *,
    abreast: int,
    keep: Callable[[Result], Kept],
) -> AsyncGenerator[tuple[Entry, Kept | Failure], None]:
    """What became of each picture, in the order of the entries, whichever is done first.

    Args:
        entries: the pictures.
        service: does the work.
        options, model: see `Service.removing`.
        abreast: pictures that are under way; others of the server go between.
        keep: the part of a result that is wanted; mattes are large.
    """
    waiting, running = deque(entries), deque[tuple[Entry, asyncio.Task[Kept]]]()
    reading = asyncio.Lock()  # a zip is one file: entries are read one after the other

    async def one(entry: Entry) -> Kept:
        async with reading:
            data = await service.in_thread(entry.read)
        return keep(await service.remove(data, options, model=model, wait=True))

    try:
        while waiting or running:
            while waiting and len(running) < abreast:
                running.append((waiting[0], asyncio.create_task(one(waiting.popleft()))))
            entry, task = running.popleft()
            try:
                kept: Kept | Failure = await task
            except Exception as error:
                kept = reported(error, f"{entry.name[:100]!r} of many pictures")
            yield entry, kept
    finally:
        for _, task in running:
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.gather(*(task for _, task in running), return_exceptions=True)


def _reason(error: BaseException) -> str:
    return (str(error) or type(error).__name__).partition("\n")[0][:120]
