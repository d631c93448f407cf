"""What `nano` is trained and watched on: a stream of mixed samples in phases, and held-out sets."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from birefnet.imaging.geometry import Preprocess
from birefnet.training.data.batch import DeviceBatch
from birefnet.training.validation import Levels, Pictures
from tools.nano.mix import Mix, MixConfig, MixDataset
from tools.nano.store import Entry, PictureStore

_COMPOSITE_SIZE = 384  # px, of held-out composites
_MOST_COMPOSITES = 40


@dataclass(frozen=True)
class Phase:
    """A part of a run at one picture size [px]."""

    steps: int
    size: int


@dataclass(frozen=True)
class PhasedMix:
    """Samples of a `Mix` by number, at the size of the phase that a step belongs to.

    Attributes:
        folder: of the decoded pictures.
        phases: one after the other.
        seed: of the stream.
        preprocess: whose mean and standard deviation normalise.
        epoch_length: the stream has no end; so many samples count as an epoch.
    """

    folder: Path
    phases: tuple[Phase, ...]
    seed: int
    preprocess: Preprocess
    epoch_length: int = 10_000

    @property
    def steps(self) -> int:
        """Of the whole run."""
        return sum(phase.steps for phase in self.phases)

    def size_at(self, step: int) -> tuple[int, int]:
        """Height and width [px] at `step`."""
        for phase in self.phases:
            if step < phase.steps:
                return phase.size, phase.size
            step -= phase.steps
        raise IndexError("the step lies behind the last phase")

    def batch(self, size: tuple[int, int], numbers: Sequence[int]) -> tuple[Tensor, Tensor]:
        """Pictures (B,3,h,w) and truths (B,1,h,w), uint8."""
        dataset = _dataset(self.folder, size[0], self.seed)
        pictures, truths = zip(*(dataset[number] for number in numbers), strict=True)
        return torch.stack(pictures), torch.stack(truths)

    def to_device_batch(
        self, samples: tuple[Tensor, Tensor], device: torch.device, step: int
    ) -> DeviceBatch:
        """On the training device, normalised."""
        picture, truth = (tensor.to(device, non_blocking=True).float() / 255 for tensor in samples)
        mean, std = (
            torch.tensor(values, device=device).view(1, 3, 1, 1)
            for values in (self.preprocess.mean, self.preprocess.std)
        )
        labels = torch.full((len(picture),), -1, device=device)
        return DeviceBatch((picture - mean) / std, truth, labels)


@cache  # once for each worker and size
def _dataset(folder: Path, size: int, seed: int) -> MixDataset:
    return MixDataset(folder, size, seed)


@dataclass(frozen=True)
class _Photos:
    """Held-out photos, H x W x 4."""

    store: PictureStore
    entries: list[Entry]

    def __len__(self) -> int:
        return len(self.entries)

    def read(self, index: int) -> Levels:
        return self.store.pixels(self.entries[index])


@dataclass(frozen=True)
class _Composites:
    """Samples composed of held-out pictures, H x W x 4."""

    mix: Mix
    seed: int
    length: int

    def __len__(self) -> int:
        return self.length

    def read(self, index: int) -> Levels:
        rng = np.random.default_rng((self.seed, index))
        rgb, truth = self.mix.sample(rng, _COMPOSITE_SIZE)
        return np.dstack([rgb, truth])


def held_out_sets(store: PictureStore, most: int = 50) -> dict[str, Pictures]:
    """By kind: held-out photos, composites of held-out cut-outs, and empty scenes."""
    kinds = {
        "clothing": ("clothing",),
        "cats": ("cats",),
        "animals": ("animals",),
        "agreed": ("agreed",),
        "mixed": ("coco", "trashnet", "mandarin", "road"),
    }
    sets: dict[str, Pictures] = {}
    for name, members in kinds.items():
        entries = [e for kind in members for e in store.select(kind, kept_out=True)[:most]]
        if entries:
            sets[name] = _Photos(store, entries)
    mixes = {
        "renders": (_composites({"renders": 1.0}), 11),
        "thin": (_composites({"strands": 1.0}), 12),
        "crowded": (_composites({"renders": 1.0, "emoji": 0.5}, distractor=1), 14),
        "empty": (MixConfig(photo=0, composite=0, empty=1), 13),
    }
    length = min(most, _MOST_COMPOSITES)
    for name, (config, seed) in mixes.items():
        sets[name] = _Composites(Mix(store, config, kept_out=True), seed, length)
    return sets


def _composites(cutouts: dict[str, float], distractor: float = 0) -> MixConfig:
    return MixConfig(photo=0, composite=1, empty=0, distractor=distractor, cutouts=cutouts)


def intersection_over_union(matte: NDArray, truth: NDArray) -> dict[str, float]:
    """IoU of two maps of levels, both cut at half; 1 where both are empty."""
    p, t = matte > 127, truth > 127
    union = np.logical_or(p, t).sum()
    return {"iou": float(np.logical_and(p, t).sum() / union) if union else 1.0}
