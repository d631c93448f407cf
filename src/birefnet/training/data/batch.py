"""Samples, and the batches that are made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor


@dataclass(frozen=True)
class Sample:
    """One picture with its mask.

    Attributes:
        image: 3 x H x W, uint8.
        mask: 1 x H x W, uint8, 255 for the subject.
        label: class number, or -1.
        name: of the picture.
        number: global number of the sample.
        guide: 1 x H x W, uint8, levels of guidance (`guides.to_levels`), or None without a channel.
    """

    image: Tensor
    mask: Tensor
    label: int
    name: str
    number: int
    guide: Tensor | None = None


@dataclass(frozen=True)
class Batch:
    """Samples of one size, stacked; as `Sample`."""

    image: Tensor
    mask: Tensor
    labels: Tensor
    names: tuple[str, ...]
    numbers: tuple[int, ...]
    guide: Tensor | None = None

    def pin_memory(self) -> Batch:
        """For a `DataLoader` with `pin_memory=True`."""
        return replace(
            self,
            image=self.image.pin_memory(),
            mask=self.mask.pin_memory(),
            guide=self.guide.pin_memory() if self.guide is not None else None,
        )

    def to(self, device: torch.device) -> Batch:
        """On another device, without waiting for the copy where memory is pinned."""
        return replace(
            self,
            image=self.image.to(device, non_blocking=True),
            mask=self.mask.to(device, non_blocking=True),
            labels=self.labels.to(device, non_blocking=True),
            guide=self.guide.to(device, non_blocking=True) if self.guide is not None else None,
        )


class DeviceBatch(NamedTuple):
    """The input of one step of training.

    Attributes:
        image: B x 3 x H x W, float32, normalised; B x 4 x H x W with guidance from -1 to 1.
        mask: B x 1 x H x W, float32 in [0, 1].
        labels: B, int64, -1 for none.
    """

    image: Tensor
    mask: Tensor
    labels: Tensor


def collate(samples: Sequence[Sample]) -> Batch:
    """Stack samples of one size; the `collate_fn` of a `DataLoader`."""
    guides = [sample.guide for sample in samples if sample.guide is not None]
    return Batch(
        image=torch.stack([sample.image for sample in samples]),
        mask=torch.stack([sample.mask for sample in samples]),
        labels=torch.tensor([sample.label for sample in samples]),
        names=tuple(sample.name for sample in samples),
        numbers=tuple(sample.number for sample in samples),
        guide=torch.stack(guides) if guides else None,
    )
