"""Runs the command in this process, with its three streams in hand."""

from __future__ import annotations

import io
import logging.config
import os
import select
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest

from birefnet import Predictor
from birefnet.cli.main import main
from fakes import PLAIN, BrightEngine


@dataclass
class Result:
    """Exit status, and what came out."""

    status: int
    stdout: bytes
    stderr: str


Command = Callable[..., Result]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> Command:
    """`command("remove", "a.jpg", stdin=b"…")` as a shell would run it.

    Standard error is a pipe, or with `terminal=True` a terminal of 80 columns.
    """

    def run(
        *arguments: object, stdin: bytes = b"", encoding: str = "utf-8", terminal: bool = False
    ) -> Result:
        if terminal:
            with a_terminal() as (stream, shown):
                done = in_streams(arguments, stdin, encoding, stream)
            return Result(done.status, done.stdout, b"".join(shown).decode())
        return in_streams(arguments, stdin, encoding)

    def in_streams(
        arguments: tuple[object, ...], stdin: bytes, encoding: str, stderr: object = None
    ) -> Result:
        raw = {"stdin": io.BytesIO(stdin), "stdout": io.BytesIO(), "stderr": io.BytesIO()}
        # Kept until the end: a wrapper that is let go of closes what it wraps.
        streams = {
            name: io.TextIOWrapper(raw[name], encoding=encoding, write_through=True) for name in raw
        }
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["birefnet", *map(str, arguments)])
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
            if stderr is not None:
                patch.setattr(sys, "stderr", stderr)
                patch.setenv("TERM", "xterm")
            # It closes all handlers there are, and some close pytest's own stream with them.
            patch.setattr(logging.config, "dictConfig", lambda config: None)
            try:
                main()
            except SystemExit as end:
                code = end.code
            else:
                code = 0
        status = code if isinstance(code, int) else int(bool(code))
        return Result(
            status, raw["stdout"].getvalue(), raw["stderr"].getvalue().decode(encoding, "replace")
        )

    return run


@contextmanager
def a_terminal() -> Iterator[tuple[io.TextIOWrapper, list[bytes]]]:
    """A stream to a pseudo-terminal, and the list that at the end has all that it showed."""
    screen, program = os.openpty()
    shown: list[bytes] = []

    is_over = threading.Event()

    def read() -> None:
        while True:
            is_last = is_over.is_set()  # processes of a pool may hold the other end still
            while select.select([screen], [], [], 0.05)[0]:
                try:
                    shown.append(os.read(screen, 1 << 16))
                except OSError:  # the other end is closed
                    return
            if is_last:
                return

    reader = threading.Thread(target=read)
    reader.start()
    try:
        with open(program, "w", encoding="utf-8", buffering=1) as stream:
            yield stream, shown
    finally:
        is_over.set()
        reader.join()
        os.close(screen)


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> BrightEngine:
    """In place of a trained network: what is bright is the subject."""
    engine = BrightEngine()
    monkeypatch.setattr(
        "birefnet.api.load",
        lambda name=None, **options: Predictor(engine, PLAIN, name=name or "fake"),
    )
    return engine
