"""The lowest versions that pyproject.toml allows, as constraints for pip.

`python .ci/oldest.py [EXTRA …] > oldest.txt` takes the bounds of the dependencies and of the named
extras; `--but NAME` leaves a package out. Needs Python 3.11 or newer.
"""

from __future__ import annotations

import argparse
import re
import tomllib
from pathlib import Path

_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)(?:\[([\w,]+)\])?\s*>=\s*([\w.]+)")


def bounds(extras: list[str]) -> dict[str, str]:
    """Package to lowest version, of the dependencies and the extras."""
    text = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    project = tomllib.loads(text)["project"]
    lines = list(project["dependencies"])
    for extra in extras:
        lines += project["optional-dependencies"][extra]
    found: dict[str, str] = {}
    for line in lines:
        inner = re.match(r"birefnet\[([\w,]+)\]", line)
        if inner:
            found |= bounds(inner.group(1).split(","))
        else:
            match = _REQUIREMENT.match(line)
            assert match, f"{line!r} in pyproject.toml has no lower bound"
            found[match.group(1).lower()] = match.group(3)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("extras", nargs="*")
    parser.add_argument("--but", action="append", default=[], metavar="NAME")
    asked = parser.parse_args()
    for name, version in sorted(bounds(asked.extras).items()):
        if name not in asked.but:
            print(f"{name}=={version}")


if __name__ == "__main__":
    main()
