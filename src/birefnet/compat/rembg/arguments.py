"""Arguments of rembg's `remove` as options; boxes, points or `sam_prompt` choose the object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from birefnet.errors import BiRefNetError, UsageError, counted
from birefnet.options import OPTIONS, Options

GUIDANCE = ("boxes", "points", "not_points", "sam_prompt")
# Options of this package that `remove` takes besides rembg's arguments.
_OWN = set(OPTIONS) - {
    *("kind", "background", "batch_size", "format", "quality", "keep_profile", "metadata"),
    *("objects", "min_object"),
}
OWN_ARGUMENTS = frozenset({*_OWN, *GUIDANCE} - {"sam_prompt"})
"""Arguments of `remove` that only this package has."""


def options_of(arguments: Mapping[str, object], **choices: Any) -> Options:
    """The further arguments of `remove` as options.

    Args:
        arguments: boxes and points, see `guidance_of`, and fields of `Options`.
        choices: other fields.

    Raises:
        BiRefNetError: there is no such argument, or it makes no sense.
    """
    if unknown := sorted(set(arguments) - {*_OWN, *GUIDANCE}):
        raise UsageError(
            f"there is no argument {unknown[0]!r} here; besides rembg's there are "
            f"{', '.join(sorted({*_OWN, *GUIDANCE}))}"
        )
    marks = {key: value for key, value in arguments.items() if key in GUIDANCE}
    others = {key: value for key, value in arguments.items() if key not in GUIDANCE}
    return Options(**{**choices, **(guidance_of(marks) if marks else {}), **others}).prepared()


def guidance_of(given: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Marks, as JSON or Python hold them → `boxes`, `points` and `other_points` of `Options`.

    Args:
        given: some of `GUIDANCE`: boxes of four numbers, points of two, in pixels (integers) or as
            shares of the picture; `sam_prompt` as rembg's, always in pixels. A mark that is a text
            already stays.

    Raises:
        BiRefNetError: anything else.
    """
    boxes = [_text(box, 4) for box in _list(given, "boxes")]
    points = [_text(point, 2) for point in _list(given, "points")]
    others = [_text(point, 2) for point in _list(given, "not_points")]
    for mark in _list(given, "sam_prompt"):
        kind = mark.get("type") if isinstance(mark, dict) else None
        if kind == "point":
            where = others if mark.get("label") == 0 else points
            where.append(_text(mark.get("data"), 2, in_pixels=True))
        elif kind == "rectangle":
            boxes.append(_text(mark.get("data"), 4, in_pixels=True))
        else:
            raise BiRefNetError('sam_prompt holds {"type": "point" or "rectangle", "data": […]}')
    return {"boxes": tuple(boxes), "points": tuple(points), "other_points": tuple(others)}


def _list(given: Mapping[str, object], name: str) -> list[Any]:
    value = given.get(name, ())
    if not isinstance(value, (list, tuple)):
        raise BiRefNetError(f"{name} is not a list of marks")
    return list(value)


def _text(values: Any, count: int, *, in_pixels: bool = False) -> str:
    if isinstance(values, str):
        return values
    is_row = isinstance(values, (list, tuple)) and len(values) == count
    if not is_row or not all(type(value) in (int, float) for value in values):
        raise BiRefNetError(f"a mark is not a list of {counted(count, 'number')}")
    if not all(abs(value) < 1e9 for value in values):
        raise BiRefNetError("a mark lies outside any picture")
    numbers = [round(value) for value in values] if in_pixels else values
    return ",".join(str(value) if type(value) is int else f"{value:.6f}" for value in numbers)
