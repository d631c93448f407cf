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
ROWS = (("astronaut", "chelsea", "coffee"), ("rocket", "leaf", "table"))
HEIGHT = 300  # of one picture [px], before the row is brought to WIDTH
WIDTH = 1200  # of the whole [px]
SQUARE = 10  # of the ground [px]


def chequered(height: int, width: int) -> NDArray[np.uint8]:
    """White and light grey squares, H x W x 3."""
    y, x = np.mgrid[:height, :width] // SQUARE
    grey = np.where((x + y) % 2, 255, 220).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def row(predictor: birefnet.Predictor, names: tuple[str, ...]) -> NDArray[np.uint8]:
    """Pictures side by side, and below each what is cut out of it; WIDTH pixels wide."""
    columns = []
    for name in names:
        matte = predictor.predict(ROOT / "examples" / f"{name}.jpg")
        width = round(matte.width * HEIGHT / matte.height)
        cutout = matte.on(chequered(matte.height, matte.width))
        pair = [matte.picture.rgb8(), cutout]
        columns.append(
            np.vstack([cv2.resize(p, (width, HEIGHT), interpolation=cv2.INTER_AREA) for p in pair])
        )
    joined = np.hstack(columns)
    height = round(joined.shape[0] * WIDTH / joined.shape[1])
    return np.asarray(cv2.resize(joined, (WIDTH, height), interpolation=cv2.INTER_AREA))


def main() -> None:
    """Write docs/images/before_after.jpg."""
    predictor = birefnet.load("nano")
    sheet = np.vstack([row(predictor, names) for names in ROWS])[..., ::-1]
    target = ROOT / "docs" / "images" / "before_after.jpg"
    cv2.imwrite(str(target), sheet, [cv2.IMWRITE_JPEG_QUALITY, 88])


if __name__ == "__main__":
    main()
