"""`--help` of every command: options under headings, and three examples that the command takes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from birefnet.cli.main import app
from birefnet.compat.rembg.names import MODELS
from birefnet.options import OPTIONS, VIDEO_OPTIONS, Options, VideoOptions
from birefnet.weights.locate import locate

MANY = 8  # options that need no headings
LEFT_OVER = 5  # that may stand under "Options" beside headings, --help among them
FILES = ("keys.txt",)  # that examples name and commands look for before their work
FOLDERS = ("pictures",)


def walk(words: tuple[str, ...], command: Any) -> Iterator[tuple[tuple[str, ...], Any]]:
    yield words, command
    for name, child in getattr(command, "commands", {}).items():
        yield from walk((*words, name), child)


COMMANDS = dict(walk(("birefnet",), typer.main.get_command(app)))
IDS = [" ".join(words) for words in COMMANDS]


def examples_of(words: tuple[str, ...]) -> list[str]:
    lines = (COMMANDS[words].epilog or "").partition("\b\n")[2].splitlines()
    start = " ".join(words) + " "
    return [line.strip() for line in lines if f"{line.strip()} ".startswith(start)]


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
def test_help(command: Any, words: tuple[str, ...]) -> None:
    done = command(*words[1:], "--help")
    assert done.status == 0
    text = done.stdout.decode()
    assert "Examples:" in text
    for line in examples_of(words):
        assert f"  {line}\n" in text, "an example is broken into lines"
    sections = re.split(r"^(\w[\w ]*):\n", text, flags=re.MULTILINE)
    options = {
        title: len(re.findall(r"^  -", body, re.MULTILINE))
        for title, body in zip(sections[1::2], sections[2::2], strict=True)
    }
    if sum(options.values()) - 1 > MANY:
        assert options["Options"] <= LEFT_OVER, options
        assert sum(map(bool, options.values())) > 2, options


@pytest.mark.parametrize("words", COMMANDS, ids=IDS)
def test_examples_are_taken(
    words: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in FILES:
        Path(name).touch()
    for name in FOLDERS:
        Path(name).mkdir()
    examples = examples_of(words)
    assert len(examples) >= 3
    assert len(set(examples)) == len(examples)
    for line in examples:
        path, rest = ("birefnet",), shlex.split(line)[1:]
        while rest and (*path, rest[0]) in COMMANDS:
            path = (*path, rest.pop(0))
        with COMMANDS[path].make_context(" ".join(path), rest) as context:
            check_values(path[1], context.params)


def check_values(name: str, values: dict[str, Any]) -> None:
    """What a command looks at in its work: options that go together, and names of models."""
    for kind, options in ((Options, OPTIONS), (VideoOptions, VIDEO_OPTIONS)):
        if name == "video" or (name == "remove" and kind is Options):
            own = name == "video" and kind is Options
            names = set(options) & set(values) - (set(VIDEO_OPTIONS) if own else set())
            given = {name: values[name] for name in names if values[name] is not None}
            kind(**given).checked()
    models = [values.get("model"), values.get("init"), *(values.get("names") or ())]
    models += values.get("models") or () if name == "rembg" else ()
    for model in models:
        if model and "/" not in model:
            locate(MODELS.get(model, model) if name == "rembg" else model)


@pytest.mark.parametrize(
    ("words", "found"), [("re", {"remove", "reproduce", "rembg"}), ("remove --pre", {"--preset"})]
)
def test_shells_complete_commands_and_options(words: str, found: set[str]) -> None:
    line = f"birefnet {words}"
    asked = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" "))}
    code = "import sys; sys.argv = ['birefnet']; from birefnet.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, **asked, "_BIREFNET_COMPLETE": "complete_bash",
             "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert found <= set(done.stdout.split()), done.stderr
