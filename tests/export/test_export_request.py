"""What exported files say of the pictures they want."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birefnet.errors import BiRefNetError
from birefnet.export.calibration import CalibrationPictures
from birefnet.export.request import Request
from birefnet.export.run import _batch, _cases
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.views import apply_view
from birefnet.network.build import build_network
from birefnet.network.simplify import simplify


@pytest.mark.parametrize(
    ("fit", "dynamic", "size", "expected"),
    [
        ("stretch", False, None, (1024, 1024, "stretch")),
        ("stretch", False, (192, 96), (192, 96, "stretch")),
        ("stretch", True, (192, 96), (192, 96, "stretch")),
        ("pad", False, (192, 96), (192, 96, "pad")),
        ("native", False, (192, 96), (192, 96, "stretch")),
        ("native", True, None, (1024, 1024, "native")),
    ],
)
def test_file_of_one_size_asks_for_it(
    fit: str, dynamic: bool, size: tuple[int, int] | None, expected: tuple[int, int, str]
) -> None:
    """Otherwise a predictor would prepare pictures at the weights' size, which the file refuses."""
    network = simplify(build_network("tiny").eval())
    request = Request(network, Preprocess(fit=fit), size=size, dynamic=dynamic)  # type: ignore[arg-type]
    about = request.metadata().preprocess
    assert (about.width, about.height, about.fit) == expected


@pytest.mark.parametrize(
    ("dynamic", "size", "kept"), [(True, None, True), (True, (64, 64), False), (False, None, True)]
)
def test_files_keep_the_views_unless_one_size_is_asked_for(
    dynamic: bool, size: tuple[int, int] | None, kept: bool
) -> None:
    network = simplify(build_network("tiny").eval())
    preprocess = Preprocess(64, 64, views=((96, 96, True), (64, 64, False)))
    request = Request(network, preprocess, size=size, dynamic=dynamic)
    assert request.metadata().preprocess.views == (preprocess.views if kept else ())
    assert request.metadata().dynamic == (dynamic or kept)


def test_calibration_shows_each_picture_as_all_views(tmp_path: Path) -> None:
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 255, (80, 120, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.png")
    preprocess = Preprocess(64, 64, views=((96, 96, True), (64, 64, False)))
    whole = CalibrationPictures(tmp_path, preprocess, (96, 96))
    shown = CalibrationPictures(tmp_path, preprocess, views=preprocess.views)
    assert len(shown) == 6
    assert [one.shape[2] for one in shown] == [96, 96, 96, 64, 64, 64]
    np.testing.assert_array_equal(shown[1], whole[1][..., ::-1])
    np.testing.assert_array_equal(shown[-1], apply_view(whole[2], preprocess.views[1]))
    assert len(CalibrationPictures(tmp_path, preprocess, views=preprocess.views, most=4)) == 4
    with pytest.raises(IndexError):
        shown[6]


def test_files_of_several_views_are_compared_at_them() -> None:
    network = simplify(build_network("tiny").eval())
    preprocess = Preprocess(64, 64, views=((96, 96, True), (64, 64, False)))
    pictures = [np.full((1, 3, 96, 96), number, np.float32) for number in range(3)]
    request = Request(network, preprocess, "int8", dynamic=True, calibration=pictures)
    assert _cases(request) == [(96, 96, 1), (64, 64, 1), (64, 64, 3)]
    batch = _batch(request, 3, 64, 64)
    assert batch.shape == (3, 3, 64, 64)
    np.testing.assert_allclose(batch[:, 0, 0, 0], [0, 1, 2], atol=1e-6)


@pytest.mark.parametrize(
    ("fit", "dynamic", "size"), [("stretch", True, (64, 64)), ("native", False, None)]
)
def test_networks_of_timm_have_one_size(
    fit: str, dynamic: bool, size: tuple[int, int] | None
) -> None:
    """Their own code computes with the size of the trace."""
    network = build_network("tiny").eval()
    network.config = replace(network.config, backbone="timm:vit_small_patch16_dinov3")
    with pytest.raises(BiRefNetError, match=r"dinov3, .*give one size \(--size WxH\)"):
        Request(network, Preprocess(fit=fit), size=size, dynamic=dynamic)  # type: ignore[arg-type]
    Request(network, Preprocess(), size=(64, 64))
