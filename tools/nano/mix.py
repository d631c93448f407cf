"""An endless, reproducible stream of training samples: photos, composites and empty scenes.

Sample i is a function of (seed, i) alone, so a run that is resumed at step n continues with the
very samples that an uninterrupted run would have seen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.random import Generator
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from birefnet.training.data import scenery
from birefnet.training.data.thin_structures import thin_structure
from tools.nano import augment, composite
from tools.nano.augment import Picture
from tools.nano.store import Entry, PictureStore


@dataclass(frozen=True)
class MixConfig:
    """What the stream consists of; weights are relative, kinds that a store lacks are skipped.

    Attributes:
        photo, composite, empty: of whole photos, pasted cut-outs, scenes without any object.
        printed: share of objects that carry a logo or lettering, which belongs to the subject.
        photos: of the kinds among whole photos.
        cutouts: of the kinds among pasted objects; `strands` are procedural thin structures.
        distractor: share of composites with further, smaller things that are not the subject.
        traced: photo kinds whose hand-drawn masks also serve as cut-outs.
        filled: photo kinds whose subject can be painted over to give a scene.
    """

    photo: float = 0.46
    composite: float = 0.46
    empty: float = 0.08
    printed: float = 0.07
    distractor: float = 0.5
    photos: Mapping[str, float] = field(
        default_factory=lambda: {
            "agreed": 26, "clothing": 11, "cats": 12, "animals": 9, "portraits": 9, "coco": 10,
            "leaves": 3, "trashnet": 3, "mandarin": 2, "road": 3,
        }
    )  # fmt: skip
    cutouts: Mapping[str, float] = field(
        default_factory=lambda: {
            "renders": 36, "renders_simple": 8, "emoji": 11, "clipart": 7, "logos": 4,
            "strands": 10, "agreed": 16, "clothing": 11, "cats": 10, "animals": 6, "coco": 9,
            "leaves": 2, "trashnet": 3, "mandarin": 1, "road": 1,
        }
    )  # fmt: skip
    traced: tuple[str, ...] = (
        "agreed", "clothing", "cats", "animals", "coco", "leaves", "trashnet", "mandarin", "road",
    )  # fmt: skip
    filled: tuple[str, ...] = ("clothing", "cats")


class Mix:
    """Draws samples from a store.

    Args:
        store: the decoded pictures.
        config: what to draw.
        kept_out: draw from the held-out pictures, for validation composites.
    """

    def __init__(
        self, store: PictureStore, config: MixConfig | None = None, *, kept_out: bool = False
    ) -> None:
        self.store = store
        self.config = config or MixConfig()
        self._entries = {kind: store.select(kind, kept_out=kept_out) for kind in store.kinds()}

    def sample(self, rng: Generator, size: int) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """One picture (size, size, 3) and its truth (size, size), uint8."""
        config = self.config
        shares = {
            "photo": config.photo if self._known(config.photos) else 0.0,
            "composite": config.composite,
            "empty": config.empty,
        }
        what = _choose(shares, rng)
        if what == "photo":
            rgb, truth = self._photo(rng, size)
        elif what == "composite":
            rgb, truth = self._composite(rng, size)
        else:
            rgb, truth = self._scene(rng, size), np.zeros((size, size), np.float32)
        rgb = augment.degrade(augment.colour(rgb, rng, 0.8), rng)
        return _bytes(rgb), _bytes(truth)

    def _known(self, weights: Mapping[str, float]) -> dict[str, float]:
        return {kind: w for kind, w in weights.items() if w and self._entries.get(kind)}

    def _draw(self, kind: str, rng: Generator) -> NDArray[np.uint8]:
        entries: list[Entry] = self._entries[kind]
        return self.store.pixels(entries[int(rng.integers(len(entries)))])

    def _photo(self, rng: Generator, size: int) -> tuple[Picture, Picture]:
        picture = self._draw(_choose(self._known(self.config.photos), rng), rng)
        cut = augment.crop(picture, size, rng, least=0.45, upright=False)
        return cut[..., :3], cut[..., 3]

    def _scene(self, rng: Generator, size: int) -> Picture:
        """A scene without a subject."""
        known = self._entries
        kinds = {
            "backgrounds": 0.3 if known.get("backgrounds") else 0.0,
            "panoramas": 0.17 if known.get("panoramas") else 0.0,
            "filled": 0.33 if self._known(dict.fromkeys(self.config.filled, 1.0)) else 0.0,
            "plain": 0.2,
        }
        kind = _choose(kinds, rng)
        if kind == "panoramas":
            return scenery.panorama_view(self._draw(kind, rng), size, rng)
        if kind == "backgrounds":
            picture = self._draw(kind, rng)
            return augment.crop(picture, size, rng, least=0.3, upright=False)
        if kind == "filled":
            for _ in range(3):
                which = _choose(self._known(dict.fromkeys(self.config.filled, 1.0)), rng)
                scene = augment.fill_subject(self._draw(which, rng))
                if scene is not None:
                    return augment.crop(scene, size, rng, least=0.5, upright=False)
        return scenery.plain(size, rng)

    def _layer(self, rng: Generator, size: int, extent: float) -> Picture:
        weights = self._known(self.config.cutouts)
        if "strands" in self.config.cutouts:
            weights["strands"] = self.config.cutouts["strands"]
        kind = _choose(weights, rng)
        if kind != "strands":
            traced = kind in self.config.traced
            layer = composite.place(self._draw(kind, rng), size, rng, traced=traced, extent=extent)
            if (
                kind != "logos"
                and self._entries.get("logos")
                and rng.random() < self.config.printed
            ):
                layer = self._print(layer, rng, extent)
            return layer
        alpha = thin_structure(size, rng)
        paint = scenery.plain(size, rng) if rng.random() < 0.7 else self._scene(rng, size)
        return np.dstack([paint * alpha[..., None], alpha])

    def _print(self, layer: Picture, rng: Generator, extent: float) -> Picture:
        """An object with a logo or lettering on it; its alpha stays."""
        size = layer.shape[0]
        logo = composite.place(
            self._draw("logos", rng), size, rng, traced=False, extent=extent * rng.uniform(0.2, 0.6)
        )
        rows, columns = np.nonzero(layer[..., 3] > 0.9)
        if not rows.size:
            return layer
        number = int(rng.integers(rows.size))
        at = np.array([columns[number], rows[number]], np.float64)
        logo_rows, logo_columns = np.nonzero(logo[..., 3] > 0.03)
        if not logo_rows.size:
            return layer
        move = at - (logo_columns.mean(), logo_rows.mean())
        logo = cv2.warpAffine(logo, np.column_stack([np.eye(2), move]), (size, size))
        rgb = logo[..., :3] * layer[..., 3:] + layer[..., :3] * (1 - logo[..., 3:])
        return np.dstack([rgb, layer[..., 3]])

    def _composite(self, rng: Generator, size: int) -> tuple[Picture, Picture]:
        extent = float(np.exp(rng.uniform(np.log(0.3), np.log(1.15))))
        count = 1 + int(rng.random() < 0.25) + int(rng.random() < 0.1)
        layers = [
            self._layer(rng, size, extent * (1 if i == 0 else rng.uniform(0.5, 1)))
            for i in range(count)
        ]
        if rng.random() < 0.07:  # on about its own colour
            alpha = layers[0][..., 3]
            mean = layers[0][..., :3].reshape(-1, 3).sum(axis=0) / max(1.0, float(alpha.sum()))
            scene = scenery.plain(size, rng, near=mean)
        else:
            scene = augment.colour(self._scene(rng, size), rng, 0.7)
        if extent > 0.4 and rng.random() < self.config.distractor:
            scene = self._distract(scene, rng, extent)
        if rng.random() < 0.3:  # depth of field
            scene = cv2.GaussianBlur(scene, (0, 0), rng.uniform(0.5, 4) * size / 256)
        rgb, truth = scene, np.zeros((size, size), np.float32)
        for layer in layers:
            if rng.random() < 0.6:
                layer = composite.match(layer, scene, rng.uniform(0, 0.6))
            if rng.random() < 0.4:
                rgb = composite.shadow(rgb, layer[..., 3], rng)
            rgb, truth = composite.over(layer, rgb, truth)
        return rgb, truth

    def _distract(self, scene: Picture, rng: Generator, extent: float) -> Picture:
        """The scene with things that are not the subject: small, cut by the border, or flat.

        They are pasted as the subject is, so that the trace of pasting says nothing, and only size,
        place, focus and completeness tell what the picture is about.
        """
        size = scene.shape[0]
        for _ in range(int(rng.integers(1, 5))):
            what = rng.random()
            if what < 0.25:  # a picture on a wall: a sign, a poster, graffiti
                layer = scenery.flat(self._scene(rng, size), rng)
            else:
                smaller = extent * rng.uniform(0.12, 0.42)
                at_border = what > 0.7
                layer = self._layer(rng, size, smaller * (1.7 if at_border else 1))
                if at_border:
                    layer = composite.to_border(layer, rng)
                if rng.random() < 0.5:
                    layer = cv2.GaussianBlur(layer, (0, 0), rng.uniform(0.5, 2.5) * size / 256)
            layer = composite.match(layer, scene, rng.uniform(0, 0.6))
            scene, _ = composite.over(layer, scene, np.zeros((size, size), np.float32))
        return scene


class MixDataset(Dataset[tuple[Tensor, Tensor]]):
    """Samples of a `Mix` by number, for a `DataLoader`.

    Args:
        folder: of the decoded pictures (opened in each worker).
        size: of the samples [px].
        seed: of the stream.
    """

    def __init__(self, folder: Path, size: int, seed: int, config: MixConfig | None = None) -> None:
        self.folder, self.size, self.seed, self.config = folder, size, seed, config
        self._mix: Mix | None = None

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        """Sample `index`: picture (3, size, size) and truth (1, size, size), uint8."""
        if self._mix is None:
            cv2.setNumThreads(1)
            self._mix = Mix(PictureStore(self.folder), self.config)
        rgb, truth = self._mix.sample(np.random.default_rng((self.seed, index)), self.size)
        return torch.from_numpy(rgb).permute(2, 0, 1), torch.from_numpy(truth)[None]


def _choose(weights: Mapping[str, float], rng: Generator) -> str:
    names = list(weights)
    shares = np.array([weights[name] for name in names])
    return names[int(rng.choice(len(names), p=shares / shares.sum()))]


def _bytes(picture: Picture) -> NDArray[np.uint8]:
    return (np.clip(picture, 0, 1) * 255 + 0.5).astype(np.uint8)
