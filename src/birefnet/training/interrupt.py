"""Ctrl-C and SIGTERM as a question that the loop asks between two steps."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any


class Interruptible:
    """While entered, the first SIGINT or SIGTERM is remembered instead of stopping the program.

    A second one acts as usual, so that nobody is locked in.

    Attributes:
        signal: number of the signal that has come, or `None`.
    """

    def __init__(self) -> None:
        self.signal: int | None = None
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Interruptible:
        self.signal = None
        if threading.current_thread() is threading.main_thread():  # Python allows it only there
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._remember)
        return self

    def __exit__(self, *error: object) -> None:
        self._restore()

    def _remember(self, number: int, frame: FrameType | None) -> None:
        self.signal = number
        self._restore()

    def _restore(self) -> None:
        while self._before:
            number, handler = self._before.popitem()
            signal.signal(number, handler)


def ignore_interrupts() -> None:
    """In a helper process: leave Ctrl-C, which reaches the whole group, to the main one."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
