"""Blur fusion on torch tensors of any device: the exact form of `birefnet.imaging.foreground`.

Borders reflect as OpenCV's do (the outermost pixel is not repeated), on every device and for
windows wider than the picture, so that all devices give the same numbers.
"""

from __future__ import annotations

import torch
from torch import Tensor

from birefnet.errors import ImageError
from birefnet.imaging.foreground import EPSILON, default_radii


def estimate_foreground(
    image: Tensor,
    alpha: Tensor,
    *,
    radius: int | None = None,
    second_radius: int | None = None,
) -> Tensor:
    """Estimate the colours of the foreground alone; differentiable.

    Args:
        image: B x 3 x H x W in [0, 1], any floating type; computed in float32.
        alpha: B x 1 x H x W in [0, 1].
        radius, second_radius: sides of the wide and the narrow window [px]; None follows the
            picture's size.

    Returns:
        B x 3 x H x W in [0, 1], of the image's type.
    """
    if image.ndim != 4 or image.shape[1] != 3 or not image.is_floating_point():
        raise ImageError(
            f"got an image of {tuple(image.shape)} {image.dtype}; expected B x 3 x H x W floats."
        )
    if alpha.shape != (image.shape[0], 1, *image.shape[2:]):
        raise ImageError(
            f"got an alpha of {tuple(alpha.shape)}; expected "
            f"{(image.shape[0], 1, *image.shape[2:])}."
        )
    wide, narrow = default_radii(image.shape[2], image.shape[3])
    wide = wide if radius is None else radius
    narrow = narrow if second_radius is None else second_radius
    if wide < 1 or narrow < 1:
        raise ImageError(f"radius is {wide} and {narrow}; give at least 1.")
    pixels, a = image.float(), alpha.float()
    foreground, background = _fuse(pixels, pixels, pixels, a, wide)
    foreground, _ = _fuse(pixels, foreground, background, a, narrow)
    return foreground.to(image.dtype)


def _fuse(
    image: Tensor, foreground: Tensor, background: Tensor, a: Tensor, radius: int
) -> tuple[Tensor, Tensor]:
    """One pass; returns F' and bB of the formula in `birefnet.imaging.foreground`."""
    means = box_mean(torch.cat([a, foreground * a, background * (1 - a)], dim=1), radius)
    mean_a, mean_foreground, mean_background = means.split([1, 3, 3], dim=1)
    mean_foreground = mean_foreground / (mean_a + EPSILON)
    mean_background = mean_background / (1 - mean_a + EPSILON)
    difference = image - a * mean_foreground - (1 - a) * mean_background
    return (mean_foreground + a * difference).clamp(0, 1), mean_background


def box_mean(x: Tensor, size: int) -> Tensor:
    """Mean over size x size windows that begin size // 2 before each pixel, borders reflected."""
    for dim in (2, 3):
        x = _reflected_sums(x, dim, size)
    return x / size**2


def _reflected_sums(x: Tensor, dim: int, size: int) -> Tensor:
    """Sums over windows of a reflected line, which repeats itself: whole periods are summed once,
    so that a short line needs no memory for the window."""
    length = x.shape[dim]
    period = max(1, 2 * (length - 1))
    rounds, rest = divmod(size, period)
    before = size // 2
    if not rounds:
        return _window_sums(_reflect(x, dim, before, rest - 1 - before), dim, rest)
    ends = x.narrow(dim, 0, 1) + x.narrow(dim, length - 1, 1)
    around = 2 * x.sum(dim, keepdim=True) - ends if length > 1 else x
    around = rounds * around
    if not rest:
        return around.expand_as(x)
    return around + _window_sums(_reflect(x, dim, before, rest - 1 - before), dim, rest)


def _reflect(x: Tensor, dim: int, before: int, after: int) -> Tensor:
    """Pad one dimension by reflection about its outermost pixels, however often that takes."""
    length = x.shape[dim]
    period = max(1, 2 * (length - 1))
    position = torch.arange(-before, length + after, device=x.device) % period
    return x.index_select(dim, torch.minimum(position, period - position).clamp(max=length - 1))


def _window_sums(x: Tensor, dim: int, size: int) -> Tensor:
    """Sums over `size` neighbours, from sums over 1, 2, 4, ... of them.

    As few additions as the logarithm of the window, and as exact as pairwise summation; running
    sums would lose half of float32's digits across a large picture.
    """
    length = x.shape[dim] - size + 1
    total: Tensor | None = None
    start, span = 0, 1
    while True:
        if size & span:
            part = x.narrow(dim, start, length)
            total = part if total is None else total + part
            start += span
        if 2 * span > size:
            assert total is not None
            return total
        count = x.shape[dim] - span
        x = x.narrow(dim, 0, count) + x.narrow(dim, span, count)
        span *= 2
