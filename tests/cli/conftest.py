"""Runs the command in this process, with its three streams in hand."""

from __future__ import annotations

import io
import logging.config
import sys
from collections.abc import Callable
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
    """`command("remove", "a.jpg", stdin=b"…")` as a shell would run it, without a terminal."""

    def run(*arguments: object, stdin: bytes = b"", encoding: str = "utf-8") -> Result:
        raw = {"stdin": io.BytesIO(stdin), "stdout": io.BytesIO(), "stderr": io.BytesIO()}
        # Kept until the end: a wrapper that is let go of closes what it wraps.
        streams = {
            name: io.TextIOWrapper(raw[name], encoding=encoding, write_through=True) for name in raw
        }
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["birefnet", *map(str, arguments)])
            for name, stream in streams.items():
                patch.setattr(sys, name, stream)
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


@pytest.fixture
def bright(monkeypatch: pytest.MonkeyPatch) -> BrightEngine:
    """In place of a trained network: what is bright is the subject."""
    engine = BrightEngine()
    monkeypatch.setattr(
        "birefnet.api.load",
        lambda name=None, **options: Predictor(engine, PLAIN, name=name or "fake"),
    )
    return engine
