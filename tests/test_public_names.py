"""What users rely on by name exists, is documented, and changes only on purpose.

`python tests/test_public_names.py [KIND …]` writes `tests/reference/KIND.txt` anew, of all kinds of
`public_lists` or of those that are named; `git diff` then shows what changed. The pictures of
`golden` are written only where they are named: remove_pixels, training_samples, nano_alpha.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from pathlib import Path

import pytest

import birefnet
import golden
import public_lists
from public_lists import LISTS, ROOT, look_up, promised

LONGEST = 40  # lines of a difference that are shown


def reference(kind: str) -> Path:
    return ROOT / f"tests/reference/{kind}.txt"


@pytest.mark.parametrize("kind", LISTS)
def test_names_change_only_on_purpose(kind: str) -> None:
    make, packages = LISTS[kind]
    for package in packages:
        pytest.importorskip(package)
    now, before = list(make()), reference(kind).read_text(encoding="utf-8").splitlines()
    gone = [f"- {line}" for line in before if line not in set(now)]
    new = [f"+ {line}" for line in now if line not in set(before)]
    difference = gone + new or ["the same lines in another order"]
    assert now == before, "\n".join(
        [
            f"{kind} differ:",
            *difference[:LONGEST],
            *[f"… and {len(difference) - LONGEST} more"] * (len(difference) > LONGEST),
            "if that is meant, see docs/versions.md, say it in the changelog, and run "
            f"`python tests/test_public_names.py {kind}`",
        ]
    )


def test_every_list_is_held_against_its_reference() -> None:
    functions = {
        name
        for name, value in vars(public_lists).items()
        if inspect.isgeneratorfunction(value) and not name.startswith("_")
    }
    assert functions == set(LISTS)


def test_all_names_of_the_package_are_on_the_pages() -> None:
    listed = set(promised())
    for name in set(birefnet.__all__) - {"__version__"}:
        value = getattr(birefnet, name)
        home = value.__name__ if inspect.ismodule(value) else f"{value.__module__}.{name}"
        assert {f"birefnet.{name}", home, home.rpartition(".")[0]} & listed, name


def test_what_is_promised_is_documented() -> None:
    for name in promised():
        assert inspect.getdoc(look_up(name)), f"{name} has no docstring"


def test_the_version_is_said_alike_everywhere() -> None:
    for path, pattern in {
        "pyproject.toml": r'^version = "(.+)"$',
        "CITATION.cff": r"^version: (.+)$",
    }.items():
        found = re.search(pattern, (ROOT / path).read_text(), re.MULTILINE)
        assert found, path
        assert found.group(1) == birefnet.__version__, path


def test_a_checker_of_types_finds_ours() -> None:
    assert (Path(birefnet.__file__).parent / "py.typed").is_file()


if __name__ == "__main__":
    for kind in sys.argv[1:] or LISTS:
        if kind not in LISTS:
            golden.write(kind)
            continue
        make, packages = LISTS[kind]
        for package in packages:
            importlib.import_module(package)
        reference(kind).write_text("".join(f"{line}\n" for line in make()), encoding="utf-8")
