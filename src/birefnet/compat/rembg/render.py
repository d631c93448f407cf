"""A matte as rembg's `remove` gives it back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.picture import to_uint8
from birefnet.matte import Matte
from birefnet.options import Options


def render(matte: Matte, options: Options, *, post_process: bool = False) -> NDArray[np.uint8]:
    """The mask H x W, or the cut-out H x W x 4, also on a colour."""
    if post_process:
        matte = post_processed(matte)
    pixels = to_uint8(options.render(options.finish(matte)))
    if pixels.ndim == 3 and pixels.shape[2] == 3:
        pixels = np.dstack([pixels, np.full(pixels.shape[:2], 255, np.uint8)])
    return pixels


def band_of(erode_size: float) -> float:
    """Half the width of the unknown region [px] for an `alpha_matting_erode_size`.

    rembg erodes both certain sides by a square of that size: each retreats by half of it.
    """
    return max(1.0, erode_size / 2)


def post_processed(matte: Matte) -> Matte:
    """As rembg's `post_process_mask`: an opening by one pixel, a Gaussian of two, a threshold."""
    opened = matte.adjusted(offset=-1).adjusted(offset=1)
    return opened.adjusted(blur=4, threshold=127 / 255)
