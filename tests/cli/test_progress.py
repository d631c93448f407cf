"""Every command that can take over two seconds shows on a terminal that it is at work."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import pytest
import typer

from birefnet.cli.main import app
from birefnet.terminal import progress_bar
from cli.conftest import a_terminal
from cli.test_exit_status import place, subcommands

__all__ = ["place"]

CURSOR_OFF, CURSOR_ON = "\x1b[?25l", "\x1b[?25h"

AT_WORK = {
    "remove": "a.jpg -o o.png | folder -o out --report r.html | a.gif -o out",
    "export": "nano --format web -o page | nano -o o.onnx --size 32",
    "bench": "--engines onnx --precisions fp16",  # which it has not: all is there but the measuring
    "video": "a.gif -o o.webp",
    "rembg i": "a.jpg o.png",
    "rembg p": "folder out",
    "rembg b": "4 4 -o %d.png",
    "rembg d": "birefnet-general",
    "models info": "there.pth",
    "models download": "nano",
    "models convert": "nano o.safetensors",
    "train": "-r finetune --init nano -d data --device cpu --dry-run",
    "data check": "data --sheet s.html",
    "data preview": "data -o o.png --count 2 --size 32",
    "evaluate": "-p data/gt -t data/gt --sheet s.html",
    "benchmark": "--suite dis5k --data suite",
    "explain": "a.jpg -o o.png --resolution 64 --no-field",
    "doctor": "--no-self-test",
}
"""Subcommand to arguments, with | between them."""

OTHERS = {
    "serve": "says that it loads the model, then logs its requests",
    "ui": "says that it loads the model, then its address",
    "rembg s": "as serve",
    "models list": "prints a table that the package holds",
    "select-best": "reads a few small files",
    "reproduce": "announces each command that it runs, which shows its own progress",
}
"""Subcommands without a bar, and why."""

CASES = [(name, words.strip()) for name, text in AT_WORK.items() for words in text.split("|")]


def test_every_subcommand_is_in_the_tables() -> None:
    assert sorted([*AT_WORK, *OTHERS]) == sorted(subcommands())


@pytest.mark.parametrize(("name", "arguments"), CASES)
@pytest.mark.usefixtures("bright")
def test_a_terminal_shows_progress(name: str, arguments: str, place: Path, command) -> None:  # type: ignore[no-untyped-def]
    words = [*name.split(), *shlex.split(arguments)]
    shown = command(*words, stdin=bytes(48), terminal=True).stderr
    assert "\u2501" in shown, shown
    assert shown.count(CURSOR_OFF) == shown.count(CURSOR_ON) > 0
    assert "Traceback" not in shown
    if "--json" in options_of(name):
        assert CURSOR_OFF not in command(*words, "--json", terminal=True).stderr


def options_of(name: str) -> list[str]:
    command: object = typer.main.get_command(app)
    for word in name.split():
        command = command.commands[word]  # type: ignore[attr-defined]
    return [option for each in command.params for option in each.opts]  # type: ignore[attr-defined]


def test_one_bar_at_a_time() -> None:
    """An inner one, such as a download, takes the line of the outer until it ends."""

    def at_work() -> None:
        with progress_bar("outer") as outer:
            outer(1, 3)
            with progress_bar("inner", in_bytes=True) as inner:
                inner(5, 10)
                print("said", file=sys.stderr)
            outer(2, 3)
        with progress_bar("quiet", show=False), progress_bar("within"):
            pass

    with a_terminal() as (stream, shown), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stderr", stream)
        patch.setenv("TERM", "xterm")
        at_work()
    text = b"".join(shown).decode()
    parts = text.split(CURSOR_OFF)
    assert [("outer" in part, "inner" in part, "said" in part) for part in parts[1:]] == [
        (True, False, False),
        (False, True, True),
        (True, False, False),
    ]
    assert "quiet" not in text
    assert "within" not in text


def test_a_pipe_shows_no_bar(capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("outer") as outer:
        outer(1, 3)
    assert capsys.readouterr() == ("", "")
