"""The training data as one map from sample numbers to samples, without any state.

Sample n of a run is a function of (settings, seed, n): its position in the order, what is drawn for
it, and the size of its batch. So any number of workers or processes gives equal samples, and a run
resumes by counting on.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

import cv2
import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.errors import needs_extra

with needs_extra("torch", "birefnet.training.data.dataset"):
    import torch
    from torch import Tensor
    from torch.utils.data import Dataset, get_worker_info

from birefnet.imaging.geometry import Preprocess
from birefnet.training.data import order, render
from birefnet.training.data.batch import Batch, DeviceBatch, Sample, collate
from birefnet.training.data.cache import PixelCache
from birefnet.training.data.composer import Composer, plainly
from birefnet.training.data.folders import DataError, MissingDataError
from birefnet.training.data.guides import from_levels, simulate, to_levels
from birefnet.training.data.labels import NO_LABEL, Classes
from birefnet.training.data.opening import open_source
from birefnet.training.data.order import Key, Order, Part, Size
from birefnet.training.data.settings import DataSettings, parse_bytes
from birefnet.training.data.sources import (
    Changed,
    Pixels,
    Source,
    parse_source,
    shrink,
    split_for_validation,
)
from birefnet.training.data.specification import SampleSpecification


def build_dataset(
    settings: DataSettings,
    *,
    train: bool = True,
    seed: int = 0,
    preprocess: Preprocess | None = None,
) -> TrainingDataset:
    """Open the sources of `settings`.

    Args:
        train: draw, augment and compose; otherwise every picture once, in order, only resized.
        seed: of everything random, at least 0.
        preprocess: of the weights, whose mean and standard deviation normalise the batches.

    Raises:
        DataError: a source that is missing or not complete.
        MissingExtraError: a Hugging Face data set or shards without the extra `data`.
    """
    return TrainingDataset(settings, train=train, seed=seed, preprocess=preprocess or Preprocess())


class TrainingDataset(Dataset[Sample]):
    """See `build_dataset`.

    Attributes:
        settings, seed: what the samples are a function of.
        epoch_length: samples per epoch.
        validation_split: the pictures of each source that are kept for validation, see
            `DataSettings.held_out`; cut-outs are composed.
        classes: names of the classes, by number.
        notes: what to know about the data before a run, in sentences.
    """

    def __init__(
        self, settings: DataSettings, *, train: bool, seed: int, preprocess: Preprocess
    ) -> None:
        self.settings, self.seed, self.train, self.preprocess = settings, seed, train, preprocess
        if not settings.sources:
            raise MissingDataError("there are no pictures to train on; give --data PATH")
        weighted = [parse_source(text) for text in settings.sources]
        self.sources = [open_source(source.uri) for source in weighted]
        for source in self.sources:
            if source.kind == "pictures":
                raise DataError(
                    f"{source.name} has pictures without a mask; expected folders im and gt in it, "
                    "or cut-outs with alpha (pictures without a subject go to data.backgrounds)"
                )
        self.validation_split: list[Source] = []
        if settings.held_out and train:
            split = [split_for_validation(source, settings.held_out) for source in self.sources]
            self.sources, self.validation_split = ([pair[i] for pair in split] for i in range(2))
        self.backgrounds = [open_source(text) for text in settings.backgrounds] if train else []
        self._all: list[Source] = [*self.sources, *self.backgrounds]
        self._first = np.cumsum([0, *(len(source) for source in self._all)])
        self._composer = Composer(settings, self._read, self.sources, self.backgrounds)
        self._size = settings.height, settings.width
        compose = partial(self._composer.composed, size=self._size, seed=seed)
        self.validation_split = [
            Changed(source, compose, source.name, "pairs") if source.kind == "cutouts" else source
            for source in self.validation_split
        ]
        parts = [
            Part(len(source), weight.times, weight.share)
            for source, weight in zip(self.sources, weighted, strict=True)
        ]
        if train and settings.composite.empty and (self._has_cutouts or self.backgrounds):
            count = sum(self._composer.backgrounds.counts)
            parts.append(Part(max(1, count), share=settings.composite.empty))
        self.order = Order(parts, seed, settings.epoch_length if train else 0)
        self.epoch_length = self.order.epoch_length if train else int(sum(map(len, self.sources)))
        names = (s.name_of(i) for s in self.sources for i in range(len(s)))
        self._classes = Classes(settings.classes, names)
        self.classes = self._classes.names
        limit = parse_bytes(settings.cache)
        self._cache = PixelCache(int(self._first[-1]), limit) if limit else None
        self.notes: list[str] = []
        if train and self._has_cutouts and not self.backgrounds:
            self.notes.append(
                "no backgrounds were given, so cut-outs are put on plain grounds only; pictures "
                "without a subject (data.backgrounds) teach far more"
            )

    @property
    def _has_cutouts(self) -> bool:
        return any(source.kind == "cutouts" for source in self.sources)

    def __len__(self) -> int:
        return self.epoch_length

    def size_at(self, step: int) -> Size:
        """Height and width of batch `step` [px]."""
        if not self.train:
            return self._size
        return order.size_at(self.settings, self.seed, step)

    def __getitem__(self, key: int | Key) -> Sample:
        """A sample by its global number, at the size that goes with it or else the settings'."""
        number, size = key if isinstance(key, tuple) else (key, self._size)
        if get_worker_info() is not None:
            cv2.setNumThreads(1)  # the workers are the threads
        part, index = self._locate(number)
        is_empty = part == len(self.sources)
        name = "empty" if is_empty else self.sources[part].name_of(index)
        label = NO_LABEL if is_empty else self._classes.label(name)
        rng = order.sample_stream(self.seed, number)
        specification = self._specify(part, index, size, rng)
        binary = self.settings.truth == "binary"
        rgb, levels, other = render.render(specification, *size, binary=binary)
        sample = Sample(_planes(rgb), _planes(levels), label, name, number)
        settings = self.settings.guidance
        if not settings.share:
            return sample
        guide = np.zeros(size, np.float32)
        if specification.is_guided:
            guide = simulate(levels, other, settings, rng)
        return replace(sample, guide=_planes(to_levels(guide)))

    def batch(self, size: Size, numbers: Sequence[int]) -> Batch:
        """The samples of these numbers at `size` (height, width) [px]."""
        return collate([self[number, size] for number in numbers])

    def to_device_batch(self, samples: Batch, device: torch.device | str, step: int) -> DeviceBatch:
        """Move a batch to the device: float32, normalised."""
        batch = samples.to(torch.device(device))
        image, mask = batch.image.float() / 255, batch.mask.float() / 255
        mean, std = (
            torch.tensor(values, device=image.device).view(1, 3, 1, 1)
            for values in (self.preprocess.mean, self.preprocess.std)
        )
        image = (image - mean) / std
        if batch.guide is not None:
            image = torch.cat([image, from_levels(batch.guide)], dim=1)
        return DeviceBatch(image, mask, batch.labels)

    def _locate(self, number: int) -> tuple[int, int]:
        """Source and picture of a sample; the source after the last means a scene alone."""
        if self.train:
            return self.order.locate(number)
        number %= self.epoch_length
        part = int(np.searchsorted(self._first, number, side="right")) - 1
        return part, number - int(self._first[part])

    def _specify(self, part: int, index: int, size: Size, rng: Generator) -> SampleSpecification:
        if part == len(self.sources):
            return self._composer.empty(index, size, rng)
        pixels = self._read(part, index)
        is_cutout = self.sources[part].kind == "cutouts"
        if not self.train:
            return plainly(pixels, is_cutout=is_cutout)
        compose = self._composer.cutout if is_cutout else self._composer.photo
        return compose(pixels, size, rng)

    def _read(self, source: int, index: int) -> Pixels:
        """A picture of one of all sources, from the cache if it is there."""
        position = int(self._first[source]) + index
        if self._cache is not None:
            cached = self._cache.get(position)
            if cached is not None:
                return cached
        opened = self._all[source]
        is_cutout = opened.kind == "cutouts"
        pixels = shrink(opened.read(index), self.settings.longest, is_cutout=is_cutout)
        if self._cache is not None:
            self._cache.put(position, pixels)
        return pixels


def _planes(pixels: NDArray[np.uint8]) -> Tensor:
    """H x W or H x W x C → C x H x W."""
    return torch.from_numpy(np.stack(cv2.split(pixels)))
