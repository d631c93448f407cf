"""A training sample as plain numbers: view, colours, layers, degradation; `render` computes it."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.random import Generator
from numpy.typing import NDArray

from birefnet.training.data.settings import AugmentSettings, CompositeSettings
from birefnet.training.data.sources import Pixels

Matrix = NDArray[np.float64]

LUMA = np.array([0.299, 0.587, 0.114])
"""Weights of red, green and blue in brightness (ITU-R BT.601)."""

# RGB to one brightness and two colour axes, in which hue is an angle (NTSC, YIQ).
_TO_YIQ = np.array([LUMA, [0.596, -0.274, -0.322], [0.211, -0.523, 0.312]])
_FROM_YIQ = np.linalg.inv(_TO_YIQ)
_REFERENCE_SIDE = 1024  # radii of settings are meant for pictures of this size [px]


@dataclass(frozen=True)
class View:
    """Which part of a picture fills the canvas, and how it lies in it.

    Attributes:
        box: left, top, right, bottom of a part of the picture [px].
        theta: 2 x 3, from the canvas to that part; both span -1 ... 1 from edge to edge, x first.
            Beyond the part the picture is reflected.
    """

    box: tuple[int, int, int, int]
    theta: Matrix

    @property
    def is_straight(self) -> bool:
        """Whether the part fills the canvas exactly, at most mirrored."""
        return bool(np.array_equal(np.abs(self.theta), [[1, 0, 0], [0, 1, 0]]))


@dataclass(frozen=True)
class Colour:
    """A change of colours: linear, then contrast about the picture's mean brightness.

    Attributes:
        linear: 3 x 3, on RGB.
        contrast: factor.
    """

    linear: Matrix = field(default_factory=lambda: np.eye(3))
    contrast: float = 1.0

    def offset(self, mean: NDArray) -> float:
        """The amount that contrast adds to each channel of a picture of this mean colour."""
        return (1 - self.contrast) * float(LUMA @ self.linear @ mean)


@dataclass(frozen=True)
class Shadow:
    """Of a layer; lengths are shares of the canvas."""

    right: float
    down: float
    spread: float
    strength: float


@dataclass(frozen=True)
class Layer:
    """A cut-out on the canvas.

    Attributes:
        pixels: h x w x 4, not multiplied by alpha, without transparent margins.
        theta: 2 x 3, from the canvas to the cut-out, as in `View`; beyond it there is nothing.
        scale: canvas pixels per pixel of the cut-out, about.
        colour: its own change of colours.
        match: how far its mean colour moves to the scene's, 0 to 1.
        shadow: on what is beneath it, if any.
        blur: standard deviation [px of the canvas].
        is_subject: whether it belongs to the mask.
    """

    pixels: Pixels
    theta: Matrix
    scale: float
    colour: Colour | None = None
    match: float = 0.0
    shadow: Shadow | None = None
    blur: float = 0.0
    is_subject: bool = True


@dataclass(frozen=True)
class Degradation:
    """Degradations of the whole picture, as cameras and files cause them; 0 means no.

    Attributes:
        colour: a change of colours.
        blur: standard deviation [px].
        noise: standard deviation [of the full range].
        jpeg: quality, 1 to 100.
        pepper: share of pixels set to black or white.
        seed: of noise and pepper.
    """

    colour: Colour | None = None
    blur: float = 0.0
    noise: float = 0.0
    jpeg: int = 0
    pepper: float = 0.0
    seed: int = 0


@dataclass(frozen=True)
class SampleSpecification:
    """One sample, ready to be rendered.

    Attributes:
        scene: H x W x 3, or x 4 with its mask.
        view: of the scene.
        scene_blur: standard deviation [px of the canvas].
        scene_colour: change of the scene's colours before anything is put on it.
        layers: from the lowest to the topmost.
        degradation: of the whole.
        is_guided: guidance says which object is meant.
    """

    scene: Pixels
    view: View
    scene_blur: float = 0.0
    scene_colour: Colour | None = None
    layers: tuple[Layer, ...] = ()
    degradation: Degradation = field(default_factory=Degradation)
    is_guided: bool = False


def whole(height: int, width: int) -> View:
    """The whole picture, as it is."""
    return View((0, 0, width, height), np.array([[1.0, 0, 0], [0, 1.0, 0]]))


def sample_view(height: int, width: int, settings: AugmentSettings, rng: Generator) -> View:
    """A view of a picture of `height` x `width` pixels: crop, zoom, rotation, mirroring."""
    mirror_x = -1.0 if rng.random() < settings.flip else 1.0
    mirror_y = -1.0 if rng.random() < settings.flip_vertical else 1.0
    part_w, part_h = float(width), float(height)
    if rng.random() < settings.crop:
        part_w *= rng.uniform(settings.crop_least, 1)
        part_h *= rng.uniform(settings.crop_least, 1)
    if rng.random() < settings.scale:
        low, high = np.log(settings.scale_range)
        zoom = np.exp(rng.uniform(low, high))
        part_w, part_h = part_w / zoom, part_h / zoom
    angle = 0.0
    if rng.random() < settings.rotate:
        angle = np.deg2rad(rng.uniform(-settings.rotate_degrees, settings.rotate_degrees))
    # A part larger than the picture may lie anywhere that keeps the whole picture in it.
    centre_x = width / 2 + (rng.random() - 0.5) * abs(width - part_w)
    centre_y = height / 2 + (rng.random() - 0.5) * abs(height - part_h)
    if angle == 0 and part_w <= width and part_h <= height:
        box = _whole_pixels(centre_x, centre_y, part_w, part_h, width, height)
        return View(box, np.array([[mirror_x, 0, 0], [0, mirror_y, 0]]))
    cos, sin = np.cos(angle), np.sin(angle)
    turn = np.array([[cos, -sin], [sin, cos]]) @ np.diag(
        [mirror_x * part_w / 2, mirror_y * part_h / 2]
    )
    reach_x, reach_y = np.abs(turn).sum(axis=1)
    box = (
        max(0, int(np.floor(centre_x - reach_x))),
        max(0, int(np.floor(centre_y - reach_y))),
        min(width, int(np.ceil(centre_x + reach_x))),
        min(height, int(np.ceil(centre_y + reach_y))),
    )
    half = np.array([box[2] - box[0], box[3] - box[1]]) / 2
    middle = np.array([box[2] + box[0], box[3] + box[1]]) / 2
    move = (np.array([centre_x, centre_y]) - middle) / half
    return View(box, np.column_stack([turn / half[:, None], move]))


def _whole_pixels(
    x: float, y: float, part_w: float, part_h: float, width: int, height: int
) -> tuple[int, int, int, int]:
    """A box of whole pixels about a centre, inside the picture."""
    box_w, box_h = max(1, round(part_w)), max(1, round(part_h))
    left = min(max(0, round(x - box_w / 2)), width - box_w)
    top = min(max(0, round(y - box_h / 2)), height - box_h)
    return left, top, left + box_w, top + box_h


def sample_colour(settings: AugmentSettings, rng: Generator) -> Colour | None:
    """A change of colours, or none; always takes the same count of random numbers."""
    happens, grey = rng.random(2)
    brightness, contrast, saturation, temperature, hue = rng.uniform(-1, 1, 5)
    if happens >= settings.colour and grey >= settings.grey:
        return None
    strength = float(happens < settings.colour)
    warm = strength * temperature * settings.temperature
    gain = (1 + strength * brightness * settings.brightness) * np.diag([1 + warm, 1, 1 - warm])
    chroma = 0.0 if grey < settings.grey else 1 + strength * saturation * settings.saturation
    return Colour(
        chroma_matrix(chroma, strength * hue * settings.hue) @ gain,
        1 + strength * contrast * settings.contrast,
    )


def chroma_matrix(saturation: float, hue: float) -> Matrix:
    """3 x 3 on RGB: multiplies the saturation and turns the hue [degrees]."""
    angle = np.deg2rad(hue)
    cos, sin = saturation * np.cos(angle), saturation * np.sin(angle)
    return _FROM_YIQ @ np.array([[1, 0, 0], [0, cos, -sin], [0, sin, cos]]) @ _TO_YIQ


def sample_degradation(settings: AugmentSettings, side: int, rng: Generator) -> Degradation:
    """Colours, blur, noise, JPEG and pepper of a picture whose longer side is `side` [px]."""
    colour = sample_colour(settings, rng)
    blur, noise, jpeg, pepper = rng.random(4)
    radius, level = rng.uniform(0.2, 1, 2)
    low, high = settings.jpeg_quality
    quality, seed = int(rng.integers(low, high + 1)), int(rng.integers(2**31))
    return Degradation(
        colour=colour,
        blur=radius * settings.blur_radius * side / _REFERENCE_SIDE * (blur < settings.blur),
        noise=level * settings.noise_level * (noise < settings.noise),
        jpeg=quality * (jpeg < settings.jpeg),
        pepper=settings.pepper_share * (pepper < settings.pepper),
        seed=seed,
    )


def sample_layer(
    cutout: Pixels,
    canvas: tuple[int, int],
    settings: CompositeSettings,
    augment: AugmentSettings,
    rng: Generator,
    *,
    extent: float,
    is_subject: bool,
    position: tuple[float, float] | None = None,
    is_sharp: bool = False,
) -> Layer | None:
    """Where and how a cut-out lies on the canvas; None if nothing of it can be seen.

    Args:
        cutout: h x w x 4.
        canvas: height and width [px].
        extent: longer side of the object as a share of the canvas' shorter side.
        position: of its centre, as shares of the canvas' width and height; `None` draws one.
        is_sharp: in focus though it is no subject.
    """
    numbers = rng.random(6)
    tilt, stretch = rng.normal(0, 8), np.exp(rng.normal(0, 0.08))
    where = rng.uniform(-1, 1, 2)
    shadow = Shadow(
        rng.normal(0, 0.05), rng.uniform(0, 0.06), rng.uniform(0.006, 0.04), rng.uniform(0.15, 0.6)
    )
    match, soften, far = rng.uniform(0.1, 0.6), rng.uniform(0.4, 1), rng.uniform(0.5, 3)
    colour = sample_colour(augment, rng)
    tight = without_margins(cutout)
    if tight is None or not extent:
        return None
    height, width = canvas
    own_h, own_w = tight.shape[:2]
    scale = extent * min(height, width) / max(own_h, own_w)
    mirror = -1.0 if numbers[0] < augment.flip else 1.0
    angle = np.deg2rad(tilt if numbers[1] < 0.9 or augment.rotate == 0 else rng.uniform(-180, 180))
    size = np.array([own_w * scale * mirror * stretch, own_h * scale / stretch]) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    # Small objects stray; large ones stay about the middle, where half of them may leave the frame.
    spread = 0.5 - min(0.42, extent / 2.6)
    if not is_subject:
        spread = 0.45
    shares = 0.5 + where * spread if position is None else np.array(position)
    centre = np.array([width, height]) * shares
    to_canvas = turn @ np.diag(size)  # from -1 ... 1 on the cut-out to pixels about its centre
    from_canvas = np.linalg.inv(to_canvas)
    half = np.array([width, height]) / 2
    theta = np.column_stack([from_canvas * half, from_canvas @ (half - centre)])
    in_focus = is_subject or is_sharp or numbers[4] < 0.5
    unit = min(height, width) / _REFERENCE_SIDE
    blur = soften * 1.5 * unit if numbers[2] < settings.soften else 0.0
    return Layer(
        pixels=tight,
        theta=theta,
        scale=scale,
        colour=colour,
        match=match if numbers[3] < settings.match else 0.0,
        shadow=shadow if numbers[5] < settings.shadow else None,
        blur=blur if in_focus else far * 4 * unit,
        is_subject=is_subject,
    )


def without_margins(cutout: Pixels) -> Pixels | None:
    """The box of a cut-out that can be seen; None where nothing can."""
    alpha = cutout[..., 3]
    rows, columns = (np.flatnonzero(alpha.max(axis=axis) > 8) for axis in (1, 0))
    if not rows.size:
        return None
    return cutout[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
