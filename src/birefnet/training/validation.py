"""Watching a run: metrics on pictures that are not trained on, and pictures to look at.

The metrics themselves are handed in, so that training does not depend on the evaluation.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import nn

from birefnet.files import write_atomic
from birefnet.imaging.geometry import Preprocess, resize_map
from birefnet.imaging.picture import Picture, to_uint8
from birefnet.imaging.png import write_png
from birefnet.inference.predictor import Predictor
from birefnet.inference.stream import infer
from birefnet.training.data.guides import from_levels
from birefnet.training.data.sources import Source

Levels = NDArray[np.uint8]
Metrics = Callable[[Levels, Levels], Mapping[str, float]]
"""Prediction and truth, both uint8 H x W → numbers by name."""

PREVIEW_HEIGHT = 256  # px


@dataclass(frozen=True)
class Scored:
    """One validated picture: its set, its number there, its metrics."""

    set_name: str
    index: int
    values: Mapping[str, float]


@dataclass(frozen=True)
class Validator:
    """Scores a network on sets of pictures, at the pictures' own sizes.

    Attributes:
        sets: pictures with truth, by name; a fifth channel holds levels of guidance.
        metrics: prediction, truth → numbers.
        best_by: the number that decides which weights are best.
        higher_is_better: its direction.
        pictures: at most so many of each set, evenly spaced; 0 takes all.
        previews: so many of the first set's pictures are kept to be looked at.
    """

    sets: Mapping[str, Source]
    metrics: Metrics
    best_by: str
    higher_is_better: bool
    pictures: int = 0
    previews: int = 0

    def __post_init__(self) -> None:
        for name, pictures in self.sets.items():
            if len(pictures) == 0:
                raise BiRefNetError(f"the validation set {name} holds no pictures")

    def __len__(self) -> int:
        return sum(len(indices) for _, indices in self._chosen())

    def _chosen(self) -> Iterator[tuple[str, Sequence[int]]]:
        for name, pictures in self.sets.items():
            count = len(pictures)
            wanted = min(count, self.pictures or count)
            yield name, [i * count // wanted for i in range(wanted)]

    def run(
        self,
        network: nn.Module,
        preprocess: Preprocess,
        device: torch.device,
        *,
        rank: int = 0,
        processes: int = 1,
        stop: Callable[[], bool] = lambda: False,
    ) -> tuple[list[Scored], list[Levels]]:
        """Score this process's share of the pictures.

        Args:
            network: in evaluation mode, on `device`.
            preprocess: that of the model which the run writes, views and all.
            rank, processes: every `processes`-th picture, beginning with the `rank`-th.
            stop: asked before each picture; the rest is left out once it says yes.

        Returns:
            The scores, and previews (H x W x 3 each) of the first process.
        """
        scored: list[Scored] = []
        previews: list[Levels] = []
        everything = [(name, index) for name, indices in self._chosen() for index in indices]
        for number, (name, index) in enumerate(everything):
            if number % processes != rank:
                continue
            if stop():
                break
            pixels = self.sets[name].read(index)
            rgb, mask = np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])
            guide = np.ascontiguousarray(pixels[..., 4]) if pixels.shape[2] > 4 else None
            matte = to_uint8(predict_matte(network, rgb, preprocess, device, guide))
            scored.append(Scored(name, index, dict(self.metrics(matte, mask))))
            if rank == 0 and len(previews) < self.previews:
                previews.append(preview(rgb, mask, matte))
        return scored, previews

    def summary(self, scored: Sequence[Scored]) -> dict[str, float]:
        """Means: `NAME` over all sets (each counts alike), and `SET/NAME` where there are several.

        Pictures for which a metric is not defined (NaN) do not count in it.
        """
        by_set: dict[str, list[Scored]] = {name: [] for name in self.sets}
        for one in sorted(scored, key=lambda one: (one.set_name, one.index)):
            by_set[one.set_name].append(one)
        means: dict[str, dict[str, float]] = {}
        for name, members in by_set.items():
            keys = list(members[0].values) if members else []
            means[name] = {key: _mean([m.values[key] for m in members]) for key in keys}
        keys = list(next(iter(means.values())))
        result = {key: _mean([of_set[key] for of_set in means.values()]) for key in keys}
        if len(means) > 1:
            for name, of_set in means.items():
                result |= {f"{name}/{key}": value for key, value in of_set.items()}
        if self.best_by not in result:
            raise BiRefNetError(
                f"validation.best_by is {self.best_by!r}; the metrics are {', '.join(keys)}"
            )
        return result

    def is_better(self, one: float, other: float) -> bool:
        """Whether the score `one` is strictly better than `other`; NaN never is."""
        if math.isnan(one):
            return False
        if math.isnan(other):
            return True
        return one > other if self.higher_is_better else one < other


@torch.inference_mode()
def predict_matte(
    network: nn.Module,
    rgb: Levels,
    preprocess: Preprocess,
    device: torch.device,
    guide: Levels | None = None,
) -> NDArray[np.float32]:
    """The matte, float32 H x W in [0, 1], of a picture uint8 H x W x 3, as `Predictor` makes it.

    `guide` are levels of guidance, H x W, see `birefnet.training.data.guides`.
    """
    engine = _Live(network, device)
    prepared = Predictor(engine, preprocess).prepare(Picture(rgb))
    batch = prepared.input[None]
    if guide is not None:
        box = prepared.geometry.box
        plane = resize_map(from_levels(torch.from_numpy(guide)).numpy(), box.height, box.width)
        seen = box.embed(plane, *prepared.geometry.input)
        batch = np.concatenate([batch, seen[None, None]], axis=1)
    return prepared.restore(infer(engine, batch, prepared.views)[0, 0]).alpha


@dataclass
class _Live:
    """A network in the middle of its training, as an `Engine`."""

    network: nn.Module
    device: torch.device
    name: str = "validation"
    batch_size: int = 1

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        images = torch.from_numpy(batch).to(self.device, memory_format=torch.channels_last)
        logits: NDArray[np.float32] = self.network(images).float().cpu().numpy()
        return logits


def preview(rgb: Levels, mask: Levels, matte: Levels) -> Levels:
    """Picture, truth and matte beside each other, H x W x 3."""
    height, width = rgb.shape[:2]
    scale = PREVIEW_HEIGHT / height
    size = (max(1, round(width * scale)), PREVIEW_HEIGHT)
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    parts = [rgb, *(np.repeat(plane[..., None], 3, axis=2) for plane in (mask, matte))]
    return np.hstack([cv2.resize(part, size, interpolation=how) for part in parts])


def write_previews(previews: Sequence[Levels], path: Path) -> None:
    """One picture of all previews, one below the other, as PNG."""
    width = max(one.shape[1] for one in previews)
    rows = [np.pad(one, ((0, 2), (0, width - one.shape[1]), (0, 0))) for one in previews]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, write_png(np.ascontiguousarray(np.vstack(rows))))


def _mean(values: Sequence[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return math.fsum(known) / len(known) if known else math.nan
