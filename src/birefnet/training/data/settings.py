"""Settings of the training data: sources, augmentation, composites. Imports nothing heavy."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Literal

MULTIPLE = 32  # both sides of every network input

Truth = Literal["soft", "binary"]

_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "T": 2**40}


@dataclass(frozen=True)
class AugmentSettings:
    """Random changes of whole samples; a plain number is a probability unless it says otherwise.

    Attributes:
        flip, flip_vertical: mirror left-right, top-bottom.
        crop: keep a random part; `crop_least`: the smallest share of each side that is kept.
        scale: zoom by a factor from `scale_range`; below 1 the picture shrinks and is continued by
            its reflection.
        rotate: turn by up to `rotate_degrees` either way; corners are filled by reflection.
        colour: change the colours, by up to the following.
        brightness, contrast, saturation: largest change of the factor (0.2: from 0.8 to 1.2).
        hue: largest turn of the hue [degrees].
        temperature: largest change of warm against cold (0.1: red up by 10 % and blue down).
        grey: take the colours out.
        blur: Gaussian blur up to `blur_radius` [px at 1024].
        noise: Gaussian noise up to the standard deviation `noise_level` [of the full range].
        jpeg: compress with a quality from `jpeg_quality`.
        pepper: set a share `pepper_share` of all pixels to black or white.
    """

    flip: float = 0.5
    flip_vertical: float = 0.0
    crop: float = 0.0
    crop_least: float = 0.6
    scale: float = 0.0
    scale_range: tuple[float, float] = (0.8, 1.25)
    rotate: float = 0.0
    rotate_degrees: float = 15.0
    colour: float = 0.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.3
    hue: float = 5.0
    temperature: float = 0.1
    grey: float = 0.0
    blur: float = 0.0
    blur_radius: float = 2.0
    noise: float = 0.0
    noise_level: float = 0.04
    jpeg: float = 0.0
    jpeg_quality: tuple[int, int] = (40, 95)
    pepper: float = 0.0
    pepper_share: float = 0.0015

    def __post_init__(self) -> None:
        chances = ("flip", "flip_vertical", "crop", "scale", "rotate", "colour", "grey", "blur")
        _check_range(self, 0, 1, *chances, "noise", "jpeg", "pepper", "pepper_share")
        _check_range(self, 0, 1, "brightness", "contrast", "saturation", "temperature")
        _check_range(self, 0.05, 1, "crop_least")
        _check_range(self, 0, 180, "rotate_degrees", "hue")
        _check_range(self, 0, 100, "blur_radius")
        _check_range(self, 0, 1, "noise_level")
        _check_pair(self, "scale_range", 0.1, 10)
        _check_pair(self, "jpeg_quality", 1, 100)


@dataclass(frozen=True)
class CompositeSettings:
    """How cut-outs are put on backgrounds; a plain number is a probability.

    Attributes:
        extent: smallest and largest longer side of an object, as a share of the canvas.
        objects: up to so many objects in a picture, all of them subjects.
        distractors: other objects, small and often out of focus, that are no subjects.
        distractor_count: up to so many of them.
        signs: a distractor is a part of a background, flat, as a sign or a poster is.
        cut_off: a distractor reaches over the border of the picture.
        shadow: a soft shadow beneath the object.
        match: move the object's mean colour towards the background's.
        plain: a plain ground, a gradient or soft noise instead of a background picture.
        same_colour: a plain ground of about the object's own colour.
        blur_background: put the background out of focus.
        soften: blur the object slightly, edges included.
        empty: share of all samples that are backgrounds without any subject.
        photos: of photos with a mask, put their subject on another background, as a cut-out.
        one_colour: of photos and cut-outs, put their subject on one colour: a grey (4 in 10), about
            the subject's own (4 in 10), or any; `background_color_synthesis` of the released code,
            where it is 1.
    """

    extent: tuple[float, float] = (0.3, 1.1)
    objects: int = 2
    distractors: float = 0.15
    distractor_count: int = 1
    signs: float = 0.0
    cut_off: float = 0.0
    shadow: float = 0.4
    match: float = 0.4
    plain: float = 0.15
    same_colour: float = 0.05
    blur_background: float = 0.25
    soften: float = 0.2
    empty: float = 0.05
    photos: float = 0.0
    one_colour: float = 0.0

    def __post_init__(self) -> None:
        chances = ("distractors", "shadow", "match", "plain", "same_colour", "blur_background")
        _check_range(self, 0, 1, *chances, "soften", "photos", "one_colour", "signs", "cut_off")
        _check_range(self, 0, 0.9, "empty")
        _check_range(self, 1, 8, "objects", "distractor_count")
        _check_pair(self, "extent", 0.01, 4)


@dataclass(frozen=True)
class GuidanceSettings:
    """Simulated guidance, for networks with a guidance channel.

    Attributes:
        share: of the samples that say something; 0 makes samples without the channel.
        box, points, scribble, mask: relative weights of the kinds.
        others: of composites that say something, another object beside the meant one, about as
            large, that is not in the mask; of the rest, what is in the picture is meant.
    """

    share: float = 0.0
    box: float = 1.0
    points: float = 1.0
    scribble: float = 0.5
    mask: float = 1.0
    others: float = 0.8

    def __post_init__(self) -> None:
        _check_range(self, 0, 1, "share", "others")
        _check_range(self, 0, 100, "box", "points", "scribble", "mask")
        if not self.box + self.points + self.scribble + self.mask:
            raise ValueError("box, points, scribble and mask are all 0; give one of them a weight")


@dataclass(frozen=True)
class DataSettings:
    """The training data.

    Attributes:
        sources: what to train on, each `PATH[=WEIGHT]`: a folder with im/ and gt/ (or other usual
            names), `IMAGES::MASKS` for two folders of any name, a folder of RGBA cut-outs,
            `hf:NAME_OR_FOLDER:SPLIT?image=…&mask=…`, `wds:shards/{000..009}.tar`, or `thin:COUNT`
            for generated wheels, fences, wires, branches and hair. A weight says how often an
            epoch shows each picture (`=2.0`: twice), or which share of the epoch the set is
            (`=20%`).
        backgrounds: folders of pictures without a subject, to put cut-outs on and to learn from
            that there may be nothing; `PATH` as for sources, `panorama:PATH` for views of
            panoramas, `subjects-removed:PATH` for pictures whose subject is covered.
        truth: `soft` keeps levels between 0 and 255 (mattes, antialiased edges); `binary` cuts at
            half after every resize, so that no other levels arise.
        width, height: of the network's input [px], multiples of 32.
        dynamic_width, dynamic_height: smallest and largest side of a batch [px]; each batch draws
            its own width and height, multiples of 32, instead of `width` and `height`.
        epoch_length: pictures per epoch; 0 for the sum of the sources by their weights.
        held_out: share of each source's pictures that is never trained on but kept for validation;
            a picture's name decides, so that pictures which come later do not move the others.
        classes: class labels: `none`; `dis5k`, the fourth field of file names such as
            `1#Accessories#1#Bag#23…_o.jpg`, numbered in the order of the names that the sources
            hold; or a text file with those names, one a line, which fixes their numbers.
        augment, composite, guidance: see there.
        cache: memory for decoded pictures, shared by all workers: bytes, or `500M`, `8G`; 0 for
            none.
        longest: decoded pictures are shrunk to so many pixels on their longer side before anything
            else; 0 leaves them as they are.
    """

    RETIRED: ClassVar[Mapping[str, str]] = {
        "on_device": "samples are composed by loop.workers alone, leave it out",
    }

    sources: tuple[str, ...] = ()
    backgrounds: tuple[str, ...] = ()
    truth: Truth = "soft"
    width: int = 1024
    height: int = 1024
    dynamic_width: tuple[int, int] | None = None
    dynamic_height: tuple[int, int] | None = None
    epoch_length: int = 0
    held_out: float = 0.0
    classes: str = "none"
    augment: AugmentSettings = field(default_factory=AugmentSettings)
    composite: CompositeSettings = field(default_factory=CompositeSettings)
    guidance: GuidanceSettings = field(default_factory=GuidanceSettings)
    cache: str = "0"
    longest: int = 0

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            _check_side(name, getattr(self, name))
        for name in ("dynamic_width", "dynamic_height"):
            sides = getattr(self, name)
            if sides is not None:
                _check_pair(self, name, MULTIPLE, 2**14)
                for side in sides:
                    _check_side(name, side)
        _check_range(self, 0, 2**40, "epoch_length", "longest")
        _check_range(self, 0, 0.9, "held_out")
        parse_bytes(self.cache)


def parse_bytes(text: str) -> int:
    """A number of bytes: `0`, `1000000`, `500M`, `8G` (powers of 1024; `8GB` and `8GiB` too).

    >>> parse_bytes("500M")
    524288000
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\s*", str(text), re.IGNORECASE)
    if found is None:
        raise ValueError(f"cache is {text!r}; give bytes, or a number with K, M, G or T, as in 8G")
    return int(float(found[1]) * _UNITS[found[2].upper()])


def _check_side(name: str, side: int) -> None:
    if side < MULTIPLE or side % MULTIPLE:
        raise ValueError(f"{name} is {side}; it must be a multiple of {MULTIPLE}")


def _check_range(settings: object, least: float, most: float, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if not least <= value <= most:
            raise ValueError(f"{name} is {value}; it must be from {least} to {most}")


def _check_pair(settings: object, name: str, least: float, most: float) -> None:
    low, high = getattr(settings, name)
    if not least <= low <= high <= most:
        raise ValueError(
            f"{name} is {low}, {high}; give the smaller and the larger, from {least} to {most}"
        )
