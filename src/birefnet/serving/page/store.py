"""What visitors of the page are working on, in memory and bounded; nothing of it is on the disk."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.matte import Matte

MIB = 2**20
KEPT_BYTES = 1024 * MIB
KEPT_SECONDS = 3600.0


class GoneError(BiRefNetError):
    """What was kept for a visitor has made room for others'."""

    def __init__(self) -> None:
        super().__init__("this picture is no longer kept here; bring it once more")


@dataclass(eq=False)
class Work:
    """One picture that a visitor brought, and what was made of it last.

    Attributes:
        name: of the file, without suffix.
        source: the file's bytes.
        guide: fields of `Options` that say which object is meant.
        turn: how often that was said anew.
        matte: the network's matte, and the options and model that it belongs to.
        finished: the same after `Options.finish`, and the options that it belongs to.
    """

    name: str
    source: bytes
    guide: dict[str, Any] = field(default_factory=dict)
    turn: int = 0
    matte: tuple[Any, Matte] | None = None
    finished: tuple[Any, Matte] | None = None

    @property
    def nbytes(self) -> int:
        """About how much memory it takes."""
        total = len(self.source)
        if self.matte is not None:
            # Alpha, pixels and the refined colours, which the matte keeps once they are made.
            total += _size(self.matte[1])
        if self.finished is not None and (
            self.matte is None or self.finished[1] is not self.matte[1]
        ):
            total += _size(self.finished[1])
        return total


@dataclass(frozen=True)
class File:
    """Something that a browser fetches.

    Attributes:
        name: under which it is saved.
        data: its contents.
        media_type: such as image/png.
    """

    name: str
    data: bytes
    media_type: str

    @property
    def nbytes(self) -> int:
        return len(self.data)


class Store:
    """Things by unguessable tokens; those used last stay, as many as fit in `budget` bytes.

    Args:
        budget: bytes of all things together; the newest stays even if it alone is larger.
        seconds: what is not asked for during this time goes.
    """

    def __init__(self, budget: int = KEPT_BYTES, seconds: float = KEPT_SECONDS) -> None:
        self.budget, self.seconds = budget, seconds
        self._things: OrderedDict[str, tuple[float, Work | File]] = OrderedDict()
        self._lock = threading.Lock()

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
            self._things.pop(token or "", None)

    def tidy(self) -> None:
        """Let go of what is too old or too much; call it when a thing has grown."""
        with self._lock:
            oldest = time.monotonic() - self.seconds
            total = sum(thing.nbytes for _, thing in self._things.values())
            while len(self._things) > 1:
                used, thing = next(iter(self._things.values()))
                if total <= self.budget and used >= oldest:
                    break
                self._things.popitem(last=False)
                total -= thing.nbytes

    def __len__(self) -> int:
        return len(self._things)

    def _get(self, token: str | None) -> Work | File | None:
        with self._lock:
            found = self._things.pop(token or "", None)
            if found is None:
                return None
            self._things[token or ""] = (time.monotonic(), found[1])
            return found[1]


def _size(matte: Matte) -> int:
    arrays: list[NDArray[Any]] = [matte.alpha, matte.picture.pixels, matte.picture.pixels]
    return sum(np.asarray(array).nbytes for array in arrays)
