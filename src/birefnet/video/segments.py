"""The parts of a video under way: finished ones are kept beside the output, so that work goes on.

`OUT.parts/` holds `job.json` (the options) and, for each finished segment, its files and a
record `000000.json`, written last: a segment without a record does not exist.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from birefnet.errors import counted
from birefnet.files import is_written, write_atomic
from birefnet.video.errors import UnfinishedRunError, VideoError, writing_failed

_VERSION = 1
_JOB = "job.json"
_NAME_BYTES = 255  # of a file's name, on nearly all file systems


@dataclass(frozen=True)
class Segment:
    """A finished part.

    Attributes:
        number: its number, from 0.
        pts: time stamps of its frames, in the source's units.
        end: when the time of its last frame is over.
        reorder: for each target, see `FrameWriter.reorder`.
    """

    number: int
    pts: list[int]
    end: int
    reorder: list[int]


class Workplace:
    """The folder of parts of one output, held by one process at a time.

    Args:
        output: what all this is for.
        job: the options as JSON; parts are only good for the same job.
        resume: True goes on with earlier parts, False begins anew, None does neither.

    Raises:
        UnfinishedRunError: parts are there and `resume` is None, or they belong to another job.
        VideoError: another process is at it, or the folder cannot be made or is somebody else's.
    """

    def __init__(self, output: Path, job: dict[str, object], *, resume: bool | None) -> None:
        self.folder = output.with_name(_folder_name(output.name))
        self.finished: list[Segment] = []
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise writing_failed(error, self.folder) from error
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise VideoError(f"another process is writing {output}; wait for it") from None
        except OSError as error:
            raise writing_failed(error, self.folder) from error
        try:
            self._take_over(output, json.loads(json.dumps({"version": _VERSION} | job)), resume)
        except BaseException:
            self._lock.release()
            raise

    @property
    def frames(self) -> int:
        """How many are finished."""
        return sum(len(segment.pts) for segment in self.finished)

    def path(self, number: int, target: int, suffix: str) -> Path:
        """The file of one target in one segment."""
        infix = f".{target}" if target else ""
        return self.folder / f"{number:06d}{infix}{suffix}"

    def add(self, segment: Segment) -> None:
        """Count a segment as finished; its files must be."""
        data = json.dumps(asdict(segment)).encode()
        path = self._record(segment.number)
        try:
            write_atomic(path, data)
        except OSError as error:
            raise writing_failed(error, path) from error
        self.finished.append(segment)

    def release(self) -> None:
        """Let others take it; the parts stay, unless there are none."""
        self._lock.release()
        if not self.finished:
            shutil.rmtree(self.folder, ignore_errors=True)

    def remove(self) -> None:
        """All is done."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take_over(self, output: Path, job: dict[str, object], resume: bool | None) -> None:
        path = self.folder / _JOB
        earlier = _read(path)
        if earlier is None and any(not item.name.startswith(".") for item in self.folder.iterdir()):
            raise VideoError(
                f"{self.folder} is where the parts of {output.name} would go, but holds something "
                "else; move it away, or choose another output"
            )
        records = self._records() if earlier is not None else []
        if records and resume is None:
            raise UnfinishedRunError(
                "an earlier run has left "
                f"{counted(sum(len(part.pts) for part in records), 'frame')} in "
                f"{self.folder}; resume it, or restart from the beginning"
            )
        if records and resume:
            changed = sorted(
                key for key in {*job, *(earlier or {})} if job.get(key) != (earlier or {}).get(key)
            )
            if changed:
                key = changed[0]
                raise UnfinishedRunError(
                    f"the run to resume in {self.folder} was begun with another "
                    f"{', another '.join(changed)} ({key}: {(earlier or {}).get(key)!r}, now "
                    f"{job.get(key)!r}); give the same options, or restart from the beginning"
                )
            self.finished = records
            return
        for item in self.folder.iterdir():
            if item.name != ".lock":
                item.unlink() if item.is_file() else shutil.rmtree(item)
        try:
            write_atomic(path, json.dumps(job, indent=1).encode())
        except OSError as error:
            raise writing_failed(error, path) from error

    def _records(self) -> list[Segment]:
        """All finished segments, without gaps; one with an empty file is not finished."""
        segments: list[Segment] = []
        while (values := _read(self._record(len(segments)))) is not None:
            if not all(map(is_written, self.folder.glob(f"{len(segments):06d}*"))):
                break
            segments.append(Segment(**values))
        return segments

    def _record(self, number: int) -> Path:
        return self.folder / f"{number:06d}.json"


def _folder_name(name: str) -> str:
    """`NAME.parts`; where a file system has no room for that, a digest instead of the name."""
    if len(os.fsencode(name)) + len(".parts") > _NAME_BYTES:
        name = hashlib.blake2b(os.fsencode(name), digest_size=8).hexdigest()
    return f"{name}.parts"


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return None
    return values if isinstance(values, dict) else None
