"""From a picture's pixels to a network's input and back: resize, pad and normalise, as data.

`Preprocess` belongs to the weights (it is stored beside them), `Geometry` to one picture. Shrinking
is antialiased: the released networks were trained and evaluated on pictures resized by Pillow's
bilinear filter, whose support grows with the scale, and `bilinear` gives the same pixels.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from functools import cached_property
from typing import Any, Literal, get_args

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from birefnet.errors import BiRefNetError, ImageError, counted
from birefnet.imaging.box import Box
from birefnet.imaging.values import LARGEST_SIDE, Resolution
from birefnet.imaging.views import View

Fit = Literal["stretch", "pad", "native"]
Interpolation = Literal["bilinear", "area", "bicubic"]

_VIEWS = "looks"  # the key of `views` in files

_EXCESS = 4  # times the picture and the result that a half-resized picture may hold

_LARGE = 1_000_000  # values of a picture that is worth a second thread

_REACH = 2  # of the widest filter, bicubic, in pixels of the picture with fewer rows

_PILLOW_FILTERS = {
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "area": Image.Resampling.BILINEAR,  # only where a side grows, see `resize`
}


@dataclass(frozen=True)
class Preprocess:
    """How the pictures were prepared that some weights were trained on.

    Attributes:
        width, height: the network's input [px], multiples of `multiple`; not used by `native`.
        mean, std: subtracted from, then divided into, RGB in [0, 1].
        fit: `stretch` ignores the aspect ratio (the released weights), `pad` keeps it and fills the
            rest with `mean` around the centred picture, `native` keeps the picture's own size,
            rounded to `multiple`.
        interpolation: filter of the resize; every one is antialiased when it shrinks.
        multiple: both sides of every input are multiples of this [px].
        minimum, maximum: with `native`, the picture is scaled, keeping its aspect ratio as far as
            both can hold, until each side lies between these [px].
        views: inputs whose logits are averaged where no resolution is asked for, the largest first
            (`birefnet.imaging.views`); none: one input of `width` x `height`.
    """

    width: int = 1024
    height: int = 1024
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    fit: Fit = "stretch"
    interpolation: Interpolation = "bilinear"
    multiple: int = 32
    minimum: int = 256
    maximum: int = 2304
    views: tuple[View, ...] = ()

    def __post_init__(self) -> None:
        for name, options in (("fit", get_args(Fit)), ("interpolation", get_args(Interpolation))):
            if getattr(self, name) not in options:
                raise BiRefNetError(
                    f"{name} is {getattr(self, name)!r}; choose one of {', '.join(options)}."
                )
        if self.multiple < 1:
            raise BiRefNetError(f"multiple is {self.multiple}; it must be at least 1.")
        for name in ("width", "height", "minimum", "maximum"):
            side = getattr(self, name)
            if side < self.multiple or side % self.multiple:
                raise BiRefNetError(f"{name} is {side}; it must be a multiple of {self.multiple}.")
        if self.minimum > self.maximum:
            raise BiRefNetError(
                f"minimum {self.minimum} is above maximum {self.maximum}; swap them."
            )
        for name in ("mean", "std"):
            values = tuple(float(value) for value in getattr(self, name))
            if len(values) != 3 or (name == "std" and min(values) <= 0):
                raise BiRefNetError(
                    f"{name} is {getattr(self, name)}; it must be three numbers"
                    f"{' above 0' if name == 'std' else ''}."
                )
            object.__setattr__(self, name, values)
        object.__setattr__(self, "views", tuple(self._view(given) for given in self.views))

    def _view(self, given: Any) -> View:
        """One of `views`, checked; JSON has lists."""
        try:
            view = View(*given)
            sides = [self._check_side(side) for side in view[:2]]
        except (TypeError, BiRefNetError):
            sides = []
        if not sides or any(side % self.multiple for side in sides):
            raise BiRefNetError(
                f"views hold {given!r}; each is width, height (multiples of {self.multiple}) and "
                "whether it is mirrored."
            )
        first = View(*self.views[0])
        if view.width > first.width or view.height > first.height:
            raise BiRefNetError(f"views hold {given!r} behind {first!r}; the largest comes first.")
        return view

    @property
    def fixed_size(self) -> tuple[int, int] | None:
        """Width and height [px] of every input; `None` where the inputs differ in size."""
        if self.views:
            sizes = {view[:2] for view in self.views}
            return sizes.pop() if len(sizes) == 1 else None
        return None if self.fit == "native" else (self.width, self.height)

    def at(self, width: int, height: int) -> Preprocess:
        """With one view of this size [px]: what `plan` does with `resolution=(width, height)`."""
        fit = "stretch" if self.fit == "native" else self.fit
        return replace(self, width=width, height=height, fit=fit, views=())

    def __str__(self) -> str:
        """For people: "stretched to 1024x1024; bilinear, mean 0.485, …, deviation 0.229, …"."""
        size = f"{self.width}x{self.height}"
        if self.views:
            views = " and ".join(map(str, self.views))
            size = f"{views} ({counted(len(self.views), 'view')}, averaged)"
        fit = f"{'fitted into' if self.fit == 'pad' else 'stretched to'} {size}"
        if self.fit == "native" and not self.views:
            fit = f"at their own size, in multiples of {self.multiple}"
        mean, std = (", ".join(f"{v:.4g}" for v in values) for values in (self.mean, self.std))
        return f"{fit}; {self.interpolation}, mean {mean}, deviation {std}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON; `views`, which files call `looks`, only where there are any."""
        values = {
            key: list(value) if isinstance(value, tuple) else value
            for key, value in asdict(self).items()
        }
        views = [list(view) for view in values.pop("views")]
        return {**values, _VIEWS: views} if views else values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Preprocess:
        """Inverse of `to_dict`; missing keys take their defaults, unknown ones are refused."""
        known = {field.name for field in fields(cls)} - {"views"} | {_VIEWS}
        unknown = sorted(set(values) - known)
        if unknown:
            raise BiRefNetError(
                f"unknown preprocessing keys {', '.join(unknown)}; known are "
                f"{', '.join(sorted(known))}."
            )
        given = dict(values)
        return cls(views=given.pop(_VIEWS, ()), **given)

    def plan(self, height: int, width: int, resolution: Resolution | None = None) -> Geometry:
        """Geometry of one picture of `height` x `width` pixels.

        Args:
            height, width: the picture [px], at least 1.
            resolution: instead of the weights' own size: N for N x N (with `native`: the longer
                side), (width, height), or "native" for the picture's own size. Rounded to
                `multiple`.
        """
        if height < 1 or width < 1:
            raise ImageError(f"the picture is {width} x {height} pixels; it needs at least 1 x 1.")
        target = self._input_size(height, width, resolution)
        content = target
        if self.fit == "pad":
            scale = min(target[0] / height, target[1] / width)
            content = (
                min(target[0], max(1, round(height * scale))),
                min(target[1], max(1, round(width * scale))),
            )
        box = Box((target[0] - content[0]) // 2, (target[1] - content[1]) // 2, *content)
        return Geometry(preprocess=self, source=(height, width), input=target, box=box)

    def _input_size(
        self, height: int, width: int, resolution: Resolution | None
    ) -> tuple[int, int]:
        """Height and width of the network's input [px]."""
        if resolution == "native" or (resolution is None and self.fit == "native"):
            return self._native_size(height, width)
        if resolution is None:
            return self.height, self.width
        if isinstance(resolution, (int, np.integer)) and not isinstance(resolution, bool):
            side = self._check_side(int(resolution))
            if self.fit == "native":
                scale = side / max(height, width)
                return self._round(height * scale), self._round(width * scale)
            return self._round(side), self._round(side)
        if isinstance(resolution, (tuple, list)) and len(resolution) == 2:
            wide, high = (self._check_side(side) for side in resolution)
            return self._round(high), self._round(wide)
        raise BiRefNetError(
            f"resolution is {resolution!r}; give one number, (width, height) or 'native'."
        )

    def _native_size(self, height: int, width: int) -> tuple[int, int]:
        scale = max(1.0, self.minimum / min(height, width))
        scale = min(scale, self.maximum / max(height, width))
        high, wide = (
            min(self.maximum, max(self.minimum, self._round(side * scale)))
            for side in (height, width)
        )
        return high, wide

    def _round(self, side: float) -> int:
        return max(self.multiple, round(side / self.multiple) * self.multiple)

    def _check_side(self, side: object) -> int:
        if not isinstance(side, (int, np.integer)) or not 1 <= side <= LARGEST_SIDE:
            raise BiRefNetError(
                f"resolution holds {side!r}; give whole numbers from 1 to {LARGEST_SIDE}."
            )
        return int(side)


@dataclass(frozen=True)
class Geometry:
    """One picture's way into the network and back.

    Attributes:
        preprocess: the weights' preparation.
        source: height and width of the picture [px].
        input: height and width of the network's input [px].
        box: where the resized picture lies inside the input.
    """

    preprocess: Preprocess
    source: tuple[int, int]
    input: tuple[int, int]
    box: Box

    @cached_property
    def is_padded(self) -> bool:
        """Whether the picture leaves a part of the input empty."""
        return (self.box.height, self.box.width) != self.input

    def apply(self, pixels: NDArray) -> NDArray[np.float32]:
        """Resize, normalise and pad.

        Args:
            pixels: H x W x 3 at the source's size, RGB, uint8 or uint16.

        Returns:
            float32 3 x h x w at the input's size; padding is 0, that is `mean`.

        Raises:
            ImageError: the shape or type is another one.
        """
        if pixels.shape != (*self.source, 3) or pixels.dtype not in (np.uint8, np.uint16):
            raise ImageError(
                f"got pixels of shape {pixels.shape} and type {pixels.dtype}; expected "
                f"{(*self.source, 3)} of uint8 or uint16."
            )
        create = np.zeros if self.is_padded else np.empty
        out = create((3, *self.input), np.float32)
        content = self.box.cut(out, channels_first=True)
        by_pillow = pixels.dtype == np.uint8 and self.preprocess.interpolation != "area"
        if pixels.size <= _LARGE or self.box.height % 2 or not by_pillow:
            self._fill(content, pixels, slice(0, self.box.height))
            return out
        # A pool of its own for each picture, since one that stays would not outlive a fork.
        half = self.box.height // 2
        with ThreadPoolExecutor(1) as pool:
            lower = pool.submit(self._fill, content, pixels, slice(half, 2 * half))
            self._fill(content, pixels, slice(0, half))
            lower.result()
        return out

    def _fill(self, content: NDArray[np.float32], pixels: NDArray, rows: slice) -> None:
        """Write some rows of the resized, normalised picture into `content`, 3 x h x w."""
        resized = _resize_rows(
            pixels, self.box.height, self.box.width, self.preprocess.interpolation, rows
        )
        full_scale = float(np.iinfo(pixels.dtype).max)
        for plane, channel, mean, std in zip(
            content[:, rows],
            cv2.split(resized),
            self.preprocess.mean,
            self.preprocess.std,
            strict=True,
        ):
            np.multiply(channel, np.float32(1 / (full_scale * std)), plane)
            plane -= np.float32(mean / std)

    def restore(self, map: NDArray[np.float32]) -> NDArray[np.float32]:
        """Remove the padding and resize a map of the input back to the source's size.

        Args:
            map: float32 h x w at the input's size, any range; nothing is clipped.

        Returns:
            float32 H x W, bilinear (antialiased where it shrinks).
        """
        if map.shape != self.input:
            raise ImageError(
                f"got a map of shape {map.shape}; expected {self.input}, the input's size."
            )
        return resize_map(self.box.cut(map), *self.source)


def resize(
    pixels: NDArray,
    height: int,
    width: int,
    interpolation: Interpolation = "bilinear",
    *,
    part: tuple[float, float, float, float] | None = None,
) -> NDArray:
    """Resize H x W x 3 pixels, antialiased when shrinking.

    uint8 stays uint8 and equals the resize of Pillow before 13; uint16 gives float32 in [0, 65535],
    not rounded.

    Args:
        pixels: H x W x 3, uint8 or uint16.
        height, width: of the result [px].
        interpolation: the filter.
        part: left, top, right and bottom of what is shown [px]; `None` for the whole.
    """
    if part is None and pixels.shape[:2] == (height, width):
        return pixels
    is_area = interpolation == "area" and part is None
    if is_area and height <= pixels.shape[0] and width <= pixels.shape[1]:
        wide = pixels if pixels.dtype == np.uint8 else pixels.astype(np.float32)
        return cv2.resize(wide, (width, height), interpolation=cv2.INTER_AREA)
    kernel = _PILLOW_FILTERS[interpolation]
    if pixels.dtype == np.uint8:
        return np.asarray(_resized(_to_pillow(pixels), height, width, kernel, part))
    out = np.empty((height, width, 3), np.float32)
    for channel in range(3):
        plane = Image.fromarray(pixels[..., channel].astype(np.float32))
        out[..., channel] = np.asarray(_resized(plane, height, width, kernel, part))
    return np.clip(out, 0, np.iinfo(pixels.dtype).max, out=out)  # bicubic overshoots


def _resize_rows(
    pixels: NDArray, height: int, width: int, interpolation: Interpolation, rows: slice
) -> NDArray:
    """`resize(pixels, height, width, interpolation)[rows]`; less than all of uint8 pixels only,
    by a filter of Pillow's.

    The filter reaches as far beyond the rows as it does in the whole picture: pixels are the same.
    """
    if rows == slice(0, height) or pixels.shape[:2] == (height, width):
        return resize(pixels, height, width, interpolation)[rows]
    scale = pixels.shape[0] / height
    part = (0, rows.start * scale, pixels.shape[1], rows.stop * scale)
    return resize(pixels, rows.stop - rows.start, width, interpolation, part=part)


def _resized(
    image: Image.Image,
    height: int,
    width: int,
    kernel: Image.Resampling,
    part: tuple[float, float, float, float] | None = None,
) -> Image.Image:
    """Pillow's resize in two passes, rows first: what its versions before 13 give.

    Between the passes 8-bit pixels are rounded, so the order shows, mostly by a level; Pillow 13
    chooses it by the size. Where resized rows would hold far more than picture and result, columns
    come first.
    """
    left, top, right, bottom = part or (0, 0, *image.size)
    reach = _REACH * max((bottom - top) / height, 1) + 1
    first, last = max(0, int(top - reach)), min(image.height, int(bottom + reach) + 1)
    if last - first < image.height:
        image = image.crop((0, first, image.width, last))
        top, bottom = top - first, bottom - first
    if width * image.height > _EXCESS * max(width * height, image.width * image.height):
        image = image.resize((image.width, height), kernel, (0, top, image.width, bottom))
        return image.resize((width, height), kernel, (left, 0, right, height))
    image = image.resize((width, image.height), kernel, (left, 0, right, image.height))
    return image.resize((width, height), kernel, (0, top, width, bottom))


def _to_pillow(pixels: NDArray) -> Image.Image:
    return Image.fromarray(np.ascontiguousarray(pixels))


def resize_map(map: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Resize one float32 plane bilinearly, antialiased along a side that shrinks."""
    map = np.ascontiguousarray(map, dtype=np.float32)
    if map.shape == (height, width):
        return map.copy()
    if height >= map.shape[0] and width >= map.shape[1]:
        # The same numbers as Pillow's, an order of magnitude faster.
        grown: NDArray = cv2.resize(map, (width, height), interpolation=cv2.INTER_LINEAR)
        return grown
    return np.array(_resized(Image.fromarray(map), height, width, Image.Resampling.BILINEAR))
