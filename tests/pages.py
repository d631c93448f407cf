"""The pages of the repository, their code by language, and the commands in it."""

from __future__ import annotations

import re
from pathlib import Path

import birefnet

ROOT = Path(birefnet.__file__).parents[2]
DOCS = ROOT / "docs"
SHELL = ("", "sh", "bash", "shell", "console")

_FENCE = re.compile(r"^ *```([a-z]*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)


def blocks(text: str, *languages: str) -> list[str]:
    """The fenced blocks of these languages; "" is that of blocks that name none."""
    return [block for language, block in _FENCE.findall(text) if language in languages]


def prose(text: str) -> str:
    """What is in no fenced block."""
    return _FENCE.sub("", text)


def commands(text: str) -> list[str]:
    """Each `birefnet …` of the shell blocks, with the variables that are set before it or the
    launcher that starts it; continued lines are joined, `&&` and `|` divide them."""
    lines = [
        line for block in blocks(text, *SHELL) for line in block.replace("\\\n", " ").splitlines()
    ]
    parts = [part.strip() for line in lines for part in re.split(r"&&|\|", line)]
    return [
        part
        for part in parts
        if re.match(r"(\w+=\S+ )*((torchrun|accelerate launch) .* -m )?birefnet ", part)
    ]


def inline_commands(text: str) -> list[str]:
    """Each `birefnet …` between backticks in the prose."""
    return re.findall(r"`((?:[A-Z_]+=\S+ )?birefnet [^`]+)`", prose(text))
