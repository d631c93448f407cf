"""Draw docs/images/guidance.jpg: what boxes, points, marks and the second pass do.

    python docs/guidance_pictures.py

The subjects are those of examples/, two of them on one ground; `nano` cuts them out.
"""

from __future__ import annotations

import cv2
import numpy as np
from matting_pictures import ROOT, Panel, beside, labelled, side_by_side, stacked
from numpy.typing import NDArray
from PIL import Image

import birefnet
from birefnet import Predictor
from birefnet.options import Options

WANTED, UNWANTED = (40, 170, 70), (220, 50, 50)
BOX = 0.57, 0.3, 0.95, 0.7
ON, OFF = (0.3, 0.4), (0.75, 0.5)


def main() -> None:
    """Write the sheet."""
    predictor = birefnet.load("nano")
    table, leaf = (
        predictor.predict(ROOT / "examples" / f"{name}.jpg") for name in ("table", "leaf")
    )
    pixels = beside(table, leaf)
    scribble, coarse = marks(*pixels.shape[:2])

    def cut(**asked: object) -> NDArray:
        options = Options(kind="white", **asked).prepared()  # type: ignore[arg-type]
        return options.render(options.finish(options.predict(predictor, pixels)))

    box, on, off = (",".join(map(str, place)) for place in (BOX, ON, OFF))
    rows: list[list[Panel]] = [
        [
            ("picture", pixels),
            ("unguided", cut()),
            (f"--box {box}", boxed(pixels)),
            ("", cut(boxes=(box,))),
        ],
        [
            (f"--point {on} --not-point {off}", pointed(pixels)),
            ("", cut(points=(on,), other_points=(off,))),
            ("--guide scribble.png", marked(pixels, scribble)),
            ("", cut(guide=scribble)),
        ],
        [("--guide mask.png", marked(pixels, coarse)), ("", cut(guide=coarse))],
        second_pass(predictor),
    ]
    sheet = stacked([side_by_side([labelled(*panel) for panel in row]) for row in rows])
    Image.fromarray(sheet).save(ROOT / "docs" / "images" / "guidance.jpg", quality=88)


def second_pass(predictor: Predictor) -> list[Panel]:
    """A part of a picture of 8 megapixels, enlarged from its 0.3, at its own resolution."""
    small = np.asarray(Image.open(ROOT / "examples" / "table.jpg").convert("RGB"))
    large = cv2.resize(small, None, fx=5, fy=5, interpolation=cv2.INTER_CUBIC)
    part = slice(1500, 2150), slice(950, 2250)
    panels: list[Panel] = [("a part of 8 megapixels", large[part])]
    for label, passes in (("one pass", 1), ("--refine-passes 2", 2)):
        matte = Options(kind="mask", passes=passes).predict(predictor, large)
        panels.append((label, matte.mask()[part]))
    return panels


def boxed(pixels: NDArray) -> NDArray[np.uint8]:
    """With the box."""
    height, width = pixels.shape[:2]
    corners = [int(share * side) for share, side in zip(BOX, (width, height) * 2, strict=True)]
    return np.asarray(
        cv2.rectangle(pixels.copy(), corners[:2], corners[2:], WANTED, 4, cv2.LINE_AA)
    )


def pointed(pixels: NDArray) -> NDArray[np.uint8]:
    """With the points."""
    out = pixels.copy()
    for (x, y), colour in ((ON, WANTED), (OFF, UNWANTED)):
        place = int(x * out.shape[1]), int(y * out.shape[0])
        cv2.circle(out, place, 12, (255, 255, 255), -1, cv2.LINE_AA)
        cv2.circle(out, place, 9, colour, -1, cv2.LINE_AA)
    return np.asarray(out)


def marks(height: int, width: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A scribble on the one, a coarse mask of the other."""
    scribble, coarse = np.zeros((2, height, width), np.uint8)
    line = np.array([[[120, 180], [190, 200], [260, 170], [330, 190]]], np.int32)
    cv2.polylines(scribble, [line], False, 255, 9, cv2.LINE_AA)
    cv2.ellipse(coarse, (585, 210), (135, 55), 0, 0, 360, 255, -1)
    return scribble, coarse


def marked(pixels: NDArray, mask: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """With a mark over it."""
    alpha = 0.6 * mask[..., None] / 255
    return (pixels + alpha * (np.array(WANTED) - pixels)).astype(np.uint8)


if __name__ == "__main__":
    main()
