"""A batch of pictures through a network, with ComfyUI's progress bar and stop button."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

from birefnet.errors import DeviceError, needs_extra

with needs_extra("torch", __name__):
    from torch import Tensor

from birefnet.imaging.picture import Pixels
from birefnet.inference.predictor import Predictor
from birefnet.integrations.comfyui import host
from birefnet.integrations.comfyui.tensors import batch, pictures_of
from birefnet.matte import Matte
from birefnet.options import Options

Guides = Sequence[Pixels]
"""Coarse masks, one for each picture."""


def mattes(
    predictor: Predictor, images: Tensor, options: Options, guides: Guides | None = None
) -> Iterator[Matte]:
    """The finished matte of each picture, in order, as they become ready.

    Args:
        predictor: runs the network.
        images: B x H x W x C in [0, 1].
        options: `prepared`.
        guides: instead of `options.guide`, one for each picture.

    Raises:
        BiRefNetError: see `Predictor.predict`; and ComfyUI's own exception after a press of stop.
    """
    progress = host.Progress(len(images))
    progress.check()
    for matte in _raw(predictor, images, options, guides):
        yield options.finish(matte)
        progress.step()


def _raw(
    predictor: Predictor, images: Tensor, options: Options, guides: Guides | None
) -> Iterator[Matte]:
    """Where memory runs out, ComfyUI unloads its models, and the rest is tried once more."""
    done = 0
    try:
        for matte in _predicted(predictor, images, options, guides):
            done += 1
            yield matte
        return
    except DeviceError as error:
        if "memory" not in str(error) or not host.unload_others():
            raise
    rest = guides[done:] if guides else None
    yield from _predicted(predictor, images[done:], options, rest)


def _predicted(
    predictor: Predictor, images: Tensor, options: Options, guides: Guides | None
) -> Iterator[Matte]:
    pictures = pictures_of(images)
    if guides is None and options.is_plain:
        yield from predictor.predict(
            pictures, resolution=options.resolution, batch_size=options.batch_size
        )
        return
    for index, picture in enumerate(pictures):
        own = options if guides is None else replace(options, guide=guides[index])
        yield own.predict(predictor, picture)


def masks(predictor: Predictor, images: Tensor, options: Options) -> Tensor:
    """The mattes alone, as a MASK (B,H,W)."""
    return batch((matte.alpha for matte in mattes(predictor, images, options)), len(images))
