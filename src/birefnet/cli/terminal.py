"""Moved to `birefnet.terminal`."""

from birefnet.terminal import console, progress_bar

__all__ = ["console", "progress_bar"]
