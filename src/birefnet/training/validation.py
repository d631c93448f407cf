"""Watching a run: IoU per kind on pictures kept out of training."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from birefnet.imaging.geometry import Preprocess
from birefnet.training.mix import Mix, MixConfig
from birefnet.training.store import PictureStore, pairs, read

Sample = tuple[NDArray[Any], NDArray[Any]]


def intersection_over_union(matte: NDArray, truth: NDArray) -> float:
    """IoU of two maps in [0, 1], both cut at 0.5; 1 where both are empty."""
    p, t = matte > 0.5, truth > 0.5
    union = np.logical_or(p, t).sum()
    return float(np.logical_and(p, t).sum() / union) if union else 1.0


@torch.inference_mode()
def score(network: nn.Module, samples: Iterable[Sample], preprocess: Preprocess) -> float:
    """Mean IoU of `network` over pictures (H,W,3) and truths (H,W), at the pictures' own sizes."""
    scores = []
    for rgb, truth in samples:
        geometry = preprocess.plan(*rgb.shape[:2])
        batch = torch.from_numpy(geometry.apply(np.ascontiguousarray(rgb)))[None]
        logits = network(batch.contiguous(memory_format=torch.channels_last))
        matte = geometry.restore(logits.sigmoid()[0, 0].numpy())
        scores.append(intersection_over_union(matte, truth / 255))
    return float(np.mean(scores))


def held_out_samples(
    store: PictureStore, most: int = 50
) -> Mapping[str, Callable[[], Iterator[Sample]]]:
    """By kind: held-out photos, composites of held-out cut-outs, and empty scenes."""

    def photos(kinds: tuple[str, ...]) -> Iterator[Sample]:
        for kind in kinds:
            for entry in store.select(kind, kept_out=True)[:most]:
                pixels = store.pixels(entry)
                yield pixels[..., :3], pixels[..., 3]

    def mixed(config: MixConfig, seed: int) -> Iterator[Sample]:
        mix = Mix(store, config, kept_out=True)
        for index in range(min(most, 40)):
            yield mix.sample(np.random.default_rng((seed, index)), 384)

    renders = MixConfig(photo=0, composite=1, empty=0, cutouts={"renders": 1.0})
    thin = MixConfig(photo=0, composite=1, empty=0, cutouts={"strands": 1.0})
    empty = MixConfig(photo=0, composite=0, empty=1)
    return {
        "clothing": lambda: photos(("clothing",)),
        "cats": lambda: photos(("cats",)),
        "mixed": lambda: photos(("coco", "trashnet", "mandarin", "road")),
        "renders": lambda: mixed(renders, 11),
        "thin": lambda: mixed(thin, 12),
        "empty": lambda: mixed(empty, 13),
    }


def folder_samples(folder: Path) -> Iterator[Sample]:
    """Pictures and truths of `folder/{im,gt}`."""
    for image, truth in pairs(folder):
        yield read(image, cv2.IMREAD_COLOR)[..., ::-1], read(truth, cv2.IMREAD_GRAYSCALE)
