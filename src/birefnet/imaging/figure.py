"""A picture in a page of HTML: small, encoded, as a `data:` URI."""

from __future__ import annotations

import base64
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birefnet.imaging.encoding import encode

SIDE = 320  # longer side of a picture [px]

_QUALITY = 90  # of JPEG and WebP


@dataclass(frozen=True)
class Figure:
    """A picture on the page; `figure` makes one from pixels.

    Attributes:
        caption: below the picture, and read out in its place.
        uri: the picture itself, as a `data:` URI.
        width, height: of the picture [px].
        note: a sentence below the caption.
    """

    caption: str
    uri: str
    width: int
    height: int
    note: str = ""


def figure(caption: str, pixels: NDArray[np.uint8], *, note: str = "", side: int = SIDE) -> Figure:
    """Shrink and encode a picture for a page.

    Args:
        pixels: uint8 H x W, H x W x 3 RGB or H x W x 4 RGBA. The page shows a chequered ground
            where they are transparent.
        side: longer side on the page [px]; smaller pictures stay as they are.
    """
    image = Image.fromarray(pixels)
    image.thumbnail((side, side))
    format = "webp" if image.mode == "RGBA" else "jpeg"
    data = base64.b64encode(encode(np.asarray(image), format=format, quality=_QUALITY))
    return Figure(caption, f"data:image/{format};base64,{data.decode('ascii')}", *image.size, note)
