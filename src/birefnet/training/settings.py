"""Frozen dataclasses as plain data and back: nested mappings, dotted names, clear refusals.

`to_dict` gives what YAML and JSON can hold, `from_dict` is its inverse, and `override` changes
single fields by their dotted names (`schedule.epochs=20`). The declared types are the rules: what
does not fit is refused with the field's name, what came and what was expected.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
from collections.abc import Iterable, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from birefnet.errors import UsageError, counted

T = TypeVar("T")


class SettingsError(UsageError):
    """A setting that does not exist, or a value that does not fit it."""


def to_dict(settings: Any) -> dict[str, Any]:
    """The fields of a dataclass as plain values: nested mappings, lists, numbers, texts."""
    return {f.name: _plain(getattr(settings, f.name)) for f in dataclasses.fields(settings)}


def from_dict(cls: type[T], values: Mapping[str, Any], *, where: str = "") -> T:
    """The inverse of `to_dict`; missing fields take their defaults.

    Args:
        cls: a dataclass.
        values: by field name; nested mappings for nested dataclasses.
        where: dotted name of what is read, for messages.

    Raises:
        SettingsError: an unknown name or an unfitting value.
    """
    hints = get_type_hints(cls)
    converted = {}
    for name, value in values.items():
        if _is_retired(cls, name, value, where):
            continue
        _check_known(cls, name, where)
        converted[name] = _convert(value, hints[name], _join(where, name))
    try:
        return cls(**converted)
    except (TypeError, ValueError) as refusal:
        prefix = f"{where}: " if where else ""
        raise SettingsError(f"{prefix}{refusal}") from None


def override(settings: T, changes: Mapping[str, Any]) -> T:
    """`settings` with some fields replaced, by dotted name.

    Args:
        settings: a dataclass; it is not changed.
        changes: dotted name → value. A text is read by the field's type, so values may come from a
            command line.

    Raises:
        SettingsError: an unknown name (the message lists those there are), or an unfitting value.
    """
    values = to_dict(settings)
    for dotted, value in changes.items():
        _set(type(settings), values, dotted, value)
    return from_dict(type(settings), values)


def parse_assignments(assignments: Iterable[str]) -> dict[str, Any]:
    """`["a.b=1", "c=x"]` → `{"a.b": "1", "c": "x"}`.

    Raises:
        SettingsError: one without a name or an equals sign.
    """
    changes = {}
    for assignment in assignments:
        name, equals, value = assignment.partition("=")
        if not equals or not name.strip():
            raise SettingsError(f"got {assignment!r}; give NAME=VALUE, such as schedule.epochs=20")
        changes[name.strip()] = value.strip()
    return changes


def _set(cls: type, values: dict[str, Any], dotted: str, value: object) -> None:
    """Put `value` into the nested `values` of a `cls`."""
    *parents, last = dotted.split(".")
    kind: Any = cls
    where, root = "", values
    for name in parents:
        kind = _child(kind, name, where)
        where = _join(where, name)
        if values[name] is None:
            values[name] = {}
        if not isinstance(values[name], dict):
            raise SettingsError(f"{where} has no parts; set it as a whole: {where}=VALUE")
        values = values[name]
    if _is_retired(kind, last, value, where):
        return
    hint = _child(kind, last, where)
    # Part of a nested dataclass that comes as a mapping keeps its other fields.
    if dataclasses.is_dataclass(hint) and isinstance(value, Mapping):
        for name, part in value.items():
            _set(cls, root, f"{dotted}.{name}", part)
    else:
        values[last] = value


def _child(kind: object, name: str, where: str) -> Any:
    """The type of the part `name` of something of type `kind`."""
    if dataclasses.is_dataclass(kind):
        _check_known(kind, name, where)  # type: ignore[arg-type]
        return get_type_hints(kind)[name]
    for option in _options(kind):
        if _is_mapping(get_origin(option) or option):
            arguments = get_args(option)
            return arguments[1] if len(arguments) == 2 else Any
    raise SettingsError(f"{where} has no parts; set it as a whole: {where}=VALUE")


def _check_known(cls: type, name: str, where: str) -> None:
    known = [field.name for field in dataclasses.fields(cls)]
    if name in known:
        return
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"; did you mean {_join(where, close[0])}?" if close else ";"
    raise SettingsError(
        f"there is no setting {_join(where, str(name))}{hint} "
        f"{where or 'a recipe'} has {', '.join(known)}"
    )


def _is_retired(cls: type, name: str, value: object, where: str) -> bool:
    """Whether an earlier version had this switch, and it is off, as in the files of its runs.

    `RETIRED` of a class of settings says by name what to do instead of switching it on.
    """
    retired: Mapping[str, str] = getattr(cls, "RETIRED", {})
    if name not in retired:
        return False
    if _convert(value, bool, _join(where, name)):
        raise SettingsError(f"{_join(where, name)} is true; {retired[name]}")
    return True


def _convert(value: object, hint: object, where: str) -> Any:
    """`value` as `hint` asks for it; a text is read as a command line gives it."""
    if hint is Any:
        return value
    if dataclasses.is_dataclass(hint):
        if isinstance(value, hint):  # type: ignore[arg-type]
            return value
        if isinstance(value, Mapping):
            return from_dict(hint, value, where=where)  # type: ignore[arg-type]
        raise _unfitting(value, hint, where)
    options = _options(hint)
    if len(options) > 1:
        return _convert_union(value, options, hint, where)
    origin = get_origin(hint)
    if origin is Literal:
        for choice in get_args(hint):
            if value == choice and isinstance(value, type(choice)):
                return choice
            if isinstance(value, str) and value == str(choice):
                return choice
        raise _unfitting(value, hint, where)
    if origin is tuple or origin is list:
        return _convert_sequence(value, hint, where)
    if _is_mapping(origin or hint):
        return _convert_mapping(value, hint, where)
    return _convert_scalar(value, hint, where)


def _convert_union(value: object, options: list[object], hint: object, where: str) -> Any:
    if type(None) in options and (value is None or value in ("none", "null", "None", "")):
        return None
    for option in options:
        if option is type(None):
            continue
        try:
            return _convert(value, option, where)
        except SettingsError:
            if len(options) == 2 and type(None) in options:
                raise
    raise _unfitting(value, hint, where)


def _convert_sequence(value: object, hint: object, where: str) -> Any:
    origin, arguments = get_origin(hint), get_args(hint)
    if isinstance(value, str):
        text = value.strip().removeprefix("[").removesuffix("]")
        is_empty = text in ("", "none")
        value = [] if is_empty else [part.strip() for part in text.split(",")]
    if not isinstance(value, (list, tuple)):
        raise _unfitting(value, hint, where)
    if origin is tuple and arguments[-1:] != (Ellipsis,):
        if len(value) != len(arguments):
            raise _unfitting(value, hint, where)
        items = list(arguments)
    else:
        items = [arguments[0]] * len(value)
    pairs = enumerate(zip(value, items, strict=True))
    made = [_convert(part, item, f"{where}[{i}]") for i, (part, item) in pairs]
    return tuple(made) if origin is tuple else made


def _convert_mapping(value: object, hint: object, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise _unfitting(value, hint, where)
    arguments = get_args(hint)
    inner = arguments[1] if len(arguments) == 2 else Any
    return {str(k): _convert(v, inner, _join(where, str(k))) for k, v in value.items()}


_WORDS = {"true": True, "yes": True, "on": True, "1": True}
_WORDS |= {"false": False, "no": False, "off": False, "0": False}


def _convert_scalar(value: object, hint: object, where: str) -> Any:
    if hint is bool:
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in _WORDS:
            return _WORDS[value.lower()]
    elif hint in (int, float):
        if not isinstance(value, bool) and isinstance(value, (int, float, str)):
            try:
                return _number(value, hint)
            except ValueError:
                pass
    elif hint is str and isinstance(value, (str, int, float)) and not isinstance(value, bool):
        return str(value)
    raise _unfitting(value, hint, where)


def _number(value: int | float | str, hint: type) -> int | float:
    number = float(value)
    if hint is float:
        return number
    if number != int(number):
        raise ValueError
    return int(number)


def _unfitting(value: object, hint: object, where: str) -> SettingsError:
    return SettingsError(f"{where} is {value!r}; expected {describe(hint)}")


def describe(hint: object) -> str:
    """A type in words, for messages and tables."""
    words = {bool: "true or false", int: "a whole number", float: "a number", str: "text"}
    words[type(None)] = "none"
    if hint in words:
        return words[hint]
    options = _options(hint)
    if len(options) > 1:
        return " or ".join(describe(option) for option in options)
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin in (tuple, list):
        if arguments[-1:] == (Ellipsis,) or origin is list:
            return f"a list, each {describe(arguments[0])}"
        return f"{counted(len(arguments), 'value')}, each {describe(arguments[0])}"
    if dataclasses.is_dataclass(hint) or _is_mapping(origin or hint):
        return "a mapping of names to values"
    return str(hint)


def _options(hint: object) -> list[object]:
    """The members of a union, `None` last; anything else alone."""
    if get_origin(hint) in (Union, types.UnionType):
        return sorted(get_args(hint), key=lambda option: option is type(None))
    return [hint]


def _is_mapping(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, Mapping)


def _plain(value: object) -> Any:
    if dataclasses.is_dataclass(value):
        return to_dict(value)
    if isinstance(value, Mapping):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    return value


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name
