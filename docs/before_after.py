"""Draw the pictures of README and of the documentation's first page: examples and their cut-outs.

python docs/before_after.py
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

import birefnet

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
ROW = ("astronaut", "chelsea", "leaf", "table")
FRONT = "astronaut"  # of the first page, where a slider is between picture and cut-out
WIDTH = 1200  # of the row [px]
SQUARE = 10  # of the ground [px]


def chequered(height: int, width: int, square: int) -> NDArray[np.uint8]:
    """White and light grey squares, H x W x 3."""
    y, x = np.mgrid[:height, :width] // square
    grey = np.where((x + y) % 2, 255, 220).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def row(predictor: birefnet.Predictor) -> Image.Image:
    """The pictures side by side, of one height, and below each its cut-out on squares."""
    mattes = [predictor.predict(ROOT / "examples" / f"{name}.jpg") for name in ROW]
    height = round(WIDTH / sum(matte.width / matte.height for matte in mattes))
    sheet = Image.new("RGB", (WIDTH, 2 * height))
    left = 0.0
    for matte in mattes:
        right = left + height * matte.width / matte.height
        size = (round(right) - round(left), height)
        square = round(SQUARE * matte.height / height)
        cutout = matte.on(chequered(matte.height, matte.width, square))
        for top, pixels in ((0, matte.picture.rgb8()), (height, cutout)):
            resized = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
            sheet.paste(resized, (round(left), top))
        left = right
    return sheet


def main() -> None:
    """Write docs/images/before_after.jpg, front_before.jpg and front_after.webp."""
    predictor = birefnet.load("nano")
    row(predictor).save(IMAGES / "before_after.jpg", quality=88)
    matte = predictor.predict(ROOT / "examples" / f"{FRONT}.jpg")
    Image.fromarray(matte.picture.rgb8()).save(IMAGES / "front_before.jpg", quality=88)
    matte.save(IMAGES / "front_after.webp", quality=88)


if __name__ == "__main__":
    main()
