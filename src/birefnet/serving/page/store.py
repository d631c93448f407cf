"""What visitors of the page are working on: in memory and bounded, by tokens nobody can guess."""

from __future__ import annotations

import secrets
import tempfile
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from birefnet.errors import BiRefNetError
from birefnet.matte import Matte
from birefnet.serving.page.retouch import Stroke, Window

MIB = 2**20
KEPT_BYTES = 1024 * MIB
KEPT_ON_DISK = 8192 * MIB
KEPT_SECONDS = 3600.0


class GoneError(BiRefNetError):
    """What was kept for a visitor has made room for others'."""

    def __init__(self) -> None:
        super().__init__("the server no longer has this picture; upload it again")


@dataclass(eq=False)
class Work:
    """One picture that a visitor brought, and what was made of it last.

    Attributes:
        name: of the file, without suffix.
        source: the file's bytes.
        guide: fields of `Options` that say which object is meant.
        turn: how often that was said anew.
        windows: what is done once more from close up: left, top, right, bottom as shares.
        strokes: of the brush that erases and restores.
        matte: the network's matte, after what it belongs to.
        refined: the same with the windows, after what it belongs to.
        finished: the same with the strokes, and then after `Options.finish`, after what they
            belong to.
    """

    name: str
    source: bytes
    guide: dict[str, Any] = field(default_factory=dict)
    turn: int = 0
    windows: tuple[Window, ...] = ()
    strokes: tuple[Stroke, ...] = ()
    matte: tuple[object, Matte] | None = None
    refined: tuple[tuple[object, tuple[Window, ...]], Matte] | None = None
    finished: tuple[object, Matte, Matte] | None = None

    @property
    def in_memory(self) -> int:
        """About how many bytes of memory it takes."""
        kept = [m for kept in (self.matte, self.refined, self.finished) for m in (kept or ())[1:]]
        mattes = {id(matte): matte for matte in kept}
        return len(self.source) + sum(_size(matte) for matte in mattes.values())

    @property
    def on_disk(self) -> int:
        return 0


@dataclass(frozen=True)
class File:
    """Something that a browser fetches.

    Attributes:
        name: under which it is saved.
        media_type: such as image/png.
        data: its contents; empty if they are on the disk.
        path: where they are on the disk; the file goes with this.
    """

    name: str
    media_type: str
    data: bytes = b""
    path: Path | None = None

    @property
    def in_memory(self) -> int:
        return len(self.data)

    @property
    def on_disk(self) -> int:
        try:
            return self.path.stat().st_size if self.path else 0
        except OSError:
            return 0


class Store:
    """Things by tokens; those used last stay, as many as fit.

    Args:
        memory: bytes of all things together; the newest stays even if it alone is larger.
        disk: the same for their files.
        seconds: what is not asked for during this time goes.
    """

    def __init__(
        self,
        memory: int = KEPT_BYTES,
        disk: int = KEPT_ON_DISK,
        seconds: float = KEPT_SECONDS,
    ) -> None:
        self.memory, self.disk, self.seconds = memory, disk, seconds
        self._things: OrderedDict[str, tuple[float, Work | File]] = OrderedDict()
        self._lock = threading.Lock()
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def new_path(self, suffix: str) -> Path:
        """A path for a file, in a folder that goes when the program ends."""
        with self._lock:
            if self._folder is None:
                self._folder = tempfile.TemporaryDirectory(prefix="birefnet-page-")
            return Path(self._folder.name) / f"{secrets.token_hex(8)}{suffix}"

    def put(self, thing: Work | File) -> str:
        """Keep it; gives its token."""
        token = secrets.token_urlsafe(18)
        with self._lock:
            self._things[token] = (time.monotonic(), thing)
        self.tidy()
        return token

    def work(self, token: str | None) -> Work:
        """The picture of this token.

        Raises:
            GoneError: it is not (or no longer) there.
        """
        thing = self._get(token)
        if not isinstance(thing, Work):
            raise GoneError
        return thing

    def file(self, token: str) -> File | None:
        """The file of this token; None if it is not (or no longer) there."""
        thing = self._get(token)
        return thing if isinstance(thing, File) else None

    def drop(self, token: str | None) -> None:
        """Forget it, if it is there."""
        with self._lock:
            self._let_go(token or "")

    def tidy(self) -> None:
        """Let go of what is too old or too much; call it when a thing has grown."""
        with self._lock:
            oldest = time.monotonic() - self.seconds
            memory = sum(thing.in_memory for _, thing in self._things.values())
            disk = sum(thing.on_disk for _, thing in self._things.values())
            while self._things:
                token, (used, thing) = next(iter(self._things.items()))
                fits = (memory <= self.memory and disk <= self.disk) or len(self._things) == 1
                if fits and used >= oldest:
                    break
                memory, disk = memory - thing.in_memory, disk - thing.on_disk
                self._let_go(token)

    def __len__(self) -> int:
        return len(self._things)

    def _let_go(self, token: str) -> None:
        _, thing = self._things.pop(token, (0.0, None))
        if isinstance(thing, File) and thing.path is not None:
            thing.path.unlink(missing_ok=True)

    def _get(self, token: str | None) -> Work | File | None:
        self.tidy()
        with self._lock:
            entry = self._things.pop(token or "", None)
            if entry is None:
                return None
            self._things[token or ""] = (time.monotonic(), entry[1])
            return entry[1]


def _size(matte: Matte) -> int:
    """Alpha, pixels, and the refined colours, which the matte keeps once they are made [bytes]."""
    return int(matte.alpha.nbytes + 2 * matte.picture.pixels.nbytes)
