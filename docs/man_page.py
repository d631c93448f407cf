"""The man page, made from the commands and their options; a test finds out when it is behind.

python docs/man_page.py            # writes docs/birefnet.1
man docs/birefnet.1
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

import typer

from birefnet import __version__
from birefnet.cli.main import app
from birefnet.cli.options import grouped

PAGE = Path(__file__).parent / "birefnet.1"


def man_page() -> str:
    """The page as roff."""
    group: Any = typer.main.get_command(app)
    lines = [
        f'.TH BIREFNET 1 "" "birefnet {__version__}" "User Commands"',
        ".SH NAME",
        "birefnet \\- cut the subject out of any picture",
        ".SH SYNOPSIS",
        ".B birefnet",
        "COMMAND [OPTIONS] …",
        ".SH DESCRIPTION",
        *_text(group.help),
    ]
    for name, command in group.commands.items():
        lines += _sections(f"birefnet {name}", command)
    return "\n".join(lines) + "\n"


def _sections(title: str, command: Any) -> list[str]:
    """The section of a command, and those of the commands below it."""
    context = command.make_context(title, [], resilient_parsing=True)
    if hasattr(command, "commands"):
        parts = command.commands.items()
        return [line for name, part in parts for line in _sections(f"{title} {name}", part)]
    lines = [f'.SH "{title}"', *_text(command.help)]
    for heading, records in grouped(command.get_params(context), context).items():
        lines.append(f'.SS "{heading}"')
        for names, help in records:
            lines += [".TP", f".B {_escaped(names)}", *_text(help)]
    if command.epilog:
        lines += ['.SS "Examples"', ".nf", *_text(command.epilog, fill=False), ".fi"]
    return lines


def _text(text: str | None, *, fill: bool = True) -> list[str]:
    """Lines of roff; a paragraph each, where they are filled."""
    lines: list[str] = []
    for part in inspect.cleandoc((text or "").replace("\b", "")).split("\n\n"):
        if not part.strip():
            continue
        lines += [*([".PP"] if lines else []), *map(_escaped, part.splitlines())]
    return [line.strip() if fill else line for line in lines]


def _escaped(line: str) -> str:
    line = line.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{line}" if line[:1] in (".", "'") else line


if __name__ == "__main__":
    PAGE.write_text(man_page(), encoding="utf-8")
