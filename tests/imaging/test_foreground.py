"""Blur fusion equals the reference numbers and the formula as it is printed, at any size."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.foreground import (
    SNAP,
    default_radii,
    estimate_foreground,
    grid_step,
    to_uint8,
)


def plain(image: np.ndarray, alpha: np.ndarray, radius: int, second: int) -> np.ndarray:
    """The formula, written down without any thought of speed."""

    def mean(x: np.ndarray, size: int) -> np.ndarray:
        return cv2.blur(x, (size, size), borderType=cv2.BORDER_REFLECT_101)

    a = alpha[..., None]
    foreground = background = image
    for size in (radius, second):
        mean_a = mean(alpha, size)[..., None]
        mean_f = mean(foreground * a, size) / (mean_a + 1e-5)
        mean_b = mean(background * (1 - a), size) / (1 - mean_a + 1e-5)
        foreground = np.clip(mean_f + a * (image - a * mean_f - (1 - a) * mean_b), 0, 1)
        background = mean_b
    return foreground


def scene(height: int, width: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A picture with structure and grain, and a blob with soft rim and hairs over it."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 256, (max(2, height // 40), max(2, width // 40), 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    image = np.clip(image + generator.normal(0, 5, image.shape), 0, 255).astype(np.uint8)
    alpha = np.zeros((height, width), np.float32)
    centre, size = (width // 2, height // 2), min(height, width)
    for angle in generator.uniform(0, 2 * np.pi, 40):
        reach = generator.uniform(0.3, 0.45) * size
        tip = (centre[0] + int(reach * np.cos(angle)), centre[1] + int(reach * np.sin(angle)))
        cv2.line(alpha, centre, tip, float(generator.uniform(0.3, 1)), 1, cv2.LINE_AA)
    cv2.circle(alpha, centre, int(0.28 * size), 1, -1, cv2.LINE_AA)
    return image, cv2.GaussianBlur(alpha, (0, 0), 1.2).clip(0, 1)


def test_reference_numbers(reference: Path) -> None:
    data = np.load(reference / "foreground.npz")
    foreground = estimate_foreground(
        data["image"], data["alpha"], radius=90, second_radius=6, exact=True
    )
    np.testing.assert_allclose(foreground, data["foreground_radius_90_then_6"], atol=1e-5)


@pytest.mark.parametrize(
    ("size", "radii"),
    [((300, 260), (90, 6)), ((500, 210), (33, 5)), ((64, 700), (30, 1)), ((7, 5), (90, 6))],
)
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_exact_equals_the_formula(size: tuple, radii: tuple, dtype: type) -> None:
    image, alpha = scene(*size)
    unit = image / np.float32(255)
    given = {np.uint8: image, np.uint16: image.astype(np.uint16) * 257, np.float32: unit}[dtype]
    result = estimate_foreground(given, alpha, radius=radii[0], second_radius=radii[1], exact=True)
    np.testing.assert_allclose(result, plain(unit, alpha, *radii), atol=1e-5)


@pytest.mark.parametrize("size", [(600, 800), (450, 390)])
@pytest.mark.parametrize("seed", range(3))
def test_a_fast_cutout_is_within_one_level_of_the_exact_one(size: tuple, seed: int) -> None:
    image, alpha = scene(*size, seed)
    # Windows wide enough for a grid, as pictures of some megapixels have them.
    assert grid_step(150) == 3
    fast, exact = (
        estimate_foreground(image, alpha, radius=150, second_radius=10, exact=flag)
        for flag in (False, True)
    )
    assert (np.abs(fast - exact) * alpha[..., None]).max() < 1 / 255


def test_a_sigmoid_s_noise_is_taken_for_empty_and_opaque() -> None:
    image, alpha = scene(400, 400)
    noisy = alpha * (1 - SNAP) + SNAP * 0.9 * np.random.default_rng(1).random(alpha.shape)
    noisy = noisy.astype(np.float32)
    fast = estimate_foreground(image, noisy)
    exact = estimate_foreground(image, alpha, exact=True)
    assert not fast[:50, :50].any()
    assert (np.abs(fast - exact) * noisy[..., None]).max() < 1.5 / 255


def test_a_known_foreground_is_recovered() -> None:
    height, width = 240, 320
    _, alpha = scene(height, width)
    foreground = np.broadcast_to(np.float32([0.9, 0.2, 0.1]), (height, width, 3))
    background = np.broadcast_to(np.float32([0.1, 0.4, 0.9]), (height, width, 3))
    mixed = alpha[..., None] * foreground + (1 - alpha[..., None]) * background
    estimate = estimate_foreground(to_uint8(mixed), alpha)
    soft = (alpha > 0.05) & (alpha < 0.95)
    halo = (np.abs(mixed - foreground) * alpha[..., None])[soft].mean()
    assert (np.abs(estimate - foreground) * alpha[..., None])[soft].mean() < 0.35 * halo


def test_opaque_pixels_stay_and_empty_ones_are_black() -> None:
    image, alpha = scene(300, 300)
    alpha[:100] = 0
    alpha[150:170, 140:160] = 1
    result = estimate_foreground(image, alpha, dtype=np.uint8)
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result[152:168, 142:158], image[152:168, 142:158])
    assert not result[:90].any()


@pytest.mark.parametrize("value", [0, 1])
def test_plain_mattes(value: int) -> None:
    image, _ = scene(250, 333)
    alpha = np.full((250, 333), value, np.float32)
    for exact in (False, True):
        result = estimate_foreground(image, alpha, exact=exact, dtype=np.uint8)
        np.testing.assert_array_equal(result, image * value)


def test_integer_results_are_rounded() -> None:
    image, alpha = scene(120, 140)
    exact = estimate_foreground(image, alpha)
    for dtype, white in ((np.uint8, 255), (np.uint16, 65535)):
        result = estimate_foreground(image, alpha, dtype=dtype)
        assert np.abs(result - exact * white).max() <= 0.51


def test_alpha_may_be_whole_numbers() -> None:
    image, alpha = scene(90, 80)
    whole = to_uint8(alpha)
    np.testing.assert_allclose(
        estimate_foreground(image, whole),
        estimate_foreground(image, whole / np.float32(255)),
        atol=1e-6,
    )


@pytest.mark.parametrize("size", [(1, 1), (1, 900), (900, 1), (2, 3), (33, 47)])
def test_any_size(size: tuple[int, int]) -> None:
    image = np.full((*size, 3), 100, np.uint8)
    alpha = np.linspace(0, 1, size[0] * size[1], dtype=np.float32).reshape(size)
    for exact in (False, True):
        result = estimate_foreground(image, alpha, exact=exact)
        assert result.shape == image.shape
        assert np.isfinite(result).all()
        assert 0 <= result.min() <= result.max() <= 1


def test_default_radii_follow_the_size() -> None:
    assert default_radii(1024, 1024) == (90, 6)
    wide, narrow = default_radii(3000, 4000)
    assert 280 < wide < 330
    assert narrow == 20
    for side in (1, 50, 300, 700, 1500, 5000, 20000):
        wide, narrow = default_radii(side, side)
        assert wide >= 90
        assert narrow >= 6
        assert wide / grid_step(wide) >= 45 or grid_step(wide) == 1
        if side >= 1600:
            assert grid_step(wide) > 1


def test_wrong_input_is_refused() -> None:
    image, alpha = scene(20, 30)
    with pytest.raises(ImageError, match="expected"):
        estimate_foreground(image, alpha.T)
    with pytest.raises(ImageError, match="type"):
        estimate_foreground(image.astype(np.int64), alpha)
    with pytest.raises(BiRefNetError, match="radius"):
        estimate_foreground(image, alpha, radius=0)
    with pytest.raises(BiRefNetError, match="dtype"):
        estimate_foreground(image, alpha, dtype=np.int8)
