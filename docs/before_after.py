"""Draw README's picture: the examples, and what `nano` cuts out of them, on a chequered ground.

python docs/before_after.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import birefnet

ROOT = Path(__file__).parent.parent
NAMES = ("astronaut", "chelsea", "coffee", "rocket")
HEIGHT = 300  # of one picture [px]
SQUARE = 10  # of the ground [px]


def chequered(height: int, width: int) -> NDArray[np.uint8]:
    """White and light grey squares, H x W x 3."""
    y, x = np.mgrid[:height, :width] // SQUARE
    grey = np.where((x + y) % 2, 255, 220).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def main() -> None:
    """Write docs/images/before_after.jpg."""
    predictor = birefnet.load("nano")
    columns = []
    for name in NAMES:
        matte = predictor.predict(ROOT / "examples" / f"{name}.jpg")
        width = round(matte.width * HEIGHT / matte.height)
        cutout = matte.on(chequered(matte.height, matte.width))
        pair = [matte.picture.rgb8(), cutout]
        columns.append(
            np.vstack([cv2.resize(p, (width, HEIGHT), interpolation=cv2.INTER_AREA) for p in pair])
        )
    sheet = np.hstack(columns)[..., ::-1]
    target = ROOT / "docs" / "images" / "before_after.jpg"
    cv2.imwrite(str(target), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
