"""Several views of one picture: what the network sees, and the mean of what it says."""

from __future__ import annotations

import math

import numpy as np
import pytest

from birefnet.errors import BiRefNetError
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.views import View, apply_view, merge_views


def test_a_view_shrinks_and_mirrors() -> None:
    input = np.zeros((2, 4, 64, 96), np.float32)
    input[1, 3, :, :48] = 1
    seen = apply_view(input, View(48, 32, True))
    assert seen.shape == (2, 4, 32, 48)
    assert seen.flags.c_contiguous
    assert (seen[1, 3, :, 24:] == 1).all()
    assert seen.sum() == 32 * 24
    assert apply_view(input, View(96, 64)) is input


def test_the_mean_is_upright_and_of_the_first_size() -> None:
    ramp = np.tile(np.linspace(0, 1, 96, dtype=np.float32), (64, 1))[None, None]
    small = np.full((1, 1, 32, 48), 3, np.float32)
    mean = merge_views([ramp[..., ::-1], small], [View(96, 64, True), View(48, 32)])
    np.testing.assert_allclose(mean, (ramp + 3) / 2, atol=1e-6)


def test_preprocessing_carries_them_through_json() -> None:
    plain = Preprocess(width=64, height=64)
    assert "looks" not in plain.to_dict()  # their name in files; readers without them read it
    made = Preprocess(width=64, height=64, views=[[128, 96, True], [64, 64]])
    assert made.views == (View(128, 96, True), View(64, 64, False))
    assert Preprocess.from_dict(made.to_dict()) == made
    assert hash(made) != hash(plain)


@pytest.mark.parametrize("views", [[[100, 64]], [[64]], [7], [["64", 64]], [[64, 64, 1, 1]]])
def test_what_is_no_view_is_said(views: list) -> None:
    with pytest.raises(BiRefNetError, match=r"views hold .*multiples of 32"):
        Preprocess(views=views)


def test_the_largest_comes_first() -> None:
    with pytest.raises(BiRefNetError, match="the largest comes first"):
        Preprocess(views=[[64, 64], [96, 64]])


@pytest.mark.parametrize("size", [(704, 256), (96, 64), (288, 288), (64, 32)])
def test_shrinking_is_the_mean_over_each_pixels_area(size: tuple[int, int]) -> None:
    source, target = size
    input = np.random.default_rng(source).standard_normal((2, 3, source, 2 * source))
    input = input.astype(np.float32)
    seen = apply_view(input, View(2 * target, target))
    # Each old pixel is cut into `new` x `new` equal parts, of which a new one has `old` x `old`.
    old, new = source // math.gcd(source, target), target // math.gcd(source, target)
    parts = input.astype(np.float64)[:, :, :old, :old].repeat(new, 2).repeat(new, 3)
    expected = parts.reshape(2, 3, new, old, new, old).mean((3, 5))
    np.testing.assert_allclose(seen[:, :, :new, :new], expected, atol=1e-6)
