"""Lines of pixels, odd sizes and panoramas go through every way in and come out as they were."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

import birefnet
from birefnet import Predictor
from birefnet.cli.main import app
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.guidance import Guidance, Point
from birefnet.matte import Kind
from birefnet.options import Options
from fakes import BrightEngine

SIZES = [(1, 5000), (5000, 1), (33, 47), (1, 1), (2, 3), (40, 1600), (900, 30)]
EACH = pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[1]}x{size[0]}")
KINDS: tuple[Kind, ...] = ("cutout", "mask", "foreground", "green", "white", "blur", "overlay")
PREPROCESS = {
    "stretch": Preprocess(64, 64, mean=(0, 0, 0), std=(1, 1, 1)),
    "wide": Preprocess(96, 32, mean=(0, 0, 0), std=(1, 1, 1)),
    "pad": Preprocess(64, 64, mean=(0, 0, 0), std=(1, 1, 1), fit="pad"),
    "native": Preprocess(
        64, 64, mean=(0, 0, 0), std=(1, 1, 1), fit="native", minimum=32, maximum=256
    ),
}


def half_bright(height: int, width: int) -> np.ndarray:
    """The right or lower half of a picture is the subject."""
    pixels = np.full((height, width, 3), 20, np.uint8)
    if width >= height:
        pixels[:, width // 2 :] = 235
    else:
        pixels[height // 2 :] = 235
    return pixels


def ends(alpha: np.ndarray) -> tuple[float, float]:
    return float(alpha[0, 0]), float(alpha[-1, -1])


@EACH
@pytest.mark.parametrize("fit", PREPROCESS)
def test_predictions(size: tuple[int, int], fit: str) -> None:
    predictor = Predictor(BrightEngine(), PREPROCESS[fit])
    pixels = half_bright(*size)
    matte = predictor.predict(pixels)
    assert matte.alpha.shape == size
    assert matte.alpha.dtype == np.float32
    assert np.isfinite(matte.alpha).all()
    first, last = ends(matte.alpha)
    assert last > 0.9
    if max(size) > 1:  # two or three pixels run into each other
        assert first < (0.1 if max(size) > 3 else 0.2)
    engine = predictor.engine
    assert isinstance(engine, BrightEngine)
    assert all(side % 32 == 0 and side <= 256 for shape in engine.batches for side in shape[2:])


@EACH
@pytest.mark.parametrize("fit", ["stretch", "pad", "native"])
def test_guidance_and_the_second_pass(size: tuple[int, int], fit: str) -> None:
    predictor = Predictor(BrightEngine(), PREPROCESS[fit])
    pixels = half_bright(*size)
    mask = pixels[..., 0] > 128
    for guidance in (
        None,
        Guidance(boxes=((0.3, 0.3, 1.0, 1.0),)),
        Guidance(points=(Point(0.99, 0.99),)),
        Guidance(points=(Point(0.99, 0.99), Point(0.0, 0.0, is_object=False))),
        Guidance(mask=mask),
    ):
        if guidance and len(guidance.points) == 2 and max(size) < 4:
            continue  # both points would be on one pixel
        matte = predictor.predict_guided(pixels, guidance, passes=2)
        assert matte.alpha.shape == size
        assert np.isfinite(matte.alpha).all()
        assert ends(matte.alpha)[1] > 0.5, guidance


@EACH
def test_pictures_of_every_kind_and_format(size: tuple[int, int]) -> None:
    matte = Predictor(BrightEngine(), PREPROCESS["stretch"]).predict(half_bright(*size))
    for kind in KINDS:
        assert matte.render(kind).shape[:2] == size
    assert matte.on("tomato").shape == (*size, 3)
    assert matte.on(np.zeros((5, 9, 3), np.uint8)).shape == (*size, 3)
    for format in ("png", "webp", "tiff"):
        with Image.open(io.BytesIO(matte.encode(format))) as image:
            assert image.size == (size[1], size[0])
            # libwebp leaves out an alpha that is 255 everywhere, as one bright pixel's is.
            assert image.mode == "RGBA" or (format == "webp" and matte.alpha.min() > 0.999)


@EACH
def test_the_bundled_network(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = half_bright(*size)
    assert birefnet.remove_background(pixels).shape == (*size, 4)
    path = tmp_path / "line.png"
    Image.fromarray(pixels).save(path)
    as_bytes = birefnet.remove_background(path.read_bytes())
    assert Image.open(io.BytesIO(as_bytes)).size == (size[1], size[0])
    assert birefnet.remove_background(Image.open(path)).size == (size[1], size[0])


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--high-resolution"],
        ["--box", "0.1,0.0,0.9,1.0"],
        ["--point", "0.5,0.5"],
        ["--type", "overlay"],
    ],
    ids=lambda words: words[0] if words else "plain",
)
def test_the_command(words: list[str], tmp_path: Path) -> None:
    for number, size in enumerate([(1, 5000), (33, 47)]):
        Image.fromarray(half_bright(*size)).save(tmp_path / f"{number}.png")
    out = tmp_path / "out"
    done = CliRunner().invoke(app, ["remove", str(tmp_path), "-o", str(out), *words])
    assert done.exit_code == 0, done.output
    assert Image.open(out / "0.png").size == (5000, 1)
    assert Image.open(out / "1.png").size == (47, 33)


@EACH
def test_options(size: tuple[int, int]) -> None:
    predictor = Predictor(BrightEngine(), PREPROCESS["stretch"])
    changes: list[dict[str, Any]] = [
        {},
        {"passes": 2},
        {"kind": "mask", "mask_blur": 2, "mask_offset": 1},
        {"background": "white", "boxes": ("0.2,0.2,1.0,1.0",)},
    ]
    for change in changes:
        options = Options(**change).prepared()
        matte = options.finish(options.predict(predictor, half_bright(*size)))
        assert options.render(matte).shape[:2] == size


def test_a_checkpoints_own_fit_is_honoured() -> None:
    """Each picture meets the network in the shape that its weights were trained with."""
    pixels = half_bright(40, 1600)
    shapes = {}
    for fit, preprocess in PREPROCESS.items():
        engine = BrightEngine()
        Predictor(engine, preprocess).predict(pixels)
        shapes[fit] = engine.batches[0][2:]
    assert shapes == {"stretch": (64, 64), "wide": (32, 96), "pad": (64, 64), "native": (32, 256)}
    geometry = PREPROCESS["pad"].plan(40, 1600)
    assert (geometry.box.height, geometry.box.width) == (2, 64)
