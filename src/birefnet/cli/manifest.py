"""What became of each picture, one line of JSON each, so that a rerun does only what is left."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

NAME = "manifest.jsonl"


class Manifest:
    """A file of JSON lines, appended to as pictures are done or have failed.

    A line is written after the picture's output is in place, so a run that is killed leaves at most
    one picture to be done again. Of what was read, only a number per finished picture is kept in
    memory.

    Args:
        path: of the file; it need not exist.
        read: know what earlier runs have finished.
    """

    def __init__(self, path: Path, *, read: bool = True) -> None:
        self.path = path
        self._done: set[int] = set()
        is_torn = False
        if path.exists():
            with path.open("rb") as file:
                for line in file:
                    if read:
                        self._take(line)
                    is_torn = not line.endswith(b"\n")
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered, so that each line is one write: two runs may share the file.
        self._file = path.open("ab", buffering=0)
        if is_torn:
            self._file.write(b"\n")

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            key, status = int(entry["key"], 16), entry["status"]
        except (ValueError, KeyError, TypeError):
            return  # the line that a killed run was writing
        if status == "done":
            self._done.add(key)
        else:
            self._done.discard(key)

    def has(self, key: str) -> bool:
        """Whether the picture of this key is finished."""
        return int(key, 16) in self._done

    @property
    def done(self) -> frozenset[int]:
        """The keys of all finished pictures, as numbers."""
        return frozenset(self._done)

    def add(self, key: str, entry: dict[str, Any]) -> None:
        """Append what became of a picture: `input`, `output`, `status`, facts or `error`."""
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = json.dumps({**entry, "finished": now, "key": key}) + "\n"
        self._write(line.encode())
        self._take(line.encode())

    def _write(self, line: bytes) -> None:
        """All of a line, or none of it.

        Raises:
            OSError: the disk is full, or gone.
        """
        begin = self._file.seek(0, os.SEEK_END)
        try:
            if self._file.write(line) < len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.path))
        except OSError:
            with contextlib.suppress(OSError):
                self._file.truncate(begin)
            raise

    def close(self) -> None:
        self._file.close()


def key_of(*parts: str) -> str:
    """16 hexadecimal digits that stand for input, its version, output and settings together."""
    return hashlib.blake2b(
        "\0".join(parts).encode(errors="surrogateescape"), digest_size=8
    ).hexdigest()
