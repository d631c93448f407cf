"""Hides the packages named in HIDDEN_PACKAGES from a Python process, as if none were installed.

Python runs it at its start where this folder is on PYTHONPATH.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from importlib.machinery import ModuleSpec, PathFinder
from importlib.metadata import Distribution, DistributionFinder

HIDDEN = {name.lower() for name in os.environ["HIDDEN_PACKAGES"].split()}


def is_hidden(name: str) -> bool:
    """Of a module or a distribution."""
    return re.sub(r"[-_.]+", "_", name.partition(".")[0]).lower() in HIDDEN


class Finder:
    """Python's own, which passes over what is hidden."""

    @staticmethod
    def find_spec(
        name: str, path: Sequence[str] | None = None, target: object = None
    ) -> ModuleSpec | None:
        return None if is_hidden(name) else PathFinder.find_spec(name, path)

    @staticmethod
    def find_distributions(context: DistributionFinder.Context) -> Iterable[Distribution]:
        return (one for one in PathFinder.find_distributions(context) if not is_hidden(one.name))

    invalidate_caches = PathFinder.invalidate_caches


sys.meta_path[sys.meta_path.index(PathFinder)] = Finder  # type: ignore[call-overload]
