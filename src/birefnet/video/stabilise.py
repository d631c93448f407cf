"""placeholder"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from birefnet.matte import Matte
    from birefnet.video.frames import Frame

RADIUS = 2


def stabilise(pairs: Iterable[tuple[Frame, Matte]]) -> Iterator[tuple[Frame, Matte]]:
    yield from pairs
