"""Lengths and areas as people type them: pixels, or a share of something."""

from __future__ import annotations

import math
from dataclasses import dataclass

from birefnet.errors import BiRefNetError


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


def parse_measure(text: str | float, name: str) -> Measure:
    """Read "24" or 24 (pixels), or "5%" (a share).

    Args:
        name: of the option, for the message.

    Raises:
        BiRefNetError: neither, or below 0.

    >>> parse_measure("24", "--crop-margin"), parse_measure("5%", "--crop-margin")
    (Measure(value=24.0, is_share=False), Measure(value=0.05, is_share=True))
    """
    typed = str(text).strip()
    is_share = typed.endswith("%")
    try:
        value = float(typed.removesuffix("%").removesuffix("px"))
    except ValueError:
        value = math.nan
    if not (0 <= value < math.inf):
        raise BiRefNetError(f"{name} is {typed!r}; give pixels such as 24, or a share such as 5%")
    return Measure(value / 100 if is_share else value, is_share)
