"""Training data for tests: bright discs on noise, each a pure function of its number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birefnet.imaging.geometry import Preprocess
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.training.data.batch import DeviceBatch
from birefnet.training.data.settings import DataSettings
from birefnet.training.loss_settings import LossSettings
from birefnet.training.recipe import LoopSettings, Recipe, ScheduleSettings

PLAIN = Preprocess(64, 64, (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
LIGHT_LOSS = LossSettings(bce=1.0, iou=0.7, ssim=0.3, gradient=0.15)


def disc(number: int, size: int = 64) -> NDArray[np.uint8]:
    """H x W x 4, picture and truth."""
    rng = np.random.default_rng(number)
    y, x = np.mgrid[:size, :size] / size
    centre, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.3)
    truth = np.hypot(y - centre[0], x - centre[1]) < radius
    picture = rng.integers(0, 90, (size, size, 3)) + 150 * truth[..., None]
    return np.dstack([picture, 255 * truth]).astype(np.uint8)


@dataclass
class Discs:
    """A stream of discs, and a set to validate on."""

    epoch_length: int = 8
    name: str = "discs"
    sizes: tuple[int, ...] = (64,)
    first: int = 0

    def size_at(self, step: int) -> tuple[int, int]:
        side = self.sizes[step % len(self.sizes)]
        return side, side

    def batch(self, size: tuple[int, int], numbers: Sequence[int]) -> NDArray[np.uint8]:
        return np.stack([disc(n % self.epoch_length, size[0]) for n in numbers])

    def to_device_batch(self, samples: Any, device: torch.device, step: int) -> DeviceBatch:
        pixels = torch.from_numpy(samples).to(device).permute(0, 3, 1, 2).float() / 255
        image: Tensor = (pixels[:, :3] - 0.5) / 0.5
        return DeviceBatch(image, pixels[:, 3:], torch.full((len(image),), -1))

    def __len__(self) -> int:
        return self.epoch_length

    def read(self, index: int) -> NDArray[np.uint8]:
        return disc(self.first + index)


def tiny(**overrides: Any) -> BiRefNet:
    """A network with everything there is, as small as it goes; always the same weights."""
    torch.manual_seed(0)
    return build_network(replace(preset("tiny"), **overrides))


def recipe(**changes: Any) -> Recipe:
    """Eight steps on two discs each; `changes` by dotted names with `__` for the dot."""
    made = Recipe(
        name="discs",
        network="tiny",
        data=DataSettings(width=64, height=64),
        loss=LIGHT_LOSS,
        schedule=ScheduleSettings(steps=8, batch_size=2, warmup=2, ema=0.9),
        loop=LoopSettings(
            precision="fp32", workers=0, trackers=(), log_every=2, frozen_encoder_norms=True
        ),
    )
    return made.override({name.replace("__", "."): value for name, value in changes.items()})
