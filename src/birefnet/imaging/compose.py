"""Put a subject together with something: nothing, a colour, a picture, its own background blurred.

`foreground` is H x W x 3 of uint8, uint16 or float in [0, 1], the subject's own colours as
`estimate_foreground` gives them; `alpha` is float32 H x W in [0, 1]. Results have the foreground's
type. Mixing is done on sRGB values, as every viewer does with a cut-out.
"""

from __future__ import annotations

from operator import index
from typing import Literal

import cv2
import numpy as np
from numpy.typing import DTypeLike, NDArray
from PIL import ImageColor

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.geometry import resize
from birefnet.imaging.picture import Alpha, to_float, to_uint8, to_uint16

Colour = tuple[int, int, int, int]
"""Red, green, blue and opacity, 0 to 255 each."""

WHITE: Colour = (255, 255, 255, 255)
BLACK: Colour = (0, 0, 0, 255)
GREEN: Colour = (0, 255, 0, 255)
TINT: Colour = (255, 64, 64, 255)


def parse_colour(text: str | tuple[int, ...] | list[int]) -> Colour:
    """Read a colour: a CSS name, "transparent", "#rgb", "#rrggbb[aa]", "r,g,b[,a]", or 3-4 numbers.

    >>> parse_colour("tomato"), parse_colour("#00ff0080"), parse_colour("10, 20, 30")
    ((255, 99, 71, 255), (0, 255, 0, 128), (10, 20, 30, 255))
    """
    try:
        if not isinstance(text, str):
            values = tuple(index(value) for value in text)
        elif text.strip().lower() == "transparent":
            return 0, 0, 0, 0
        elif "," in text and "(" not in text:
            values = tuple(int(value) for value in text.split(","))
        else:
            values = ImageColor.getrgb(text.strip())
    except (ValueError, TypeError):
        values = ()
    if len(values) not in (3, 4) or not all(0 <= value <= 255 for value in values):
        raise BiRefNetError(
            f"{text!r} is not a colour; give a name such as white, #rrggbb, #rrggbbaa or r,g,b "
            "with numbers from 0 to 255."
        )
    red, green_, blue, opacity = (*values, 255)[:4]
    return red, green_, blue, opacity


def cutout(foreground: NDArray, alpha: Alpha) -> NDArray:
    """RGBA, H x W x 4: colours not multiplied by alpha, as PNG and WebP hold them."""
    _check(foreground, alpha)
    return np.dstack([foreground, _convert(alpha, foreground.dtype)])


def mask(alpha: Alpha, bits: Literal[8, 16] = 8) -> NDArray:
    """The matte as uint8 or uint16 H x W, rounded."""
    return to_uint8(alpha) if bits == 8 else to_uint16(alpha)


def on_colour(foreground: NDArray, alpha: Alpha, colour: Colour = WHITE) -> NDArray:
    """On one colour: H x W x 3, or x 4 where the colour is not opaque."""
    _check(foreground, alpha)
    plain = _plain(foreground.shape, colour, foreground.dtype)
    if colour[3] == 255:
        return blend(foreground, plain, alpha)
    # Porter and Duff's "over" with colours not multiplied by alpha.
    opacity = alpha + (1 - alpha) * np.float32(colour[3] / 255)
    share = np.divide(alpha, opacity, out=np.zeros_like(alpha), where=opacity > 0)
    return cutout(blend(foreground, plain, share), opacity)


def white(foreground: NDArray, alpha: Alpha) -> NDArray:
    """On white, H x W x 3."""
    return on_colour(foreground, alpha, WHITE)


def green(foreground: NDArray, alpha: Alpha) -> NDArray:
    """On pure green, for chroma keying; H x W x 3."""
    return on_colour(foreground, alpha, GREEN)


def on_picture(
    foreground: NDArray,
    alpha: Alpha,
    picture: NDArray,
    *,
    mode: Literal["fill", "fit"] = "fill",
    colour: Colour = WHITE,
) -> NDArray:
    """On another picture of any size, H x W x 3.

    Args:
        picture: h x w x 3, uint8, uint16 or float in [0, 1].
        mode: `fill` scales the picture until it covers everything and cuts what sticks out, evenly;
            `fit` shows all of it, centred, with `colour` beside it. Both keep its aspect ratio.
    """
    _check(foreground, alpha)
    if mode not in ("fill", "fit"):
        raise BiRefNetError(f"mode is {mode!r}; choose fill or fit.")
    if picture.ndim != 3 or picture.shape[2] != 3 or 0 in picture.shape:
        raise ImageError(f"got a background of shape {picture.shape}; expected h x w x 3.")
    height, width = alpha.shape
    ratios = height / picture.shape[0], width / picture.shape[1]
    scale = max(ratios) if mode == "fill" else min(ratios)
    fits = max if mode == "fill" else min
    rows, columns = (
        fits(side, max(1, round(own * scale)))
        for side, own in zip((height, width), picture.shape, strict=False)
    )
    if picture.dtype != np.uint8:
        picture = to_uint16(picture)
    top, left = abs(rows - height) // 2, abs(columns - width) // 2
    if mode == "fill":
        # Only what will be seen: of a narrow picture the rest would be far larger than that.
        down, across = picture.shape[0] / rows, picture.shape[1] / columns
        right = min((left + width) * across, picture.shape[1])
        bottom = min((top + height) * down, picture.shape[0])
        part = left * across, top * down, right, bottom
        resized = resize(picture, height, width, part=part)
    else:
        resized = resize(picture, rows, columns)
    if resized.dtype == np.float32:  # 16-bit pictures come back as floats in their own range
        resized = resized / np.float32(65535)
    resized = _convert(resized, foreground.dtype)
    background = resized
    if mode == "fit":
        background = _plain(foreground.shape, colour, foreground.dtype)
        background[top : top + rows, left : left + columns] = resized
    return blend(foreground, background, alpha)


def blurred(
    foreground: NDArray, alpha: Alpha, pixels: NDArray, radius: float | None = None
) -> NDArray:
    """On its own background out of focus, H x W x 3.

    Only the background enters the blur, so the subject casts no glow around itself.

    Args:
        pixels: the whole picture, H x W x 3, of the foreground's type.
        radius: of the blur [px]; None for a fortieth of the longer side.
    """
    _check(foreground, alpha)
    _check(pixels, alpha)
    height, width = alpha.shape
    radius = max(height, width) / 40 if radius is None else radius
    if not 0 <= radius < np.inf:  # NaN is not
        raise BiRefNetError(f"the background's blur is {radius}; give 0 or more pixels.")
    # A wide blur leaves nothing that a smaller picture cannot hold.
    factor = max(1, int(radius / 4))
    size = -(-width // factor), -(-height // factor)
    weight = 1 - alpha
    small_weight = cv2.resize(weight, size, interpolation=cv2.INTER_AREA)
    sigma = max(radius / 2 / factor, 1e-3)
    soft_weight = cv2.GaussianBlur(small_weight, (0, 0), sigma) + np.float32(1e-4)
    background = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        plane = to_float(pixels[..., channel])
        # Where no background is near, the plain blur shows, under a subject that hides it.
        small = cv2.resize(plane * weight, size, interpolation=cv2.INTER_AREA)
        plain = cv2.resize(plane, size, interpolation=cv2.INTER_AREA)
        soft = cv2.GaussianBlur(small + np.float32(1e-4) * plain, (0, 0), sigma) / soft_weight
        background[..., channel] = cv2.resize(soft, (width, height))
    return blend(foreground, _convert(background, foreground.dtype), alpha)


def over_layer(
    foreground: NDArray, alpha: Alpha, layer: Alpha, colour: Colour = BLACK
) -> tuple[NDArray, Alpha]:
    """Subject over a layer of one colour, as one layer: colours H x W x 3 and opacity H x W.

    The layer's colour C has opacity s: a' = a + (1 - a) s, F' = (F a + C (a' - a)) / a'.

    Args:
        layer: its opacity, float32 H x W: of a shadow, which is black, or of an outline.
    """
    _check(foreground, alpha)
    opacity = alpha + (1 - alpha) * layer
    share = np.divide(alpha, opacity, out=np.ones_like(alpha), where=opacity > 0)
    return blend(foreground, _plain(foreground.shape, colour, foreground.dtype), share), opacity


def outline(alpha: Alpha, width: float) -> Alpha:
    """Opacity of a round line of `width` [px] around the subject, and of what lies under it."""
    outside = (alpha < 0.5).astype(np.uint8)
    if outside.all():
        return np.zeros_like(alpha)
    distance = cv2.distanceTransform(outside, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # Distances end at the middle of the nearest pixel within, half a pixel beyond the edge.
    return np.clip(np.float32(width + 1) - distance, 0, 1)


def overlay(
    pixels: NDArray,
    alpha: Alpha,
    *,
    colour: Colour = TINT,
    opacity: float = 0.45,
    outline: int | None = None,
) -> NDArray:
    """The picture with the subject tinted and outlined, to judge a matte by; H x W x 3.

    Args:
        opacity: of the tint, 0 to 1.
        outline: width of the line along alpha = 0.5 [px]; None for a four-hundredth of the longer
            side (at most of four shorter ones), 0 for none.
    """
    _check(pixels, alpha)
    if not 0 <= opacity <= 1:
        raise BiRefNetError(f"opacity is {opacity}; give 0 to 1.")
    # A narrow picture's line is not wider than the picture.
    side = min(max(alpha.shape), 4 * min(alpha.shape))
    width = round(side / 400 + 0.5) if outline is None else outline
    weight = alpha * np.float32(opacity)
    if width > 0:
        inside = (alpha >= 0.5).astype(np.float32)
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (width + 2, width + 2))
        line = cv2.morphologyEx(inside, cv2.MORPH_GRADIENT, disc, borderType=cv2.BORDER_REPLICATE)
        weight = np.maximum(weight, cv2.GaussianBlur(line, (3, 3), 0))
    return blend(_plain(pixels.shape, colour, pixels.dtype), pixels, weight)


def blend(foreground: NDArray, background: NDArray, alpha: Alpha) -> NDArray:
    """alpha * foreground + (1 - alpha) * background, rounded to the foreground's type."""
    if foreground.dtype == np.uint8:
        # Its small constant in the denominator changes less than a hundredth of a level.
        return cv2.blendLinear(foreground, np.ascontiguousarray(background), alpha, 1 - alpha)
    out = np.empty_like(foreground)
    for channel in range(3):
        over = foreground[..., channel].astype(np.float32)
        under = background[..., channel].astype(np.float32)
        over -= under
        over *= alpha
        over += under
        out[..., channel] = over if out.dtype.kind == "f" else np.rint(over, out=over)
    return out


def _check(pixels: NDArray, alpha: Alpha) -> None:
    if pixels.ndim != 3 or pixels.shape[2] != 3 or alpha.shape != pixels.shape[:2]:
        raise ImageError(
            f"got pixels of shape {pixels.shape} and an alpha of {alpha.shape}; expected "
            "H x W x 3 and H x W."
        )


def _convert(values: NDArray, dtype: DTypeLike) -> NDArray:
    if dtype == np.uint8:
        return to_uint8(values)
    return to_uint16(values) if dtype == np.uint16 else to_float(values)


def _plain(shape: tuple[int, ...], colour: Colour, dtype: DTypeLike) -> NDArray:
    """H x W x 3 of one colour."""
    value = _convert(np.array(colour[:3], np.uint8), dtype)
    return np.full(shape, value, dtype)
