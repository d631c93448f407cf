"""Compose samples: photos, cut-outs on backgrounds, and scenes without a subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.random import Generator

from birefnet.imaging.foreground import estimate_foreground
from birefnet.training.data import render, scenery
from birefnet.training.data.guides import simulate, to_levels
from birefnet.training.data.order import Size, sample_stream
from birefnet.training.data.settings import AugmentSettings, DataSettings
from birefnet.training.data.sources import Pixels, Source, shrink
from birefnet.training.data.specification import (
    Degradation,
    Layer,
    SampleSpecification,
    sample_colour,
    sample_degradation,
    sample_layer,
    sample_view,
    whole,
    without_margins,
)

Read = Callable[[int, int], Pixels]
"""A picture by the number of its source and its own."""

_BACKGROUND = AugmentSettings(flip=0.5, crop=0.8, crop_least=0.4)
_PLAIN_SIDE = 256  # plain grounds are drawn at this size: there is nothing finer in them [px]
_ANOTHER = 0.25  # chance that one more object joins
_AMONG_OTHERS = (0.35, 0.75)  # extent of an object beside others
_APART = (0.16, 0.3)  # of such objects' centres from the middle, as shares of the canvas
_SIGN = (0.08, 0.4)  # extent of a flat picture
_CUT_OFF = 1.7  # times as large are distractors that the border cuts
_BORDER = 2  # px of a picture; masks drawn by hand often end just before its edge
_OUT_OF_FOCUS = (0.5, 4.0)  # standard deviation of a background's blur [px at 256]


@dataclass(frozen=True)
class Pool:
    """Pictures of several sources to choose from, each as likely as any other.

    Attributes:
        first: number of the first source; the others follow.
        counts: how many pictures each has.
    """

    first: int
    counts: tuple[int, ...]

    def __bool__(self) -> bool:
        return sum(self.counts) > 0

    def locate(self, index: int) -> tuple[int, int]:
        """Source and picture of number `index` of all."""
        ends = np.cumsum(self.counts)
        which = int(np.searchsorted(ends, index, side="right"))
        return self.first + which, index - int(ends[which] - self.counts[which])

    def sample(self, rng: Generator) -> tuple[int, int]:
        return self.locate(int(rng.integers(sum(self.counts))))


class Composer:
    """Chooses what makes up each sample; all randomness comes from the generator passed in.

    Sizes are height and width of the sample [px].

    Args:
        settings: of the data.
        read: of pictures.
        sources: what can be put on a background: cut-outs, and photos with a mask.
        backgrounds: what objects can be put on, numbered after the sources.
    """

    def __init__(
        self,
        settings: DataSettings,
        read: Read,
        sources: Sequence[Source],
        backgrounds: Sequence[Source],
    ) -> None:
        self.augment, self.composite = settings.augment, settings.composite
        self.guidance, self.read = settings.guidance, read
        self.objects = Pool(0, tuple(map(len, sources)))
        self.backgrounds = Pool(len(sources), tuple(map(len, backgrounds)))
        self.photos = frozenset(i for i, s in enumerate(sources) if s.kind != "cutouts")

    def photo(self, pixels: Pixels, size: Size, rng: Generator) -> SampleSpecification:
        """A picture with its mask (H x W x 4); now and then its subject on another background."""
        view = sample_view(pixels.shape[0], pixels.shape[1], self.augment, rng)
        degradation = sample_degradation(self.augment, max(size), rng)
        is_guided = happens(self.guidance.share, rng)
        is_on_colour = happens(self.composite.one_colour, rng)
        if not is_on_colour and rng.random() >= self.composite.photos:
            return SampleSpecification(pixels, view, degradation=degradation, is_guided=is_guided)
        if not is_on_colour and not is_cut_off(pixels):
            return self.cutout(cut_out(pixels, max(size)), size, rng)
        # Where the border cuts the subject, it stays at the border.
        subject = render.apply_view(pixels, view, *size)
        layers = [filling(opaque(subject))]
        if is_on_colour:
            ground = _one_colour(subject, rng)
        else:
            ground = self._ground(size, rng, subject)
            layers = [*self._sample_distractors(_extent(subject), size, rng), *layers]
        return replace(ground, layers=tuple(layers), degradation=degradation, is_guided=is_guided)

    def cutout(self, pixels: Pixels, size: Size, rng: Generator) -> SampleSpecification:
        """A cut-out (h x w x 4), perhaps with others, on a background."""
        if happens(self.guidance.share, rng):
            if rng.random() < self.guidance.others:
                return self._among_others(pixels, size, rng)
            return replace(self._alone_or_several(pixels, size, rng), is_guided=True)
        return self._alone_or_several(pixels, size, rng)

    def _among_others(self, pixels: Pixels, size: Size, rng: Generator) -> SampleSpecification:
        """A cut-out that is meant, with one or two beside, before or behind it that are not."""
        extent = float(np.exp(rng.uniform(*np.log(_AMONG_OTHERS))))
        ground = self._ground(size, rng, pixels)
        count = 2 + int(rng.random() < _ANOTHER)
        turn = rng.uniform(0, 2 * np.pi)
        layers = []
        for number in rng.permutation(count):
            angle = turn + 2 * np.pi * number / count
            apart = rng.uniform(*_APART)
            is_meant = number == 0
            layer = sample_layer(
                pixels if is_meant else self._object(size, rng),
                size,
                self.composite,
                self.augment,
                rng,
                extent=extent * (1 if is_meant else rng.uniform(0.6, 1.3)),
                is_subject=is_meant,
                position=(0.5 + apart * np.cos(angle), 0.5 + apart * np.sin(angle)),
                is_sharp=bool(rng.random() < 0.8),
            )
            layers += [layer] if layer is not None else []
        degradation = sample_degradation(self.augment, max(size), rng)
        return replace(ground, layers=tuple(layers), degradation=degradation, is_guided=True)

    def _alone_or_several(self, pixels: Pixels, size: Size, rng: Generator) -> SampleSpecification:
        settings = self.composite
        extent = float(np.exp(rng.uniform(*np.log(settings.extent))))
        ground = self._ground(size, rng, pixels)
        layers: list[Layer | None] = [*self._sample_distractors(extent, size, rng)]

        def add(cutout: Pixels, extent: float, *, is_subject: bool) -> None:
            layer = sample_layer(
                cutout, size, settings, self.augment, rng, extent=extent, is_subject=is_subject
            )
            layers.append(layer)

        for _ in range(settings.objects - 1):
            if rng.random() >= _ANOTHER:
                break
            other = self._object(size, rng)
            add(other, extent * rng.uniform(0.5, 1), is_subject=True)
        add(pixels, extent, is_subject=True)
        seen = tuple(layer for layer in layers if layer is not None)
        degradation = sample_degradation(self.augment, max(size), rng)
        return replace(ground, layers=seen, degradation=degradation)

    def composed(self, pixels: Pixels, index: int, *, size: Size, seed: int) -> Pixels:
        """A cut-out as a picture with its mask, on its own background, always the same.

        With guidance, a fifth channel holds its levels, see `birefnet.training.data.guides`.

        Args:
            pixels: h x w x 4.
            index: its number, which backgrounds and positions follow from.
            seed: of the run.
        """
        rng = sample_stream(seed, index)
        specification = self.cutout(pixels, size, rng)
        clean = replace(specification, degradation=Degradation())
        rgb, mask, other = render.render(clean, *size)
        both = render.join(rgb, mask)
        if not self.guidance.share:
            return both
        guide = simulate(mask, other, self.guidance, rng)
        return np.dstack([both, to_levels(guide * specification.is_guided)])

    def _object(self, size: Size, rng: Generator) -> Pixels:
        """Any object as a cut-out (h x w x 4), of about that size at most."""
        source, index = self.objects.sample(rng)
        pixels = self.read(source, index)
        return cut_out(pixels, max(size)) if source in self.photos else pixels

    def _sample_distractors(self, extent: float, size: Size, rng: Generator) -> list[Layer]:
        """What lies beneath a subject that takes `extent` of the canvas; often nothing."""
        if rng.random() >= self.composite.distractors:
            return []
        most = self.composite.distractor_count
        count = int(rng.integers(1, most + 1)) if most > 1 else 1
        found = [self._distractor(extent, size, rng) for _ in range(count)]
        return [layer for layer in found if layer is not None]

    def _distractor(self, extent: float, size: Size, rng: Generator) -> Layer | None:
        """Something that is not the subject, pasted as the subject is.

        So traces of pasting tell nothing: only size, position, focus and completeness do.
        """
        settings = self.composite
        if settings.signs and self.backgrounds and rng.random() < settings.signs:
            pixels, extent = self._sign(rng), rng.uniform(*_SIGN)
        else:
            pixels = self._object(size, rng)
            extent *= rng.uniform(0.15, 0.4)
        position = None
        if settings.cut_off and rng.random() < settings.cut_off:
            along = rng.uniform(0.1, 0.9)
            position = ((0.0, along), (1.0, along), (along, 1.0))[int(rng.integers(3))]
            extent *= _CUT_OFF
        return sample_layer(
            pixels, size, settings, self.augment, rng,
            extent=extent, is_subject=False, position=position,
        )  # fmt: skip

    def _sign(self, rng: Generator) -> Pixels:
        """A part of a background, opaque (h x w x 4)."""
        pixels = self.read(*self.backgrounds.sample(rng))[..., :3]
        height, width = (max(1, int(side * rng.uniform(0.2, 0.5))) for side in pixels.shape[:2])
        top = int(rng.integers(pixels.shape[0] - height + 1))
        left = int(rng.integers(pixels.shape[1] - width + 1))
        part = pixels[top : top + height, left : left + width]
        return render.join(np.ascontiguousarray(part), np.full((height, width), 255, np.uint8))

    def empty(self, index: int, size: Size, rng: Generator) -> SampleSpecification:
        """A scene without a subject: background number `index` of all, or a plain ground."""
        degradation = sample_degradation(self.augment, max(size), rng)
        if not self.backgrounds or rng.random() < self.composite.plain:
            return replace(_plain(size, rng), degradation=degradation)
        return replace(
            self._background(self.backgrounds.locate(index), rng), degradation=degradation
        )

    def _ground(self, size: Size, rng: Generator, subject: Pixels) -> SampleSpecification:
        """The ground that a subject (h x w x 4) is put on."""
        settings = self.composite
        if happens(self.composite.one_colour, rng):
            return _one_colour(subject, rng)
        kind = rng.random()
        if kind < settings.same_colour:
            rgb, alpha = render.split(subject)
            return _plain(size, rng, near=render.mean(rgb, alpha))
        if kind < settings.same_colour + settings.plain or not self.backgrounds:
            return _plain(size, rng)
        scene = self._background(self.backgrounds.sample(rng), rng)
        blur = rng.uniform(*_OUT_OF_FOCUS) * min(size) / 256
        is_blurred = rng.random() < settings.blur_background
        colour = sample_colour(self.augment, rng)
        return replace(scene, scene_blur=blur if is_blurred else 0.0, scene_colour=colour)

    def _background(self, picture: tuple[int, int], rng: Generator) -> SampleSpecification:
        pixels = self.read(*picture)[..., :3]
        return SampleSpecification(
            pixels, sample_view(pixels.shape[0], pixels.shape[1], _BACKGROUND, rng)
        )


def happens(chance: float, rng: Generator) -> bool:
    """Whether something of this chance happens; what never does takes no random number."""
    return chance > 0 and bool(rng.random() < chance)


def is_cut_off(pixels: Pixels) -> bool:
    """Whether the border of a picture with its mask (H x W x 4) cuts the subject."""
    mask = pixels[..., 3]
    border = (mask[:_BORDER], mask[-_BORDER:], mask[:, :_BORDER], mask[:, -_BORDER:])
    return any(part.max() > 127 for part in border)


def _extent(pixels: Pixels) -> float:
    """Longer side of the subject of a picture with its mask, as a share of the picture's."""
    seen = without_margins(pixels)
    return 0.0 if seen is None else max(seen.shape[:2]) / max(pixels.shape[:2])


def cut_out(pixels: Pixels, longest: int) -> Pixels:
    """The subject of a picture with its mask (H x W x 4), at most `longest` pixels a side."""
    seen = without_margins(pixels)
    return opaque(shrink(seen if seen is not None else pixels[:1, :1], longest))


def opaque(pixels: Pixels) -> Pixels:
    """A picture with its mask (H x W x 4) as a cut-out: edges have the colours of the subject."""
    rgb, alpha = render.split(pixels)
    return render.join(estimate_foreground(rgb, alpha, dtype=np.uint8), alpha)


def filling(pixels: Pixels) -> Layer:
    """A cut-out (h x w x 4) as a layer that fills the canvas, unchanged."""
    return Layer(pixels, np.array([[1.0, 0, 0], [0, 1.0, 0]]), scale=1.0)


def plainly(pixels: Pixels, *, is_cutout: bool) -> SampleSpecification:
    """A picture with its mask as it is, without any randomness; a cut-out on black."""
    view = whole(*pixels.shape[:2])
    if not is_cutout:
        return SampleSpecification(pixels, view)
    return SampleSpecification(render.premultiplied(pixels), view)


def _plain(size: Size, rng: Generator, near: np.ndarray | None = None) -> SampleSpecification:
    ground = scenery.plain(min(_PLAIN_SIDE, max(size)), rng, near)
    pixels = scenery.to_pixels(ground)
    return SampleSpecification(pixels, whole(*pixels.shape[:2]))


def _one_colour(subject: Pixels, rng: Generator) -> SampleSpecification:
    """A ground of one colour, in the shares of the released code's `background_color_synthesis`."""
    kind = rng.random()
    if kind < 0.4:
        colour = np.repeat(rng.random(), 3)
    elif kind < 0.8:  # hard: up to a fifth of the way from the subject's colour to white or black
        rgb, alpha = render.split(subject)
        colour = render.mean(rgb, alpha)
        colour = colour + rng.uniform(0, 0.2) * (float(rng.integers(2)) - colour)
    else:
        colour = rng.random(3)
    pixels = np.full((2, 2, 3), np.rint(colour * 255), np.uint8)
    return SampleSpecification(pixels, whole(2, 2))
