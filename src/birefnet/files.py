"""What Windows and macOS do otherwise than Linux: files, and how many cores there are."""

from __future__ import annotations

import errno
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from upath import UPath

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

T = TypeVar("T")

IS_WINDOWS = os.name == "nt"
_WAITS = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 0.5, 0.5)  # seconds between tries
_LONGEST_PATH = 259  # characters, unless long paths are enabled
_DEVICES = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|com[0-9¹²³]|lpt[0-9¹²³])\s*(\..*)?", re.I)
_FORBIDDEN = re.compile(r'[<>:"/\\|?*\x00-\x1f]')


def is_written(path: Path | UPath) -> bool:
    """Whether a result is there; an empty file is none, such as a crash or a full disk leaves."""
    try:
        return path.stat().st_size > 0
    except OSError:
        return False


def patiently(action: Callable[[], T]) -> T:
    """Do something to a file; on Windows again for two seconds while access is denied.

    Windows denies access to a file that another program has open or mapped, and to a name whose
    file is being deleted. Elsewhere access that is denied stays so, and there is one try.

    Raises:
        PermissionError: access was denied until the end.
    """
    for wait in _WAITS if IS_WINDOWS else ():
        try:
            return action()
        except PermissionError:
            time.sleep(wait)
    return action()


def replace_file(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """As `os.replace`, with patience.

    Raises:
        OSError: `target` cannot be replaced, or Windows does not take its name.
    """
    check_path(target)
    try:
        patiently(lambda: os.replace(source, target))
    except PermissionError as error:
        if not IS_WINDOWS:
            raise
        reason = "another program has it open, or you may not write there; close it and try again"
        raise PermissionError(error.errno, reason, os.fspath(target)) from error


@contextmanager
def draft_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path`, for files that are renamed when they are whole.

    Raises:
        OSError: nothing can be written there; it has the name of `path`.
    """
    import tempfile  # slow, and only a few commands need it

    try:
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".birefnet-")
    except OSError as error:
        error.filename = os.fspath(path)
        raise
    with folder as name:
        yield Path(name)


@contextmanager
def exclusive(file: FileIO) -> Iterator[None]:
    """Hold off every other process that asks for the same file in this way.

    Where the file system has no locks, nobody is held off.
    """
    if fcntl is None:
        from filelock import FileLock

        with FileLock(f"{os.fspath(file.name)}.lock"):
            yield
        return
    try:
        fcntl.flock(file.fileno(), fcntl.LOCK_EX)
    except OSError:
        yield
        return
    try:
        yield
    finally:
        fcntl.flock(file.fileno(), fcntl.LOCK_UN)


def folded(path: str | os.PathLike[str]) -> str:
    """Equal for two names that are one file on some file system: `IMG.PNG` and `img.png`, and the
    two ways to write `é`."""
    return unicodedata.normalize("NFC", os.fspath(path)).casefold()


def safe_name(name: str) -> str:
    """The name of a file or folder; on Windows changed where it would be refused there.

    `NUL.jpg` becomes `NUL_.jpg`, `a:b` becomes `a_b`, and a dot or space at the end becomes `_`.
    """
    if not IS_WINDOWS or name in (".", ".."):
        return name
    name = _FORBIDDEN.sub("_", name)
    if name.endswith((".", " ")):
        name = f"{name[:-1]}_"
    if _DEVICES.fullmatch(name):
        first, dot, rest = name.partition(".")
        name = f"{first.rstrip()}_{dot}{rest}"
    return name


def check_path(path: str | os.PathLike[str]) -> None:
    """Refuse what Windows does not take as the path of a new file; all is well elsewhere.

    Raises:
        OSError: the path is too long, or Windows would refuse a name in it, or take another for it.
    """
    if not IS_WINDOWS:
        return
    pure = path if isinstance(path, PurePath) else PurePath(path)
    parts = pure.parts[1:] if pure.anchor else pure.parts
    for part in parts:
        if part != safe_name(part):
            reason = f"Windows does not take the name {part!r}; give another"
            raise OSError(errno.EINVAL, reason, os.fspath(path))
    length = len(os.path.abspath(path))
    if length > _LONGEST_PATH and not _takes_long_paths():
        reason = (
            f"the path's length is {length}, and Windows takes {_LONGEST_PATH}; give a shorter "
            "one, or enable long paths"
        )
        raise OSError(errno.ENAMETOOLONG, reason, os.fspath(path))


def _takes_long_paths() -> bool:
    import ctypes

    try:
        return bool(ctypes.CDLL("ntdll").RtlAreLongPathsEnabled())
    except (OSError, AttributeError):
        return False


def remove_file(path: Path) -> None:
    """Delete a file, with patience, if it is there.

    Raises:
        OSError: it stays.
    """
    patiently(lambda: path.unlink(missing_ok=True))


def is_same(path: str | os.PathLike[str], other: str | os.PathLike[str]) -> bool:
    """Whether two paths are one file or folder: links, `..`, and the case of letters where the file
    system ignores it. Where neither is there yet, the case is ignored."""
    try:
        return os.path.samefile(path, other)
    except OSError:
        one, two = os.path.realpath(path), os.path.realpath(other)
    if os.path.exists(one) or os.path.exists(two):
        return one == two
    return folded(one) == folded(two)
