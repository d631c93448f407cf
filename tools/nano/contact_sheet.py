"""Draw docs/images/nano_sheet.jpg: sixty held-out pictures and what `nano` cuts out of them.

    python -m tools.nano.contact_sheet DATA --watch FOLDER [--cache FOLDER]

DATA is that of the training, see docs/nano.md; nothing on the sheet was trained on.
"""

from __future__ import annotations

import argparse
import tempfile
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

import birefnet
from tools.nano.mix import Mix, MixConfig
from tools.nano.scores import SIZE, composites, photos
from tools.nano.store import PictureStore

ROOT = Path(__file__).resolve().parents[2]

COUNTS = {
    "street_and_sport": 14,
    "clothing": 8,
    "cats": 8,
    "leaves": 4,
    "mixed": 6,
    "renders among distractors": 8,
    "emoji and clip art, composed": 4,
    "thin structures": 4,
}
EMPTY = 4
COLUMNS = 10
TILE = 112  # px, of a picture and of its cut-out below
GROUND = (200, 60, 200)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--watch", type=Path, action="append", default=[])
    parser.add_argument("--cache", type=Path, help="decoded pictures; default: a temporary folder")
    options = parser.parse_args()
    predictor = birefnet.load("nano")
    with tempfile.TemporaryDirectory() as folder:
        store = PictureStore.build(options.data, options.cache or Path(folder))
        kinds = {**photos(options.data, options.watch), **composites(store)}
        pictures = []
        for kind, count in COUNTS.items():
            found = [rgb for rgb, _ in islice(kinds[kind](), 4 * count)]
            pictures += found[:: max(1, len(found) // count)][:count]
        nothing = Mix(store, MixConfig(photo=0, composite=0, empty=1), kept_out=True)
        for number in range(EMPTY):
            pictures.append(nothing.sample(np.random.default_rng((13, number)), SIZE)[0])
    tiles = [tile(predictor, rgb) for rgb in pictures]
    rows = [np.hstack(tiles[i : i + COLUMNS]) for i in range(0, len(tiles), COLUMNS)]
    target = ROOT / "docs" / "images" / "nano_sheet.jpg"
    cv2.imwrite(str(target), np.vstack(rows)[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 80])


def tile(predictor: birefnet.Predictor, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A picture and below it its cut-out on GROUND, both TILE pixels."""
    matte = predictor.predict(np.ascontiguousarray(rgb))
    both = (rgb, matte.on(GROUND))
    size = (TILE, TILE)
    return np.vstack([cv2.resize(part, size, interpolation=cv2.INTER_AREA) for part in both])


if __name__ == "__main__":
    main()
