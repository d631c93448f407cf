"""How a video codes its colours, and the conversions to RGB and back that respect it.

A YCbCr video needs to say which matrix (BT.601, BT.709, BT.2020) and which range (limited, 16 to
235, or full) its numbers were made with. Many say nothing; then players go by the size, and so does
`ColourSpace.of_frame`: BT.709 from 1280 x 577 on, BT.601 below, limited range. Numbers are those of
`AVColorSpace`, `AVColorPrimaries` and `AVColorTransferCharacteristic` (ITU-T H.273, tables 2 to 4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.picture import Pixels
from birefnet.video.errors import VideoError

T = TypeVar("T")

if TYPE_CHECKING:
    from av import VideoFrame

RGB, BT709, UNSPECIFIED, BT470BG, BT601 = 0, 1, 2, 5, 6
LIMITED, FULL = 1, 2
# Matrices that swscale has, and its own numbers for them (SWS_CS_...).
_SWSCALE = {BT709: 1, 4: 4, BT470BG: 5, BT601: 5, 7: 7, 9: 9}
_HD_WIDTH, _HD_HEIGHT = 1280, 577
# SWS_BICUBIC, SWS_ACCURATE_RND, SWS_FULL_CHR_H_INT and SWS_FULL_CHR_H_INP, which older versions of
# PyAV have no names for; swscale's fast paths are off by several levels.
_EXACT = 0x4 | 0x40000 | 0x2000 | 0x4000
_PRIMARIES_OF = {BT709: 1, 4: 4, BT470BG: 5, BT601: 6, 7: 7, 9: 9}
_TRANSFER_OF = {BT709: 1, 4: 4, BT470BG: 6, BT601: 6, 7: 7, 9: 14}


@dataclass(frozen=True)
class ColourSpace:
    """Matrix, range, primaries and transfer of YCbCr video.

    Pixels are never moved to other primaries or another transfer: RGB values stay what they were,
    and the result carries the same tags.
    """

    matrix: int = BT709
    full_range: bool = False
    primaries: int = 1
    transfer: int = 1

    @classmethod
    def of_frame(cls, frame: VideoFrame) -> ColourSpace:
        """As a decoded frame says, and guessed from its size where it says nothing.

        Raises:
            VideoError: a matrix that swscale does not have.
        """
        name = frame.format.name
        if frame.format.is_rgb or frame.colorspace == RGB:
            return cls(
                primaries=_said(frame.color_primaries, 1), transfer=_said(frame.color_trc, 1)
            )
        matrix = _said(frame.colorspace, None)
        if matrix is None:
            is_hd = frame.width >= _HD_WIDTH or frame.height >= _HD_HEIGHT
            matrix = BT709 if is_hd else BT601
        if matrix not in _SWSCALE:
            raise VideoError(
                f"its colours are coded with matrix {matrix} of H.273, which cannot be converted; "
                "transcode it to BT.709 first"
            )
        return cls(
            matrix,
            frame.color_range == FULL or name.startswith("yuvj"),
            _said(frame.color_primaries, _PRIMARIES_OF[matrix]),
            _said(frame.color_trc, _TRANSFER_OF[matrix]),
        )

    def limited(self) -> ColourSpace:
        """The same in limited range, the only one that some codecs have."""
        return ColourSpace(self.matrix, False, self.primaries, self.transfer)

    @property
    def range_number(self) -> int:
        return FULL if self.full_range else LIMITED


def to_rgb(frame: VideoFrame, colour: ColourSpace, *, deep: bool, alpha: bool) -> Pixels:
    """RGB or RGBA, H x W x 3 or 4, uint8 (uint16 if `deep`)."""
    coding: dict[str, int] = {}
    if not frame.format.is_rgb:
        frame.colorspace = colour.matrix
        coding["src_colorspace"] = _SWSCALE[colour.matrix]
        coding["src_color_range"] = colour.range_number
    pixel_format = {(0, 0): "rgb24", (0, 1): "rgba", (1, 0): "rgb48le", (1, 1): "rgba64le"}[
        deep, alpha
    ]
    return frame.reformat(format=pixel_format, interpolation=_EXACT, **coding).to_ndarray()


def from_rgb(pixels: NDArray[Any], pixel_format: str, colour: ColourSpace) -> VideoFrame:
    """A frame for an encoder.

    Args:
        pixels: H x W (grey), H x W x 3 or H x W x 4, uint8 or uint16.
        pixel_format: FFmpeg's name of a YCbCr format.
        colour: how to code.
    """
    from av import VideoFrame

    if pixels.ndim == 2:
        pixels = np.repeat(pixels[..., None], 3, axis=2)
    depth = {"uint8": ("rgb24", "rgba"), "uint16": ("rgb48le", "rgba64le")}[pixels.dtype.name]
    frame = VideoFrame.from_ndarray(
        np.ascontiguousarray(pixels), format=depth[pixels.shape[2] == 4]
    )
    frame.colorspace = colour.matrix  # PyAV 17 does not know that of BT.2020 below, and takes this
    coded = frame.reformat(
        format=pixel_format,
        dst_colorspace=_SWSCALE[colour.matrix],
        dst_color_range=colour.range_number,
        interpolation=_EXACT,
    )
    coded.colorspace = colour.matrix  # swscale's numbers do not tell 5 from 6
    coded.color_primaries, coded.color_trc = colour.primaries, colour.transfer
    return coded


def _said(value: int, otherwise: T) -> int | T:
    """A tag of H.273, or `otherwise` where it is missing (2) or reserved (0 or 3)."""
    return otherwise if int(value) in (0, UNSPECIFIED, 3) else int(value)
