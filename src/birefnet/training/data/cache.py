"""Decoded pictures in memory that all workers share, filled as they are first read.

The pixels lie in one file without a name, mapped by every process: the system keeps it in memory,
may write it out when memory is short, and drops it when the last process ends, however that is.
"""

from __future__ import annotations

import mmap
import multiprocessing
import os
import tempfile
from multiprocessing import reduction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.training.data.sources import Pixels

_FIELDS = 4  # offset + 1 (0: not there), height, width, channels
_HEADER = 1  # of rows: bytes used so far
_DELETED_WHEN_CLOSED = getattr(os, "O_TEMPORARY", 0) | getattr(os, "O_BINARY", 0)


class PixelCache:
    """A store of `count` pictures that takes at most `limit` bytes of pixels.

    It goes along to the workers of a `DataLoader`, forked or started anew. What does not fit any
    more is decoded each time.
    """

    def __init__(self, count: int, limit: int) -> None:
        self.count, self.limit = count, limit
        self._lock = multiprocessing.get_context("spawn").Lock()
        self._index_bytes = 8 * _FIELDS * (count + _HEADER)
        handle, path = tempfile.mkstemp(prefix="birefnet-cache-")
        self._path: str | None = None
        if _DELETED_WHEN_CLOSED:  # Windows keeps the name of an open file
            os.close(handle)
            handle, self._path = os.open(path, os.O_RDWR | _DELETED_WHEN_CLOSED), path
        # Written, not only reserved: a full disk is an error here, not a crash later.
        os.write(handle, bytes(self._index_bytes))
        os.truncate(handle, self._index_bytes + limit)
        if self._path is None:
            os.unlink(path)
        self._open(handle)

    def _open(self, handle: int) -> None:
        self._handle = handle
        self._map = mmap.mmap(handle, self._index_bytes + self.limit)
        table = np.frombuffer(self._map, np.int64, _FIELDS * (self.count + _HEADER))
        self._table = table.reshape(-1, _FIELDS)

    @property
    def used(self) -> int:
        """Bytes of pixels that it holds."""
        return int(self._table[0, 0])

    def get(self, index: int) -> Pixels | None:
        """Picture `index`, read-only; None where it is not there."""
        offset, height, width, channels = (int(v) for v in self._table[index + _HEADER])
        if not offset:
            return None
        start = self._index_bytes + offset - 1
        pixels: NDArray[np.uint8] = np.frombuffer(
            self._map, np.uint8, height * width * channels, start
        )
        pixels = pixels.reshape(height, width, channels)
        pixels.flags.writeable = False
        return pixels

    def put(self, index: int, pixels: Pixels) -> None:
        """Keep a picture if there is room for it."""
        row = index + _HEADER
        with self._lock:
            offset = self.used
            if self._table[row, 0] or offset + pixels.size > self.limit:
                return
            self._table[0, 0] = offset + pixels.size
        # Written through the file: on a full disk this is an error, where the map would crash.
        try:
            self._write(self._index_bytes + offset, np.ascontiguousarray(pixels).data.cast("B"))
        except OSError:
            self._table[0, 0] = self.limit  # no room for any more, so nothing else is tried
            return
        self._table[row, 1:] = pixels.shape
        self._table[row, 0] = offset + 1  # last: from now on others see it

    def _write(self, start: int, data: memoryview) -> None:
        while data:
            if hasattr(os, "pwrite"):
                written = os.pwrite(self._handle, data, start)
            else:
                with self._lock:
                    os.lseek(self._handle, start, os.SEEK_SET)
                    written = os.write(self._handle, data)
            data, start = data[written:], start + written

    def __getstate__(self) -> tuple[object, ...]:
        handle = reduction.DupFd(self._handle) if self._path is None else None
        return self.count, self.limit, self._lock, self._index_bytes, self._path, handle

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.count, self.limit, self._lock, self._index_bytes, self._path, handle = state
        if self._path is None:
            self._open(handle.detach())
        else:
            self._open(os.open(self._path, os.O_RDWR | _DELETED_WHEN_CLOSED))
