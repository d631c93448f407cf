"""Draw docs/images/matting.jpg: a picture for each option of docs/matting.md.

    python docs/matting_pictures.py

Needs the extra `matting`. The subjects are those of examples/; `nano` cuts them out.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

import birefnet
from birefnet.matte import Matte
from birefnet.options import Options

ROOT = Path(__file__).parent.parent
HEIGHT, GAP = 200, 8
Panel = tuple[str, NDArray]


def main() -> None:
    """Write the sheet."""
    predictor = birefnet.load("nano")
    astronaut = predictor.predict(ROOT / "examples" / "astronaut.jpg")
    table = predictor.predict(ROOT / "examples" / "table.jpg")
    leaf = predictor.predict(ROOT / "examples" / "leaf.jpg")
    two = predictor.predict(beside(table, leaf))
    detail = slice(0, 230), slice(110, 330)
    rows: list[list[Panel]] = [
        [
            ("picture", astronaut.picture.pixels[detail]),
            *(
                (label, made(astronaut, **options)[detail])
                for label, options in (
                    ("--type mask", {"kind": "mask"}),
                    ("--type trimap", {"kind": "trimap"}),
                    ("--matting guided", {"kind": "mask", "matting": "guided"}),
                    ("--matting closed-form", {"kind": "mask", "matting": "closed-form"}),
                )
            ),
        ],
        [
            ("--type white", made(table, kind="white")),
            ("--crop", made(table, kind="white", crop=True)),
            ("--crop-margin 10%", made(table, kind="white", crop=True, crop_margin="10%")),
            ("--aspect square", made(table, kind="white", crop=True, aspect="square")),
        ],
        [
            ("picture", two.picture.pixels),
            *(
                (f"--objects --crop: {part.number}", Options(crop=True).render(part.matte))
                for part in Options(objects=True).parts(two)
            ),
        ],
        [
            (label, made(table, kind="white", crop=True, crop_margin="6%", **options))
            for label, options in (
                ("--shadow ground", {"shadow": "ground"}),
                ("--shadow-angle -110", {"shadow": "ground", "shadow_angle": -110.0}),
                ("--shadow-length 1", {"shadow": "ground", "shadow_length": 1.0}),
                ("--shadow drop", {"shadow": "drop"}),
            )
        ],
        [
            ("picture", photographed()),
            *(
                (label, made(predictor.predict(photographed()), background="#cfe3ff", **options))
                for label, options in (
                    ("--background", {}),
                    ("--shadow keep", {"shadow": "keep"}),
                    ("--shadow-strength 0.5", {"shadow": "keep", "shadow_strength": 0.5}),
                )
            ),
        ],
    ]
    sheet = stacked([side_by_side([labelled(*panel) for panel in row]) for row in rows])
    Image.fromarray(sheet).save(ROOT / "docs" / "images" / "matting.jpg", quality=88)


def made(matte: Matte, **options: object) -> NDArray:
    """The result of `birefnet remove` with these options."""
    asked = Options(**options).prepared()  # type: ignore[arg-type]
    return asked.render(asked.finish(matte))


def beside(first: Matte, second: Matte) -> NDArray[np.uint8]:
    """Two subjects on one plain ground."""
    canvas = np.full((420, 760, 3), (214, 220, 226), np.uint8)
    for matte, left, width in ((first, 30, 380), (second, 460, 260)):
        cropped = matte.cropped()
        rgba = Image.fromarray(cropped.cutout())
        rgba.thumbnail((width, 340))
        spot = Image.fromarray(canvas)
        spot.paste(rgba, (left, (420 - rgba.height) // 2), rgba)
        canvas = np.array(spot)
    return canvas


def photographed() -> NDArray[np.uint8]:
    """A vase on paper, with the shadow that a window would throw; drawn."""
    height, width = 360, 480
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    paper = 226 + 10 * x - 9 * y
    shadow = np.zeros((height, width), np.float32)
    cv2.ellipse(shadow, (305, 285), (105, 20), -4, 0, 360, 0.5, -1)
    shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 9))
    pixels = np.dstack([paper, 0.98 * paper, 0.94 * paper]) * (1 - shadow[..., None])
    vase = np.zeros((height, width), np.float32)
    cv2.ellipse(vase, (220, 210), (62, 82), 0, 0, 360, 1, -1, cv2.LINE_AA)
    cv2.rectangle(vase, (196, 90), (244, 150), 1, -1)
    cv2.rectangle(vase, (184, 84), (256, 98), 1, -1)
    vase = np.asarray(cv2.GaussianBlur(vase, (0, 0), 0.8))
    light = (0.55 - 1.2 * (x + 0.1))[..., None].clip(0.25, 1.1)
    pixels += vase[..., None] * (light * np.array([40, 90, 170]) - pixels)
    return np.clip(pixels + np.random.default_rng(0).normal(0, 1.5, pixels.shape), 0, 255).astype(
        np.uint8
    )


def labelled(label: str, pixels: NDArray) -> NDArray[np.uint8]:
    """A panel of one height, transparent on squares, with its label below."""
    image = Image.fromarray(pixels).convert("RGBA")
    image = image.resize((round(image.width * HEIGHT / image.height), HEIGHT))
    rows, columns = np.mgrid[:HEIGHT, : image.width] // 10
    squares = np.where((rows + columns) % 2, 232, 205).astype(np.uint8)
    panel = Image.fromarray(np.dstack([squares] * 3))
    panel.paste(image, (0, 0), image)
    framed = Image.new("RGB", (panel.width, HEIGHT + 22), "white")
    framed.paste(panel, (0, 0))
    draw = ImageDraw.Draw(framed)
    draw.rectangle((0, 0, panel.width - 1, HEIGHT - 1), outline=(190, 190, 190))
    draw.text((2, HEIGHT + 4), label, fill="black", font_size=13)
    return np.array(framed)


def side_by_side(panels: list[NDArray]) -> NDArray[np.uint8]:
    """A row of panels."""
    gap = np.full((len(panels[0]), GAP, 3), 255, np.uint8)
    return np.hstack([part for panel in panels for part in (panel, gap)])


def stacked(rows: list[NDArray]) -> NDArray[np.uint8]:
    """Rows below each other, white to their right."""
    width = max(row.shape[1] for row in rows)
    return np.vstack(
        [np.pad(row, ((0, GAP), (0, width - row.shape[1]), (0, 0)), constant_values=255)
         for row in rows]
    )  # fmt: skip


if __name__ == "__main__":
    main()
