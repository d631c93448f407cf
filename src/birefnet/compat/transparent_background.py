"""transparent-background's Python interface: `from birefnet.compat... import Remover`.

Signatures and meanings: https://github.com/plemeri/transparent-background (1.3, read November
2026). Its networks are of another kind (InSPyReNet); what runs here is BiRefNet.
"""

from __future__ import annotations

import os
import warnings
from dataclasses import replace
from typing import Any

import numpy as np

from birefnet.api import load
from birefnet.errors import BiRefNetError
from birefnet.imaging.formats import SUFFIXES
from birefnet.imaging.picture import to_uint8
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.weights.locate import BUNDLED_MODEL, default_model

__all__ = ["Remover"]

# Behind `green`, and over `overlay`.
_GREEN = (120, 255, 155)
_DYNAMIC = 1280  # [px] at most, of the shorter side, with resize="dynamic"
_SIGMA = 15  # [px] of `blur`
_RESIZES = ("static", "dynamic")


class Remover:
    """Cuts subjects out, one picture a call.

    Args:
        mode: `base` and `base-nightly` for the default network (BIREFNET_MODEL, or the bundled
            `nano`), `fast` for `nano`, or whatever `birefnet.load` takes (`general`, `lite`, a
            path …).
        jit: has no effect: the network is always simplified.
        device: such as cuda:0 or cpu; `None` for the best.
        ckpt: weights of a BiRefNet, in place of those of `mode`.
        resize: `static`, to the size that the weights want, or `dynamic`: the picture's own size,
            at most 1280 pixels on its shorter side.

    Raises:
        BiRefNetError: no such network, weights of another kind, or no such device.
    """

    def __init__(
        self,
        mode: str = "base",
        jit: bool = False,
        device: str | None = None,
        ckpt: str | os.PathLike[str] | None = None,
        resize: str = "static",
    ) -> None:
        if resize not in _RESIZES:
            raise BiRefNetError(f"resize is {resize!r}; choose one of {', '.join(_RESIZES)}")
        if jit:
            warnings.warn("jit has no effect: the network is always simplified", stacklevel=2)
        names = {"base": default_model(), "base-nightly": default_model(), "fast": BUNDLED_MODEL}
        self.resize = resize
        self.predictor = load(ckpt or names.get(mode, mode), device=device or "auto")

    def process(
        self,
        img: object,
        type: str | list[int] | tuple[int, ...] = "rgba",
        threshold: float | str | None = None,
        reverse: bool = False,
    ) -> Any:
        """Remove the background of one picture.

        Args:
            img: a Pillow image, or an array H x W x 3, RGB, uint8.
            type: `rgba`, `map` (the matte, three times), `green`, `white`, `blur`, `overlay`, a
                colour such as `[255, 0, 0]`, or the path of a picture for the background.
            threshold: make each pixel all or nothing: all where the matte reaches it.
            reverse: keep the background in place of the subject.

        Returns:
            An array for an array, otherwise a Pillow image.

        Raises:
            BiRefNetError: an unknown type, or a picture that cannot be read.
        """
        options = _options(type)
        source: Any = img
        matte = self.predictor.predict(source, resolution=self._resolution(img))
        if threshold is not None:
            matte = matte.adjusted(threshold=float(threshold))
        if reverse:
            matte = replace(matte, alpha=1 - matte.alpha)
        rendered = to_uint8(_rendered(matte, options, type))
        if isinstance(img, np.ndarray):
            return rendered
        from PIL import Image

        return Image.fromarray(rendered)

    def _resolution(self, img: Any) -> tuple[int, int] | None:
        if self.resize == "static":
            return None
        height, width = img.shape[:2] if isinstance(img, np.ndarray) else img.size[::-1]
        scale = min(1.0, _DYNAMIC / min(height, width))
        return round(width * scale), round(height * scale)


def _options(type: str | list[int] | tuple[int, ...]) -> Options:
    if isinstance(type, str) and type in ("map", "blur", "overlay"):
        return Options(kind="mask" if type == "map" else type)
    if isinstance(type, str) and type in ("rgba", "white"):
        return Options(kind={"rgba": "cutout"}.get(type, type))
    if isinstance(type, str) and type == "green":
        return Options(background=_GREEN).prepared()
    if isinstance(type, (list, tuple)):
        return Options(background=tuple(type)).prepared()
    if type.startswith("["):
        return Options(background=type.strip("[] ").replace(" ", "")).prepared()
    if os.path.splitext(type)[1].lower() in SUFFIXES:
        return Options(background=type).prepared()
    raise BiRefNetError(
        f"type is {type!r}; choose rgba, map, green, white, blur, overlay, a colour such as "
        "[255,0,0] or the path of a picture"
    )


def _rendered(matte: Matte, options: Options, type: object) -> Any:
    if type == "map":
        return np.repeat(matte.mask()[..., None], 3, axis=2)
    if type == "blur":
        return matte.blurred(2 * _SIGMA)  # a radius is two deviations here
    if type == "overlay":
        return matte.overlay(_GREEN)
    return options.render(matte)
