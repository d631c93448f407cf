"""Pictures that a quantisation is calibrated with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.formats import is_picture
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.io import decode

MOST = 64  # pictures; more hardly move the ranges


class CalibrationPictures(Sequence[NDArray[np.float32]]):
    """The pictures of a folder, prepared when they are asked for.

    Args:
        folder: searched through with its folders; of more than `most` pictures every n-th is taken.
        preprocess: of the weights.
        size: width and height of the network's input [px]; `None` for the preprocessing's.
        most: pictures to use.

    Raises:
        BiRefNetError: there is no picture.
    """

    def __init__(
        self,
        folder: Path,
        preprocess: Preprocess,
        size: tuple[int, int] | None = None,
        most: int = MOST,
    ) -> None:
        found = sorted(path for path in folder.rglob("*") if is_picture(path) and path.is_file())
        if not found:
            raise BiRefNetError(f"{folder} holds no picture to calibrate with")
        self.paths = found[:: -(-len(found) // most)]
        self.preprocess, self.size = preprocess, size

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        """Normalised (1, 3, height, width); a slice gives a list of them."""
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        pixels = decode(self.paths[index]).pixels
        geometry = self.preprocess.plan(pixels.shape[0], pixels.shape[1], self.size)
        return geometry.apply(pixels)[None]

    def __iter__(self) -> Iterator[NDArray[np.float32]]:
        return (self[index] for index in range(len(self)))
