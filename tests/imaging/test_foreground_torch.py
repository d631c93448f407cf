"""Blur fusion on tensors equals the one on arrays, borders included."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from birefnet.errors import ImageError
from birefnet.imaging.foreground import estimate_foreground as on_arrays
from birefnet.imaging.foreground_torch import box_mean, estimate_foreground

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def to_tensors(image: np.ndarray, alpha: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.from_numpy(image).permute(2, 0, 1)[None], torch.from_numpy(alpha)[None, None]


@pytest.mark.parametrize("device", DEVICES)
def test_reference_numbers(reference: Path, device: str) -> None:
    data = np.load(reference / "foreground.npz")
    image, alpha = to_tensors(
        data["image"] / np.float32(255), data["alpha"].astype(np.float32) / np.float32(255)
    )
    result = estimate_foreground(image.to(device), alpha.to(device), radius=90, second_radius=6)
    expected = data["foreground_radius_90_then_6"].transpose(2, 0, 1)
    np.testing.assert_allclose(result[0].cpu().numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("size", [(60, 90), (5, 130), (1, 1), (1, 40)])
@pytest.mark.parametrize("radii", [(90, 6), (31, 3), (None, None)])
def test_equals_the_array_version(device: str, size: tuple, radii: tuple) -> None:
    generator = np.random.default_rng(size[1])
    image = generator.random((*size, 3), np.float32)
    alpha = cv2.GaussianBlur(generator.random(size, np.float32), (0, 0), 2)
    alpha = ((alpha - 0.4) * 5).clip(0, 1).astype(np.float32)
    options = {"radius": radii[0], "second_radius": radii[1]}
    expected = on_arrays(image, alpha, exact=True, **options)
    result = estimate_foreground(*(x.to(device) for x in to_tensors(image, alpha)), **options)
    np.testing.assert_allclose(
        result[0].permute(1, 2, 0).cpu().numpy(), expected, atol=1e-5, rtol=0
    )


@pytest.mark.parametrize("size", [1, 2, 7, 32, 90, 200])
def test_box_mean_equals_opencv(size: int) -> None:
    plane = np.random.default_rng(size).random((40, 70), np.float32)
    expected = cv2.blur(plane, (size, size), borderType=cv2.BORDER_REFLECT_101)
    result = box_mean(torch.from_numpy(plane)[None, None], size)[0, 0].numpy()
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_batches_are_independent_and_half_precision_is_safe() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.rand(3, 3, 20, 30, generator=generator)
    alpha = torch.rand(3, 1, 20, 30, generator=generator)
    together = estimate_foreground(image, alpha, radius=16, second_radius=4)
    alone = estimate_foreground(image[1:2], alpha[1:2], radius=16, second_radius=4)
    torch.testing.assert_close(together[1:2], alone)
    half = estimate_foreground(image.half(), alpha.half(), radius=16, second_radius=4)
    assert half.dtype == torch.float16
    assert (half.float() - together).abs().max() < 5e-3


def test_gradients_reach_image_and_alpha() -> None:
    image = torch.rand(1, 3, 12, 12, requires_grad=True)
    alpha = torch.rand(1, 1, 12, 12, requires_grad=True)
    estimate_foreground(image, alpha).sum().backward()
    for tensor in (image, alpha):
        assert tensor.grad is not None
        assert torch.isfinite(tensor.grad).all()


def test_wrong_shapes_are_refused() -> None:
    with pytest.raises(ImageError, match="B x 3"):
        estimate_foreground(torch.rand(3, 8, 8), torch.rand(1, 1, 8, 8))
    with pytest.raises(ImageError, match="alpha"):
        estimate_foreground(torch.rand(2, 3, 8, 8), torch.rand(1, 1, 8, 8))
