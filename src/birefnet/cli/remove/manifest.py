"""The manifest of a run: a line of JSON for each picture, so that a rerun skips finished ones."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path

from birefnet.files import exclusive, patiently

NAME = "manifest.jsonl"


class Manifest:
    """A file of JSON lines, appended to as pictures are done or have failed.

    A line is written after the picture's output is written, so a run that is killed leaves at most
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
        self._file = patiently(lambda: path.open("ab", buffering=0))
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

    def add(self, key: str, entry: dict[str, object]) -> None:
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
        with exclusive(self._file):
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


class Outputs:
    """The files that a manifest calls outputs, as far as they are there.

    Args:
        path: of the manifest.
        folder: the output folder it is about. Outputs are written in it as they were typed, from
            a working folder that may be another one today, so their last parts are looked for.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = Path(os.path.realpath(folder))
        self.is_own = False  # of the output folder of this run
        self._read = 0
        self._found: set[int] = set()

    def __contains__(self, path: object) -> bool:
        return isinstance(path, Path) and hash(os.path.realpath(path)) in self._found

    def refresh(self) -> None:
        """Read what was appended since the last time."""
        try:
            with self.path.open("rb") as file:
                file.seek(self._read)
                for line in file:
                    if line.endswith(b"\n"):
                        self._read += len(line)
                        self._take(line)
        except OSError:
            return

    def _take(self, line: bytes) -> None:
        try:
            entry = json.loads(line)
            output = Path(entry["output"])
            objects = [output.with_name(each["file"]) for each in entry.get("objects", ())]
        except (ValueError, KeyError, TypeError, AttributeError):
            return  # of a failed picture, or of another program
        for path in (output, *objects):
            ends = (self.folder.joinpath(*path.parts[first:]) for first in range(len(path.parts)))
            for end in (Path(os.path.realpath(path)), *ends):
                if end.is_relative_to(self.folder) and end.is_file():
                    self._found.add(hash(os.path.realpath(end)))
                    break


def key_of(*parts: str) -> str:
    """16 hexadecimal digits that stand for input, its version, output and settings together."""
    return hashlib.blake2b(
        "\0".join(parts).encode(errors="surrogateescape"), digest_size=8
    ).hexdigest()
