"""Files on every system, and behind URLs (s3, gs, http, …), under one small interface.

Paths of this machine are `pathlib.Path`. URLs are `upath.UPath` of the extra `urls`, which has the
same methods over every protocol of fsspec.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import time
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import FileIO
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, TypeAlias, TypeVar

from birefnet.errors import BiRefNetError, MissingExtraError, needs_extra

if TYPE_CHECKING:
    from upath import UPath

StoragePath: TypeAlias = "Path | UPath"

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
_BINARY = getattr(os, "O_BINARY", 0)  # Windows

# Whose uploads appear whole or not at all; elsewhere a temporary name is renamed.
_ATOMIC = {"s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "memory"}

_UNESCAPE = re.compile(r"\[([*?[])\]")  # what `glob.escape` wrote


def is_written(path: StoragePath) -> bool:
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

    with _errors_name(path):
        folder = tempfile.TemporaryDirectory(dir=path.parent, prefix=".birefnet-")
    with folder as name:
        yield Path(name)


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Write a file so that readers find the old one or the new one, never a part.

    A temporary name in the same folder is written, flushed to disk and renamed; it is removed on
    failure. Devices and pipes are written directly. Raises OSError as `open` does, with the name
    given here, and for names that Windows does not take.
    """
    import secrets  # as `tempfile`

    check_path(path)
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        target.write_bytes(data)  # raises for a folder
        return
    # File systems count the bytes of a name.
    start = os.fsencode(target.name)[:100].decode(errors="ignore")
    temporary = target.with_name(f".{start}.{secrets.token_hex(6)}.tmp")
    # mkstemp would make the file private; an ordinary open leaves that to the umask.
    with _errors_name(path):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileNotFoundError):
            temporary.chmod(target.stat().st_mode)
        replace_file(temporary, target)
    except BaseException:
        remove_file(temporary)
        raise


@contextmanager
def _errors_name(path: str | os.PathLike[str]) -> Iterator[None]:
    """Errors of the system name the file that was asked for, not a temporary one."""
    try:
        yield
    except OSError as error:
        error.filename = os.fspath(path)
        raise


def write(path: StoragePath, data: bytes) -> None:
    """Write a file so that it is there whole or not at all, with the folders it needs.

    Raises:
        OSError: it cannot be written.
    """
    if isinstance(path, Path):
        check_path(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)
        return
    import secrets

    fs, name = path.fs, path.path
    if path.protocol in _ATOMIC:
        fs.pipe_file(name, data)
        return
    fs.makedirs(os.path.dirname(name), exist_ok=True)
    temporary = f"{name}.{secrets.token_hex(6)}.tmp"
    try:
        fs.pipe_file(temporary, data)
        fs.mv(temporary, name)
    except BaseException:
        if fs.exists(temporary):
            fs.rm_file(temporary)
        raise


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


def is_same(path: str | os.PathLike[str] | UPath, other: str | os.PathLike[str] | UPath) -> bool:
    """Whether two paths are one file or folder: links, `..`, and the case of letters where the file
    system ignores it. Where neither is there yet, the case is ignored."""
    if is_remote(path) or is_remote(other):
        return str(path).rstrip("/") == str(other).rstrip("/")
    try:
        return os.path.samefile(str(path), str(other))
    except OSError:
        one, two = os.path.realpath(str(path)), os.path.realpath(str(other))
    if os.path.exists(one) or os.path.exists(two):
        return one == two
    return folded(one) == folded(two)


def is_within(path: StoragePath, folder: StoragePath) -> bool:
    """Whether a path is this folder or lies below it; it need not exist."""
    if is_remote(path) or is_remote(folder):
        return f"{path}/".startswith(f"{str(folder).rstrip('/')}/")
    real = Path(os.path.realpath(str(path)))
    return any(is_same(one, folder) for one in (real, *real.parents))


# Paths and URLs as they are typed.


def is_url(text: str) -> bool:
    """Whether what was typed names a protocol rather than a path (`C:\\a.jpg` is a path)."""
    return "://" in text


def to_path(text: str) -> StoragePath:
    """A path, or what is behind a URL.

    Raises:
        MissingExtraError: a URL without the extra `urls`.
        BiRefNetError: a protocol that is not installed or does not exist.
    """
    if not is_url(text):
        return Path(text)
    with needs_extra("urls", "reading and writing URLs"):
        from upath import UPath
    try:
        path = UPath(text)
        _ = path.fs
    except ImportError:
        raise MissingExtraError(f"{text.partition(':')[0]}:// addresses", "urls") from None
    except ValueError as error:
        raise BiRefNetError(f"{text!r} cannot be reached: {error}") from None
    return path


def absolute(path: StoragePath) -> str:
    """A name that means the same on each machine that shares it."""
    return str(path.absolute()) if isinstance(path, Path) else str(path)


def is_remote(path: str | os.PathLike[str] | UPath) -> bool:
    """Whether a path of `to_path` lies behind a URL."""
    return hasattr(path, "fs") and not isinstance(path, Path)


def name_of(path: StoragePath) -> str:
    """The last part of the name, without the query of a web address."""
    from urllib.parse import urlsplit

    return Path(urlsplit(str(path)).path).name if is_remote(path) else path.name


def identity(path: StoragePath) -> str:
    """The same text for two paths of one file."""
    return str(path) if is_remote(path) else os.path.realpath(str(path))


def version_of(path: StoragePath) -> str:
    """Changes when the file changes: size and time of change, or what a server says of it.

    Raises:
        OSError: the file cannot be looked at.
    """
    if isinstance(path, Path):
        stat = path.stat()
        return f"{stat.st_size}-{stat.st_mtime_ns}"
    facts: dict[str, object] = path.fs.info(path.path)
    stamps = ("ETag", "etag", "mtime", "LastModified", "created")
    changed = next((facts[key] for key in stamps if key in facts), "")
    return f"{facts.get('size')}-{changed}"


def walk(
    folder: StoragePath, on_error: Callable[[Exception], None]
) -> Iterator[tuple[StoragePath, list[str], list[str]]]:
    """As `os.walk`: each folder below, its folders (remove some to leave them out) and files."""
    if isinstance(folder, Path):
        for root, folders, files in os.walk(folder, onerror=on_error):
            yield Path(root), folders, files
    else:
        for path, folders, files in folder.walk(on_error=on_error):
            yield path, folders, files


# Patterns such as `shots/**/*.jpg`, in paths and in URLs.


def is_pattern(text: str) -> bool:
    if not glob.has_magic(text):
        return False
    # A name may look like a pattern; in web addresses `?` starts the query.
    return not text.startswith(("http://", "https://")) and not to_path(text).exists()


def matches_of(pattern: str) -> list[StoragePath]:
    """The files and folders that match, sorted."""
    if not is_url(pattern):
        return [Path(match) for match in sorted(glob.glob(_literal(pattern), recursive=True))]
    parts = pattern.split("/")
    first = next(index for index, part in enumerate(parts) if glob.has_magic(part))
    return sorted(to_path("/".join(parts[:first])).glob("/".join(parts[first:])), key=str)


def pattern_top(pattern: str) -> StoragePath:
    """The folder in which a pattern begins to match."""
    parts = _literal(pattern).split("/")
    first = next((index for index, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    top = "/".join(parts[:first]) or ("/" if pattern.startswith("/") else ".")
    return to_path(top if is_url(pattern) else _UNESCAPE.sub(r"\1", top))


def _literal(pattern: str) -> str:
    """The same, with the brackets in the names of folders that are there escaped."""
    if is_url(pattern):
        return pattern
    *folders, last = pattern.replace(os.sep, "/").split("/")
    known = ""
    for index, part in enumerate(folders):
        if glob.has_magic(part):
            if not os.path.isdir(known + part):
                break
            folders[index] = glob.escape(part)
        known += f"{part}/"
    return "/".join([*folders, last])
