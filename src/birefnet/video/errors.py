"""Errors of videos, each in one sentence."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from birefnet.errors import BiRefNetError, UsageError, needs_extra

_FULL = {errno.ENOSPC, errno.EFBIG, getattr(errno, "EDQUOT", errno.ENOSPC)}


class VideoError(BiRefNetError):
    """A video that cannot be read, processed or written."""


class VideoUsageError(VideoError, UsageError):
    """A source that is not a film, or an option that it cannot have."""


class VideoCancelled(BiRefNetError):
    """The caller's `cancel` was set; finished parts are kept."""


class UnfinishedRunError(VideoUsageError):
    """Parts of an earlier run lie beside the output, and cannot be used as this was asked for."""


def load_av() -> Any:
    """The module `av` (PyAV), with FFmpeg's own chatter off.

    Raises:
        MissingExtraError: it is not installed.
    """
    with needs_extra("video", "video"):
        import av
        import av.logging
    av.logging.set_level(None)
    return av


def is_disk_full(error: BaseException) -> bool:
    """Whether the disk, a quota or the largest allowed file is full."""
    return getattr(error, "errno", None) in _FULL


def reading_failed(error: Exception, name: str) -> VideoError:
    """The sentence for a file that could not be opened as a video."""
    from av import error as av_errors

    if isinstance(error, (FileNotFoundError, av_errors.FileNotFoundError)):
        return VideoUsageError(f"there is no file {name!r}; check the path")
    if isinstance(error, EOFError):
        return VideoError(f"{name} ends before its first frame; fetch it again")
    if isinstance(error, av_errors.InvalidDataError):
        return VideoError(
            f"{name} is not a video that FFmpeg can read, or it is cut off before its index; check "
            "that it plays elsewhere, or fetch it again"
        )
    return VideoError(f"cannot read {name}: {reason(error)}")


def writing_failed(error: Exception, path: Path) -> VideoError:
    """The sentence for a file that could not be written."""
    if is_disk_full(error):
        return VideoError(f"no space is left to write {path}; free some and run again")
    return VideoError(f"cannot write {path}: {reason(error)}")


def reason(error: BaseException) -> str:
    """The reason of FFmpeg or the system, without codes and file names."""
    log = getattr(error, "log", None)
    text = log[2].strip() if log else ""
    return text or getattr(error, "strerror", None) or str(error) or type(error).__name__
