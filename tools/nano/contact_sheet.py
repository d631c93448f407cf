"""Draw docs/images/nano_sheet.jpg: sixty validation pictures and what `nano` makes of them.

    python -m tools.nano.contact_sheet SPLIT --watch FOLDER

SPLIT is what `tools.nano.split` wrote; nothing on the sheet was trained on.
"""

from __future__ import annotations

import argparse
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import birefnet
from tools.nano.scores import EMPTY, samples_of, sets

ROOT = Path(__file__).resolve().parents[2]

COUNTS = {
    "street_and_sport": 14,
    "clothing": 8,
    "cats": 8,
    "leaves": 4,
    "mixed": 6,
    "crowded": 8,
    "drawings": 4,
    "thin": 4,
    "empty": 4,
}
COLUMNS = 10
TILE = 112  # px, of a picture and of its cut-out below
GROUND = (200, 60, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", type=Path, help="a folder that tools.nano.split wrote")
    parser.add_argument("--watch", type=Path, action="append", default=[])
    parser.add_argument("--output", type=Path, default=ROOT / "docs" / "images" / "nano_sheet.jpg")
    options = parser.parse_args()
    predictor = birefnet.load("nano")
    kinds = sets(options.split, options.watch)
    kinds[EMPTY] = samples_of(options.split / "composed" / EMPTY)
    pictures = []
    for kind, count in COUNTS.items():
        found = [rgb for rgb, _ in islice(kinds[kind](), 4 * count)]
        pictures += found[:: max(1, len(found) // count)][:count]
    tiles = [tile(predictor, rgb) for rgb in pictures]
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    sheet = np.vstack(rows)[..., ::-1]
    cv2.imwrite(str(options.output), sheet, [cv2.IMWRITE_JPEG_QUALITY, 80])


def tile(predictor: birefnet.Predictor, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture and below it its cut-out on GROUND, both TILE pixels."""
    matte = predictor.predict(np.ascontiguousarray(rgb))
    both = (rgb, matte.on(GROUND))
    size = (TILE, TILE)
    return np.vstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in both])


if __name__ == "__main__":
    main()
