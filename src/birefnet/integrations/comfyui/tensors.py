"""ComfyUI's IMAGE and MASK, and this package's pictures and mattes.

IMAGE is a float tensor (B,H,W,C) in [0, 1], C being 3, or 4 with an alpha that colours are not
multiplied by; MASK is a float tensor (B,H,W) in [0, 1].
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import ImageError, counted, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor

from birefnet.imaging.picture import Picture, to_float, to_uint16

_EIGHT_BITS = 1e-3  # of a level: what conversions to float and back leave


def pictures_of(images: Tensor) -> Iterator[Picture]:
    """Each picture of an IMAGE, made when it is asked for.

    Pictures from files come as they were, in 8 bits; what a network made is kept in 16.

    Raises:
        ImageError: no IMAGE, or an empty one.
    """
    if images.ndim != 4 or images.shape[3] not in (1, 3, 4):
        raise ImageError(
            f"got an IMAGE of shape {tuple(images.shape)}; expected B x H x W x 3 (or 4, or 1)"
        )
    _refuse_empty("IMAGE", images)
    return (picture_of(image) for image in images)


def _refuse_empty(kind: str, values: Tensor) -> None:
    if not values.numel():
        raise ImageError(
            f"the {kind} is empty (shape {tuple(values.shape)}): the node before gave no picture"
        )


def picture_of(image: Tensor) -> Picture:
    """H x W x C in [0, 1] → a picture; values outside are clipped."""
    values = image.detach().to("cpu", torch.float32)
    colours = values[..., :3].expand(*values.shape[:2], 3)
    alpha = None
    if values.shape[2] == 4 and values[..., 3].min() < 1:
        alpha = values[..., 3].clamp(0, 1).numpy()
    levels = colours * 255
    rounded = levels.round()
    # torch does this with all cores, so numpy is left for what torch cannot hold.
    if levels.sub_(rounded).abs_().max() < _EIGHT_BITS:  # never, where a number is none
        return Picture(rounded.clamp_(0, 255).to(torch.uint8).numpy(), alpha)
    if not values.isfinite().all():
        raise ImageError("the IMAGE holds NaN or infinity; look at the node that made it")
    return Picture(to_uint16(colours.numpy()), alpha)


def masks_of(masks: Tensor, count: int) -> list[NDArray[np.float32]]:
    """MASK → one array H x W for each of `count` pictures; a single mask serves all.

    Raises:
        ImageError: another number of masks, or none.
    """
    if masks.ndim == 2:
        masks = masks[None]
    if masks.ndim == 4 and 1 in (masks.shape[1], masks.shape[3]):
        masks = masks.squeeze(1 if masks.shape[1] == 1 else 3)
    if masks.ndim != 3:
        raise ImageError(f"got a MASK of shape {tuple(masks.shape)}; expected B x H x W")
    _refuse_empty("MASK", masks)
    if len(masks) not in (1, count):
        raise ImageError(
            f"got {counted(len(masks), 'mask')} for {counted(count, 'picture')}; give one for "
            "each, or one for all"
        )
    arrays = [np.clip(mask.detach().to("cpu", torch.float32).numpy(), 0, 1) for mask in masks]
    return arrays * count if len(arrays) == 1 else arrays


def batch(arrays: Iterable[NDArray], count: int) -> Tensor:
    """Arrays of one shape, H x W (x C), uint8, uint16 or float → a float tensor (B,H,W(,C)).

    They are taken one at a time, so that a long film needs no more than its result.

    Raises:
        ImageError: shapes differ.
    """
    out: Tensor | None = None
    for index, array in enumerate(arrays):
        if out is None:
            out = torch.empty((count, *array.shape), dtype=torch.float32)
        if array.shape != out.shape[1:]:
            raise ImageError(
                f"picture {index + 1} came out as {array.shape[1]}x{array.shape[0]} and the first "
                f"as {out.shape[2]}x{out.shape[1]}; a batch needs one size"
            )
        if array.dtype == np.uint8:
            torch.mul(torch.from_numpy(array), 1 / 255, out=out[index])
        else:
            out[index] = torch.from_numpy(to_float(array))
    assert out is not None, "a batch holds at least one picture"
    return out


def backgrounds_of(images: Tensor, count: int) -> list[Picture]:
    """IMAGE → a picture to go behind each of `count`; a single one serves all.

    Raises:
        ImageError: another number of pictures.
    """
    if len(images) not in (1, count):
        raise ImageError(
            f"got {counted(len(images), 'background')} for {counted(count, 'picture')}; give one "
            "for each, or one for all"
        )
    pictures = list(pictures_of(images))
    return pictures * count if len(pictures) == 1 else pictures
