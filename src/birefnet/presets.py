"""Sets of options under a name, for results that are used often: shop, sticker, avatar, own ones.

A file of own presets is TOML, a table for each, with the options' names as in Python:

    [catalogue]
    background = "#f4f4f4"
    crop = true
    aspect = "4:5"
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from birefnet.errors import BiRefNetError, OptionError, UsageError
from birefnet.options import FILE_OPTIONS, OPTIONS, Options

Preset = Mapping[str, Any]
"""Field of `Options` → its value."""

PRESETS: dict[str, Preset] = {
    "shop": {
        "background": "white",
        "crop": True,
        "crop_margin": "8%",
        "aspect": "square",
        "shadow": "ground",
        "format": "jpeg",
    },
    "sticker": {"outline": "2.5%", "crop": True, "crop_margin": "2%", "format": "webp"},
    "avatar": {
        "background": "#dfe7ef",
        "crop": True,
        "crop_margin": "6%",
        "aspect": "square",
        "format": "jpeg",
    },
}
"""Those that are always there."""


def read_presets(path: str | os.PathLike[str] | None) -> dict[str, Preset]:
    """The presets of a TOML file, and those that are always there, where it has no other.

    Args:
        path: of the file; `None` for none. Pictures that it names are found beside it.

    Raises:
        UsageError: it cannot be read, or says something that is not an option.
    """
    if path is None:
        return dict(PRESETS)
    import tomllib

    try:
        with open(path, "rb") as file:
            tables = tomllib.load(file)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}; give a TOML file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path} is not a TOML file: {error}") from error
    for name, values in tables.items():
        if not isinstance(values, dict):
            raise UsageError(f"{path}: {name} is outside a preset; begin with a line [NAME]")
        for option in FILE_OPTIONS & values.keys():
            beside = Path(path).parent / str(values[option])
            values[option] = str(beside) if beside.is_file() else values[option]
        try:
            options_of(values).checked()
        except BiRefNetError as error:
            raise UsageError(f"{path}: [{name}]: {error}") from error
    return {**PRESETS, **tables}


def with_files(presets: Mapping[str, Preset]) -> dict[str, Preset]:
    """The same with pictures as bytes: a server reads no file once it runs.

    Raises:
        UsageError: a picture cannot be read.
    """
    found: dict[str, Preset] = {}
    for name, preset in presets.items():
        values = dict(preset)
        for option in FILE_OPTIONS & values.keys():
            path = Path(str(values[option]))
            if path.is_file():
                values[option] = path.read_bytes()
        found[name] = values
    return found


def find_preset(name: str, presets: Mapping[str, Preset]) -> Preset:
    """One by its name.

    Raises:
        UsageError: there is none.
    """
    if name not in presets:
        raise UsageError(f"there is no preset {name!r}; choose one of {', '.join(presets)}")
    return presets[name]


def options_of(preset: Preset, given: Mapping[str, Any] | None = None) -> Options:
    """The options of a preset.

    Args:
        given: options that are set beside it, and come first.

    Raises:
        UsageError: a name that is not an option, or a value of another type.
    """
    values = {**preset, **(given or {})}
    for name, value in values.items():
        if name not in OPTIONS:
            raise UsageError(f"{name!r} is not an option; choose from {', '.join(OPTIONS)}")
        if OPTIONS[name].is_list:
            if not isinstance(value, (list, tuple)) or not all(isinstance(v, str) for v in value):
                raise OptionError(f"{{{name}}} is {{value!r}}; give a list of texts", value=value)
            values[name] = tuple(value)
        elif OPTIONS[name].type is bool and not isinstance(value, bool):
            raise OptionError(f"{{{name}}} is {{value!r}}; give true or false", value=value)
    return Options(**values)
