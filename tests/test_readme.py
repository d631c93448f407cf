"""What the README promises: its commands exist with their options, and its Python runs."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import typer

import birefnet
from birefnet.cli.main import app
from birefnet.weights import bundled_names

ROOT = Path(birefnet.__file__).parents[2]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.exists(), reason="installed without its repository")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)


def commands() -> list[list[str]]:
    """Each `birefnet …` of the README as words, without comments and redirections."""
    found = []
    for line in "\n".join(blocks("sh")).splitlines():
        for part in line.split("&&"):
            words = shlex.split(part, comments=True)
            if words and words[0].endswith("birefnet"):
                cut = min((words.index(sign) for sign in "<>" if sign in words), default=len(words))
                found.append(words[1:cut])
    return found


def test_readme_opens_with_two_commands() -> None:
    remove, test = blocks("sh")[:2]
    assert remove in (ROOT / "docs/index.md").read_text(encoding="utf-8")
    for line in (remove, test):
        assert line.startswith("python3 -m venv .venv && .venv/bin/pip install -c constraints.txt ")
        assert line.count("\n") == 1
    assert remove.endswith(".venv/bin/birefnet remove examples -o out\n")
    assert test.endswith(".venv/bin/python -m pytest -n 2 --dist loadfile\n")
    assert (ROOT / "constraints.txt").exists()


@pytest.mark.parametrize("words", commands() if README.exists() else [], ids=" ".join)
def test_commands_exist(words: list[str]) -> None:
    """Each command is known, and takes the options that it is given."""
    command = typer.main.get_command(app)
    rest = list(words)
    while hasattr(command, "commands"):
        command = command.commands[rest.pop(0)]
    known = {name for option in command.params for name in option.opts + option.secondary_opts}
    for word in rest:
        if re.match(r"--?[a-z]", word):
            assert word in known


def test_extras_are_all_named() -> None:
    """In the table of the installation page; `all` takes all but those that its row leaves out."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]
    page = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    named = re.findall(r"^\| `(\w+)` \| (.*) \|$", page, re.MULTILINE)
    rows = dict(named)
    assert len(rows) == len(named)
    assert set(rows) == set(extras)
    taken, inner = set(), ["all"]
    while inner:
        for line in extras[inner.pop()]:
            if found := re.match(r"birefnet\[([\w,]+)\]", line):
                taken |= (names := set(found[1].split(",")))
                inner += names
    assert taken == set(extras) - {"all", *re.findall(r"`(\w+)`", rows["all"])}


OF_TORCH = {"torch", "train", "data", "onnx", "nncf", "transformers", "timm"}


def test_extras_bring_torch_where_they_need_it_and_nowhere_else() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]

    def packages(extra: str) -> set[str]:
        found: set[str] = set()
        for line in extras[extra]:
            if inner := re.match(r"birefnet\[([\w,]+)\]", line):
                for name in inner[1].split(","):
                    found |= packages(name)
            else:
                found.add(re.split(r"[^\w.-]", line)[0])
        return found

    assert {extra for extra in extras if "torch" in packages(extra)} == OF_TORCH | {"test", "all"}
    assert "safetensors" in packages("torch")


def tours() -> list[str]:
    """The Python of the README and of the start page."""
    start = (ROOT / "docs/index.md").read_text(encoding="utf-8")
    return blocks("python") + re.findall(r"```python\n(.*?)```", start, re.DOTALL)


@pytest.mark.parametrize("tour", tours() if README.exists() else [], ids=["README", "index"])
def test_python_tour(tour: str, tmp_path: Path) -> None:
    """It runs, and leaves nothing in a clone but in `out/`, which git ignores."""
    assert len(tour.strip().splitlines()) <= 12
    if "nano" not in bundled_names():
        pytest.skip("no bundled model")
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "BIREFNET_OFFLINE": "1"}
    environment.pop("BIREFNET_MODEL", None)
    done = subprocess.run(
        [sys.executable, "-c", tour], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    coverage, confidence, is_empty = done.stdout.split()
    assert 0 < float(coverage) < 1
    assert 0 < float(confidence) < 1
    assert is_empty == "False"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["examples", "out"]
    assert "/out/" in (ROOT / ".gitignore").read_text().splitlines()


def test_linked_files_exist() -> None:
    text = README.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)#]+)\)|src=\"([^\"]+)\"", text):
        path = next(filter(None, target))
        assert path.startswith("https://") or (ROOT / path).exists(), path
