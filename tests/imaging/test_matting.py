"""Alpha found anew inside the uncertain band."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, ImageError, MissingExtraError
from birefnet.imaging import matting
from birefnet.imaging.matting import METHODS, refine_alpha
from birefnet.imaging.trimap import UNKNOWN, trimap

SOLVERS = [method for method in METHODS if method not in ("none", "guided")]


def scene(size: int = 96, hairs: int = 60) -> tuple[NDArray, NDArray, NDArray]:
    """Hair before a sky: pixels, true alpha, and the blurred matte that a network would give."""
    rng = np.random.default_rng(3)
    canvas = np.zeros((4 * size, 4 * size), np.uint8)
    middle = np.array([2 * size, 2 * size])
    cv2.circle(canvas, middle.tolist(), int(1.1 * size), 255, -1)
    for angle in rng.uniform(0, 2 * np.pi, hairs):
        tip = middle + np.array([np.cos(angle), np.sin(angle)]) * rng.uniform(1.2, 1.6) * size
        cv2.line(canvas, middle.tolist(), tip.astype(int).tolist(), 255, 4, cv2.LINE_AA)
    alpha = cv2.resize(canvas, (size, size), interpolation=cv2.INTER_AREA) / np.float32(255)
    sky = np.linspace(0.7, 0.9, size, dtype=np.float32)[:, None, None] * np.float32([0.7, 0.85, 1])
    hair = np.float32([0.25, 0.15, 0.1])
    pixels = alpha[..., None] * hair + (1 - alpha[..., None]) * sky
    pixels = pixels + rng.normal(0, 0.005, pixels.shape)
    start = cv2.GaussianBlur(alpha, (0, 0), size / 32)
    return (np.clip(pixels, 0, 1) * 255).astype(np.uint8), alpha, np.clip(1.3 * start - 0.15, 0, 1)


@pytest.mark.parametrize("method", ["guided", *SOLVERS])
def test_hair_comes_nearer_to_the_truth(method: str) -> None:
    if method != "guided":
        pytest.importorskip("pymatting")
    pixels, truth, start = scene()
    found = refine_alpha(pixels, start, method, band=10)
    assert found.dtype == np.float32
    assert 0 <= found.min() <= found.max() <= 1
    gain = np.abs(start - truth).sum() / np.abs(found - truth).sum()
    assert gain > (2.0 if method != "guided" else 1.6)


@pytest.mark.parametrize("method", ["guided", "closed-form"])
def test_only_the_band_changes(method: str) -> None:
    if method != "guided":
        pytest.importorskip("pymatting")
    pixels, _, start = scene()
    found = refine_alpha(pixels, start, method, band=6)
    outside = trimap(start, band=6) != UNKNOWN
    np.testing.assert_array_equal(found[outside], start[outside])
    assert not np.array_equal(found, start)


def test_tiles_leave_no_seam(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _, start = scene(256)
    whole = refine_alpha(pixels, start, "guided", band=5)
    monkeypatch.setattr(matting, "_TILE", 96)
    difference = np.abs(refine_alpha(pixels, start, "guided", band=5) - whole)
    assert difference.max() < 0.08
    assert difference[difference > 0].mean() < 0.01
    # Where tiles meet, neighbours differ by no more than elsewhere.
    step = np.abs(np.diff(difference, axis=1))
    assert step.max() < 0.06


def test_none_and_certain_mattes_stay_as_they_are() -> None:
    pixels, _, start = scene()
    assert refine_alpha(pixels, start, "none") is start
    certain = np.ones_like(start)
    assert refine_alpha(pixels, certain, "guided") is certain


def test_depths_give_the_same() -> None:
    pixels, _, start = scene()
    deep = pixels.astype(np.uint16) * 257
    np.testing.assert_allclose(
        refine_alpha(deep, start, "guided"), refine_alpha(pixels, start, "guided"), atol=5e-3
    )


def test_a_plain_picture_changes_little() -> None:
    """Without colour to go by, the matte is the only witness."""
    _, _, start = scene()
    pixels = np.full((*start.shape, 3), 90, np.uint8)
    found = refine_alpha(pixels, start, "guided", band=10)
    assert np.isfinite(found).all()
    assert np.abs(found - start).max() < 0.05


@pytest.mark.parametrize("method", SOLVERS)
def test_a_tile_with_one_side_alone_is_solved(method: str) -> None:
    pytest.importorskip("pymatting")
    pixels, _, _ = scene(48)
    vague = np.full(pixels.shape[:2], 0.4, np.float32)
    found = refine_alpha(pixels, vague, method)
    assert np.isfinite(found).all()


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    pixels, _, start = scene(32)
    with pytest.raises(BiRefNetError, match="no matting 'best'; choose one of none, guided"):
        refine_alpha(pixels, start, "best")
    with pytest.raises(ImageError, match="expected"):
        refine_alpha(pixels[:5], start, "guided")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"birefnet\[matting\]"):
        refine_alpha(pixels, start, "closed-form")
