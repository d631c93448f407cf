"""A picture behind a URL, fetched when it is read: in the thread that decodes it."""

from __future__ import annotations

import errno
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import BinaryIO

from birefnet.errors import ImageError


class Remote:
    """A binary file that `birefnet.imaging.io.decode` reads.

    Args:
        open: gives the file, each time anew; `fsspec` and `upath` have such things.
        name: its address, for people.
    """

    def __init__(self, open: Callable[[], AbstractContextManager[BinaryIO]], name: str) -> None:
        self._open = open
        self.name = name

    def read(self, size: int) -> bytes:
        """Its first `size` bytes.

        Raises:
            ImageError: it cannot be fetched; the cause is an `OSError`.
        """
        try:
            with self._open() as file:
                return bytes(file.read(size))
        except FileNotFoundError as error:
            raise ImageError(f"{self.name} does not exist.") from error
        except Exception as error:  # every protocol has errors of its own
            cause = error if isinstance(error, OSError) else OSError(errno.EIO, str(error))
            raise ImageError(f"{self.name} cannot be fetched: {error}.") from cause
