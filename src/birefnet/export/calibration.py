"""Pictures that a quantisation is calibrated with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import UsageError
from birefnet.imaging.formats import is_picture
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.io import decode
from birefnet.imaging.views import View, apply_view

MOST = 64  # pictures; more hardly move the ranges


class CalibrationPictures(Sequence[NDArray[np.float32]]):
    """The pictures of a folder, prepared when they are read.

    With several views each picture is shown as all of them, the first view at all pictures first.

    Args:
        folder: searched through with its folders; of more than `most` views every n-th picture is
            taken.
        preprocess: of the weights.
        size: width and height of the network's input [px]; `None` for the preprocessing's.
        views: what the network will see of each picture; none: the whole at `size`.
        most: views to use.

    Raises:
        BiRefNetError: there is no picture.
    """

    def __init__(
        self,
        folder: Path,
        preprocess: Preprocess,
        size: tuple[int, int] | None = None,
        views: Sequence[View] = (),
        most: int = MOST,
    ) -> None:
        paths = sorted(path for path in folder.rglob("*") if is_picture(path) and path.is_file())
        if not paths:
            raise UsageError(f"{folder} holds no picture to calibrate with")
        pictures = max(1, most // max(1, len(views)))
        self.paths = paths[:: -(-len(paths) // pictures)]
        self.preprocess, self.size, self.views = preprocess, size, tuple(views)

    def __len__(self) -> int:
        return len(self.paths) * max(1, len(self.views))

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Normalised (1, 3, height, width); a slice gives a list of them."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        number = range(len(self))[index]
        pixels = decode(self.paths[number % len(self.paths)]).pixels
        size = self.views[0][:2] if self.views else self.size
        geometry = self.preprocess.plan(pixels.shape[0], pixels.shape[1], size)
        whole = geometry.apply(pixels)[None]
        return apply_view(whole, self.views[number // len(self.paths)]) if self.views else whole

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index in range(len(self)))
