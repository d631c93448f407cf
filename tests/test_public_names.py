"""What the reference pages promise exists, is documented, and changes only on purpose.

`python tests/test_public_names.py` writes `tests/reference/public_names.txt` anew.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import birefnet

ROOT = Path(__file__).parents[1]
LIST = ROOT / "tests/reference/public_names.txt"


def promised() -> list[str]:
    """The dotted names on the reference pages."""
    pages = sorted((ROOT / "docs/reference").glob("*.md"))
    return [name for page in pages for name in re.findall(r"^::: (\S+)", page.read_text(), re.M)]


def look_up(name: str) -> Any:
    """The module or what a module holds."""
    module, found = name, []
    while True:
        try:
            value: Any = importlib.import_module(module)
            break
        except ModuleNotFoundError as error:
            if error.name != module:
                raise
            module, _, last = module.rpartition(".")
            found.insert(0, last)
    for part in found:
        value = getattr(value, part)
    return value


def lines(name: str) -> Iterator[str]:
    """A line for a function, several for a class or a module."""
    value = look_up(name)
    if inspect.ismodule(value):
        for inner in public(value):
            yield from lines(f"{name}.{inner}")
    elif inspect.isclass(value):
        yield f"{name}{parameters(value)}"
        for inner, member in sorted(vars(value).items()):
            if inner.startswith("_"):
                continue
            if isinstance(member, property):
                yield f"{name}.{inner}"
            elif isinstance(member, classmethod | staticmethod) or inspect.isfunction(member):
                yield f"{name}.{inner}{parameters(getattr(value, inner))}"
    elif callable(value):
        yield f"{name}{parameters(value)}"
    else:
        yield name


def public(module: Any) -> list[str]:
    """What a module names in `__all__`, else what is made in it and has no `_`."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and getattr(value, "__module__", None) == module.__name__
    )


def parameters(value: Any) -> str:
    """Names, kinds and whether there is a default; not types, which Pythons write differently."""
    if inspect.isclass(value) and not str(getattr(value.__init__, "__module__", "")).startswith(
        "birefnet"
    ):
        return ""  # that of a class of Python or PyTorch
    signature = inspect.signature(value)
    parts, named = [], False
    for parameter in signature.parameters.values():
        if parameter.kind is parameter.KEYWORD_ONLY and not named:
            named = True
            parts.append("*")
        sign = {parameter.VAR_POSITIONAL: "*", parameter.VAR_KEYWORD: "**"}.get(parameter.kind, "")
        named |= parameter.kind is parameter.VAR_POSITIONAL
        default = "" if parameter.default is parameter.empty else "="
        parts.append(f"{sign}{parameter.name}{default}")
    return f"({', '.join(parts)})"


def everything() -> str:
    return "\n".join(sorted({line for name in promised() for line in lines(name)})) + "\n"


def test_names_and_parameters_change_only_on_purpose() -> None:
    now, before = set(everything().splitlines()), set(LIST.read_text().splitlines())
    assert now == before, (
        f"gone: {sorted(before - now)}; new: {sorted(now - before)}; if that is meant, see "
        "docs/versions.md and run `python tests/test_public_names.py`"
    )


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
    LIST.write_text(everything())
