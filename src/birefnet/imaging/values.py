"""Values of options: which there are, and one parser for each kind that people type.

Imports neither numpy nor an imaging library, so that `birefnet --help` is quick.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from numbers import Real
from typing import TYPE_CHECKING, Any, Literal

from birefnet.errors import BiRefNetError, UsageError

if TYPE_CHECKING:
    from fractions import Fraction

Kind = Literal[
    "cutout", "mask", "trimap", "foreground", "colour", "green", "white", "blur", "overlay"
]
"""Kinds of output that can be made of a picture and its matte."""

Method = Literal["none", "guided", "closed-form", "lbdm", "lkm"]
"""How alpha is estimated again inside the unknown region."""

ShadowKind = Literal["ground", "drop", "keep"]

Keep = Literal["keep", "strip"]
"""Whether results carry the picture's metadata."""

Resolution = int | tuple[int, int] | Literal["native"]

LARGEST_SIDE = 16384  # of a network's input; beyond it no known machine holds the activations


@dataclass(frozen=True)
class Range:
    """The numbers that an option takes, ends included.

    Attributes:
        least, most: of them.
        is_open: whether `least` itself is left out.
    """

    least: float
    most: float
    is_open: bool = False

    def __contains__(self, number: object) -> bool:
        if not isinstance(number, Real):
            return False
        value = float(number)
        return self.least <= value <= self.most and not (self.is_open and value == self.least)

    def __str__(self) -> str:
        if self.most == math.inf:
            return f"{self.least:g} or more"
        return f"{'above ' * self.is_open}{self.least:g} to {self.most:g}"


SHADOW_RANGES = {
    "strength": Range(0, 1, is_open=True),
    "blur": Range(0, 10),
    "angle": Range(-360, 360),
    "length": Range(0, 3),
}
"""The numbers of a `Shadow`."""


@dataclass(frozen=True)
class Measure:
    """Pixels, or a share of a whole that is known later.

    Attributes:
        value: 0 or more.
        is_share: of the whole, where 1 is all of it; otherwise pixels.
    """

    value: float
    is_share: bool = False

    def of(self, whole: float) -> int:
        """In whole pixels; a share is taken of `whole`."""
        return round(self.value * whole if self.is_share else self.value)


@dataclass(frozen=True)
class Point:
    """A positive point, on the object that is meant, or a negative one.

    Attributes:
        x, y: pixels from the left and the top; shares of width and height where both are floats in
            [0, 1].
        is_object: whether the object is there.
    """

    x: float
    y: float
    is_object: bool = True

    def at(self, height: int, width: int) -> tuple[int, int]:
        """Row and column in a picture of this size [px].

        Raises:
            BiRefNetError: the point lies outside.
        """
        is_share = isinstance(self.x, float) and isinstance(self.y, float)
        is_share = is_share and 0 <= self.x <= 1 and 0 <= self.y <= 1
        x, y = (self.x * width, self.y * height) if is_share else (self.x, self.y)
        if is_share:
            x, y = min(x, width - 1), min(y, height - 1)
        if not (0 <= x < width and 0 <= y < height):
            raise UsageError(
                f"the point {self.x:g},{self.y:g} lies outside the picture of {width} x {height} "
                "pixels; give x,y in pixels from the top left corner, or as shares from 0.0 to 1.0"
            )
        return int(y), int(x)


@dataclass(frozen=True)
class Position:
    """A position in a video: `seconds` from its beginning, or the `frame` counted from 0."""

    seconds: Fraction | None = None
    frame: int | None = None

    def __str__(self) -> str:
        return f"{self.frame}f" if self.seconds is None else f"{float(self.seconds):g} s"


def parse_resolution(value: Any, *, largest: int = LARGEST_SIDE) -> Resolution | None:
    """Size of a network's input: 1024 or "1024", (1280, 720) or "1280x720" (width x height),
    "native"; None and empty text for that of the weights.

    Args:
        largest: side [px].

    Raises:
        BiRefNetError: anything else.

    >>> parse_resolution("1280x720"), parse_resolution(" Native "), parse_resolution("")
    ((1280, 720), 'native', None)
    """
    sides = value if isinstance(value, (tuple, list)) else (value,)
    if isinstance(value, str):
        text = value.strip().lower()
        if text in ("", "native"):
            return "native" if text else None
        match = re.fullmatch(r"(\d{1,6})(?:\s*[x×*,]\s*(\d{1,6}))?", text)
        sides = [int(side) for side in match.groups() if side] if match else ()
    elif value is None:
        return None
    if not 1 <= len(sides) <= 2 or not all(
        not isinstance(side, bool) and side in Range(1, largest) and side == int(side)
        for side in sides
    ):
        raise BiRefNetError(
            f"{value!r} is not a size; give N, WIDTHxHEIGHT or native, with sides from 1 to "
            f"{largest}"
        )
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def parse_measure(text: str | float) -> Measure:
    """Read "24" or 24 (pixels), or "5%" (a share).

    Raises:
        BiRefNetError: neither, or below 0.

    >>> parse_measure("24"), parse_measure("5%")
    (Measure(value=24.0, is_share=False), Measure(value=0.05, is_share=True))
    """
    typed = str(text).strip()
    is_share = typed.endswith("%")
    try:
        value = float(typed.removesuffix("%").removesuffix("px"))
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf):
        raise BiRefNetError(
            f"{typed!r} is not a size; give pixels such as 24, or a share such as 5%"
        )
    return Measure(value / 100 if is_share else value, is_share)


def parse_aspect(text: str) -> float:
    """Width over height of "square", "4:5" or "1.91".

    Raises:
        BiRefNetError: something else, or a shape beyond 1:20.

    >>> parse_aspect("square"), parse_aspect("4:5")
    (1.0, 0.8)
    """
    width, colon, height = text.partition(":")
    try:
        ratio = 1.0 if text == "square" else float(width) / (float(height) if colon else 1.0)
    except (ValueError, ZeroDivisionError):
        ratio = 0.0
    if not 0.05 <= ratio <= 20:
        raise BiRefNetError(f"{text!r} is not a shape; give square, or width:height such as 4:5")
    return ratio


_FRAME = re.compile(r"(\d+)f")
_CLOCK = re.compile(r"(?:(?:(\d+):)?(\d+):)?(\d+(?:\.\d*)?|\.\d+)s?")


def parse_position(text: str | float | Position) -> Position:
    """Read `12.5`, `1:02.5` or `1:00:02` (hours, minutes, seconds), or `250f` (a frame).

    Raises:
        BiRefNetError: anything else.

    >>> parse_position("1:02.5").seconds, parse_position("250f").frame
    (Fraction(125, 2), 250)
    """
    from fractions import Fraction

    if isinstance(text, Position):
        return text
    if not isinstance(text, str):
        text = f"{text:f}"
    if match := _FRAME.fullmatch(text.strip()):
        return Position(frame=int(match[1]))
    if match := _CLOCK.fullmatch(text.strip()):
        hours, minutes, seconds = (Fraction(part or 0) for part in match.groups())
        return Position(seconds=3600 * hours + 60 * minutes + seconds)
    raise UsageError(
        f"{text!r} is not a time or frame of a video; give seconds (12.5), minutes and seconds "
        "(1:02.5), or a frame (250f)"
    )


def parse_rate(value: str | float | Real | None) -> Fraction | None:
    """Frames per second: 25, "25" or "30000/1001"; None stays.

    Raises:
        BiRefNetError: anything else.

    >>> parse_rate("30000/1001")
    Fraction(30000, 1001)
    """
    from fractions import Fraction

    if value is None:
        return None
    try:
        rate = Fraction(value)  # type: ignore[arg-type]
    except (ValueError, TypeError, OverflowError, ZeroDivisionError):
        rate = Fraction(0)
    if rate <= 0:
        raise UsageError(f"{value!r} is not a frame rate; give one such as 25 or 30000/1001")
    return rate


def parse_box(text: str) -> tuple[float, float, float, float]:
    """`x0,y0,x1,y1` as typed.

    Raises:
        BiRefNetError: anything else.
    """
    values = _numbers(text)
    if len(values) != 4:
        raise UsageError(f"{text!r} is not a box; give x0,y0,x1,y1 in pixels or as shares")
    return values[0], values[1], values[2], values[3]


def parse_point(text: str, *, is_object: bool = True) -> Point:
    """`x,y` as typed; with a decimal point in both, they are shares.

    Raises:
        BiRefNetError: anything else.
    """
    values = _numbers(text)
    if len(values) != 2:
        raise UsageError(
            f"{text!r} is not a point; give x,y in pixels or as shares such as 0.5,0.4"
        )
    return Point(values[0], values[1], is_object)


def _numbers(text: str) -> list[float]:
    try:
        return [float(part) if "." in part else int(part) for part in text.split(",")]
    except ValueError:
        return []
