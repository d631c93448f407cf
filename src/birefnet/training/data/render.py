"""Render a sample from its specification: 8-bit pixels throughout, one picture at a time."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

from birefnet.training.data.sources import Pixels
from birefnet.training.data.specification import (
    Colour,
    Degradation,
    Layer,
    SampleSpecification,
    Shadow,
    View,
)

_WIDEST_BLUR = 3.0  # standard deviation above which a smaller picture is blurred instead [px]


def render(
    specification: SampleSpecification, height: int, width: int, *, binary: bool = False
) -> tuple[Pixels, Pixels, Pixels]:
    """A sample: RGB (height x width x 3), its mask and its distractors' (both height x width).

    Args:
        binary: cut the mask at half, so that no levels but 0 and 255 occur.
    """
    base = apply_view(specification.scene, specification.view, height, width)
    rgb, mask = split(base)
    if specification.scene_colour is not None:
        rgb = recolour(rgb, specification.scene_colour)
    rgb = blur(rgb, specification.scene_blur)
    scene_mean = mean(rgb)
    other = np.zeros_like(mask)
    for layer in specification.layers:
        rgb, mask, other = _put(layer, rgb, mask, other, scene_mean)
    if binary:
        mask = np.asarray(cv2.threshold(mask, 127, 255, cv2.THRESH_BINARY)[1], np.uint8)
    return degrade(rgb, specification.degradation), mask, other


def split(pixels: Pixels) -> tuple[Pixels, Pixels]:
    """RGB and mask of H x W x 3 or 4; without a mask there is no subject."""
    if pixels.shape[2] == 3:
        return pixels, np.zeros(pixels.shape[:2], np.uint8)
    rgb, mask = np.empty((*pixels.shape[:2], 3), np.uint8), np.empty(pixels.shape[:2], np.uint8)
    cv2.mixChannels([pixels], [rgb, mask], [0, 0, 1, 1, 2, 2, 3, 3])
    return rgb, mask


def join(rgb: NDArray, mask: NDArray) -> Pixels:
    """The inverse of `split`: H x W x 4."""
    return np.asarray(cv2.merge([rgb, mask]), np.uint8)


def apply_view(pixels: Pixels, view: View, height: int, width: int) -> Pixels:
    """A view of a picture, height x width; antialiased, beyond the picture its reflection."""
    left, top, right, bottom = view.box
    part = pixels[top:bottom, left:right]
    if view.is_straight:
        return _mirror(resize(part, height, width), view.theta)
    # Shrink to the scale of the canvas first: the warp itself only interpolates.
    step_x, step_y = np.abs(view.theta[:, :2]).sum(axis=1)  # size of the canvas in the part
    wide, high = (max(1, round(side)) for side in (width / step_x, height / step_y))
    part = resize(part, min(high, part.shape[0]), min(wide, part.shape[1]))
    return warp(part, view.theta, height, width, border=cv2.BORDER_REFLECT)


def resize(pixels: Pixels, height: int, width: int) -> Pixels:
    """Resize 8-bit pixels with the filter of inference, Pillow's antialiased bilinear one."""
    own_height, own_width = pixels.shape[:2]
    if (own_height, own_width) == (height, width):
        return np.ascontiguousarray(pixels)
    if height >= own_height and width >= own_width:  # the same numbers, quicker
        grown = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_LINEAR)
        return np.asarray(grown, np.uint8)
    # "CMYK" is four channels without a meaning; "RGBA" would be multiplied by its alpha.
    mode = {3: "RGB", 4: "CMYK"}[pixels.shape[2]]
    picture = Image.frombuffer(mode, (own_width, own_height), np.ascontiguousarray(pixels))
    return np.asarray(picture.resize((width, height), Image.Resampling.BILINEAR))


def _mirror(pixels: Pixels, theta: NDArray) -> Pixels:
    if theta[0, 0] > 0 and theta[1, 1] > 0:
        return pixels
    code = -1 if theta[0, 0] < 0 and theta[1, 1] < 0 else int(theta[0, 0] < 0)
    return np.asarray(cv2.flip(pixels, code), np.uint8)


def warp(pixels: Pixels, theta: NDArray, height: int, width: int, *, border: int) -> Pixels:
    """Resample bilinearly; `theta` as in `View`, on pixels of the canvas' scale."""
    own = np.array([pixels.shape[1], pixels.shape[0]], float)
    step = theta[:, :2] * (own[:, None] / np.array([width, height]))
    # The centre of canvas pixel x lies at (2x + 1) / width - 1.
    first = theta @ np.array([1 / width - 1, 1 / height - 1, 1])
    matrix = np.column_stack([step, (first + 1) * own / 2 - 0.5])
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    out = cv2.warpAffine(pixels, matrix, (width, height), flags=how, borderMode=border)
    return np.asarray(out, np.uint8)


def mean(rgb: Pixels, alpha: Pixels | None = None) -> NDArray[np.float64]:
    """Mean colour in [0, 1], of what `alpha` shows at least half of."""
    mask = None if alpha is None else (alpha > 127).astype(np.uint8)
    return np.array(cv2.mean(rgb, mask)[:3]) / 255


def recolour(
    rgb: Pixels, colour: Colour, own_mean: NDArray | None = None, extra: ArrayLike = 0.0
) -> Pixels:
    """Apply a change of colours.

    Args:
        own_mean: of the picture, for its contrast; measured if not given.
        extra: added to the channels [of the full range].
    """
    offset = colour.offset(mean(rgb) if own_mean is None else own_mean) + np.asarray(extra)
    matrix = np.empty((3, 4))
    matrix[:, :3], matrix[:, 3] = colour.contrast * colour.linear, 255 * offset
    return np.asarray(cv2.transform(rgb, matrix), np.uint8)


def blur(pixels: Pixels, sigma: float) -> Pixels:
    """Gaussian blur with standard deviation `sigma` [px]."""
    if sigma < 0.1:
        return pixels
    factor = max(1, int(sigma / _WIDEST_BLUR))
    if factor == 1:
        return np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8)
    height, width = pixels.shape[:2]
    small = cv2.resize(
        pixels, (-(-width // factor), -(-height // factor)), interpolation=cv2.INTER_AREA
    )
    small = cv2.GaussianBlur(small, (0, 0), sigma / factor)
    return np.asarray(cv2.resize(small, (width, height)), np.uint8)


def premultiplied(pixels: Pixels) -> Pixels:
    """H x W x 4 with the colours multiplied by alpha."""
    rgb, alpha = split(pixels)
    return join(np.asarray(cv2.multiply(rgb, cv2.merge([alpha] * 3), scale=1 / 255)), alpha)


def shrunk_cutout(pixels: Pixels, scale: float) -> Pixels:
    """A premultiplied cut-out, antialiased for being drawn `scale` times as large."""
    if scale >= 1:
        return pixels
    height, width = (max(1, round(side * scale)) for side in pixels.shape[:2])
    shrunk = cv2.resize(pixels, (width, height), interpolation=cv2.INTER_AREA)
    return np.asarray(shrunk, np.uint8)


def _put(
    layer: Layer, rgb: Pixels, mask: Pixels, other: Pixels, scene_mean: NDArray
) -> tuple[Pixels, Pixels, Pixels]:
    """A layer over a scene, with its shadow; what is mask and what is not follow."""
    height, width = mask.shape
    pixels = layer.pixels
    if layer.colour is not None or layer.match:
        own, alpha = split(pixels)
        own_mean = mean(own, alpha)
        colour = layer.colour or Colour()
        changed = colour.contrast * colour.linear @ own_mean + colour.offset(own_mean)
        own = recolour(own, colour, own_mean, layer.match * (scene_mean - changed))
        pixels = join(own, alpha)
    placed = shrunk_cutout(premultiplied(pixels), layer.scale)
    placed = warp(placed, layer.theta, height, width, border=cv2.BORDER_CONSTANT)
    own, alpha = split(blur(placed, layer.blur))
    if layer.shadow is not None:
        rgb = _shade(rgb, alpha, layer.shadow)
    rest = np.asarray(cv2.bitwise_not(alpha), np.uint8)
    under = cv2.multiply(rgb, cv2.merge([rest] * 3), scale=1 / 255)
    mask, other = (
        np.asarray(cv2.multiply(plane, rest, scale=1 / 255), np.uint8) for plane in (mask, other)
    )
    if layer.is_subject:
        mask = np.asarray(cv2.add(mask, alpha), np.uint8)
    else:
        other = np.asarray(cv2.add(other, alpha), np.uint8)
    return np.asarray(cv2.add(under, own), np.uint8), mask, other


def _shade(rgb: Pixels, alpha: Pixels, shadow: Shadow) -> Pixels:
    """Darken where the shadow of `alpha` falls."""
    height, width = alpha.shape
    side = min(height, width)
    factor = max(1, side // 256)  # soft enough for a quarter of the size
    small = cv2.resize(alpha, (-(-width // factor), -(-height // factor)))
    reach = side / factor
    move = np.array([[1, 0, shadow.right * reach], [0, 1, shadow.down * reach]])
    small = cv2.warpAffine(small, move, small.shape[::-1])
    small = cv2.GaussianBlur(small, (0, 0), max(0.3, shadow.spread * reach))
    light = cv2.convertScaleAbs(small, alpha=-shadow.strength, beta=255)
    light = cv2.resize(light, (width, height))
    return np.asarray(cv2.multiply(rgb, cv2.merge([light] * 3), scale=1 / 255), np.uint8)


def degrade(rgb: Pixels, how: Degradation) -> Pixels:
    """Change the picture as cameras and files do."""
    if how.colour is not None:
        rgb = recolour(rgb, how.colour)
    rgb = blur(rgb, how.blur)
    if how.noise > 0:
        noise = np.empty(rgb.shape, np.int16)
        cv2.setRNGSeed(how.seed)
        cv2.randn(noise, np.zeros(3), np.full(3, how.noise * 255))
        rgb = np.asarray(cv2.add(rgb, noise, dtype=cv2.CV_8U), np.uint8)
    if how.jpeg:
        quality = [cv2.IMWRITE_JPEG_QUALITY, how.jpeg]
        data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), quality)[1]
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        assert decoded is not None
        rgb = np.asarray(cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB), np.uint8)
    if how.pepper > 0:
        rng = np.random.default_rng(how.seed)
        count = round(how.pepper * rgb.shape[0] * rgb.shape[1])
        rgb = rgb.copy()
        rows, columns = (rng.integers(side, size=count) for side in rgb.shape[:2])
        rgb[rows, columns] = (rng.integers(2, size=count, dtype=np.uint8) * np.uint8(255))[:, None]
    return rgb
