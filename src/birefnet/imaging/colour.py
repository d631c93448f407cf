"""Colour management: from a picture's ICC profile to sRGB.

8-bit pixels go through LittleCMS (Pillow's ImageCms), which takes no RGB of 16 bits. Those are
converted here where the profile is a matrix with tone curves (ICC.1:2022, 8.3.3 and 10.6, 10.18),
as the profiles of cameras and displays are; for table-based profiles they lose their low byte.
"""

from __future__ import annotations

import io
import struct
import warnings

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from birefnet.imaging.picture import to_uint8, to_uint16

_SPACE_MODES = {"RGB": "RGB", "GRAY": "L", "CMYK": "CMYK", "Lab": "LAB"}
_PERCEPTUAL = ImageCms.Intent.PERCEPTUAL

# Linear sRGB to CIE XYZ relative to D50, the connection space of ICC profiles (IEC 61966-2-1,
# Bradford-adapted), as in the sRGB profile of the ICC.
_SRGB_TO_XYZ = np.array(
    [
        [0.4360657, 0.3851515, 0.1430784],
        [0.2224932, 0.7168870, 0.0606169],
        [0.0139160, 0.0970764, 0.7140961],
    ]
)


def read_profile(profile: bytes | None, name: str) -> ImageCms.ImageCmsProfile | None:
    """The parsed profile; None, with a warning, for bytes that are none."""
    if not profile:
        return None
    try:
        return ImageCms.getOpenProfile(io.BytesIO(profile))
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError) as error:
        _warn(name, f"is broken ({error})")
        return None


def to_srgb(image: Image.Image, profile: ImageCms.ImageCmsProfile | None, name: str) -> Image.Image:
    """RGB version in sRGB of an L, RGB, CMYK or LAB image.

    Without a profile, L and RGB are taken as sRGB already and CMYK is converted arithmetically.
    A profile that does not fit the pixels is ignored with a warning.
    """
    own: ImageCms.ImageCmsProfile | ImageCms.core.CmsProfile
    if profile is None:
        if image.mode != "LAB":
            return image.convert("RGB")
        own = ImageCms.createProfile("LAB")
    else:
        own = profile
        mode = _SPACE_MODES.get(profile.profile.xcolor_space.strip())
        if mode == "RGB" and image.mode == "L":
            image = image.convert("RGB")
        if mode != image.mode:
            _warn(name, f"is for {profile.profile.xcolor_space.strip()}, the pixels {image.mode}")
            return image.convert("RGB")
    try:
        transform = ImageCms.buildTransform(
            own, ImageCms.createProfile("sRGB"), image.mode, "RGB", _PERCEPTUAL
        )
        if image.mode == "RGB" and _changes_nothing(transform):
            return image
        converted = ImageCms.applyTransform(image, transform)
    except (ImageCms.PyCMSError, OSError, ValueError) as error:
        _warn(name, f"cannot be applied ({error})")
        return image.convert("RGB")
    assert converted is not None
    return converted


def to_srgb_deep(
    pixels: NDArray[np.uint16], profile: bytes, name: str
) -> tuple[NDArray[np.uint16], bool]:
    """As `to_srgb` for uint16 H x W (grey) or H x W x 3.

    Returns:
        the pixels, H x W x 3, and whether the profile is sound.
    """
    colour = pixels if pixels.ndim == 3 else np.repeat(pixels[..., None], 3, axis=2)
    parsed = read_profile(profile, name)
    if parsed is None:
        return colour, False
    try:
        matrix_profile = _matrix_profile(profile)
    except (ValueError, KeyError, struct.error, IndexError):
        matrix_profile = None
    if matrix_profile is None:
        grey = pixels.ndim == 2 and parsed.profile.xcolor_space.strip() == "GRAY"
        shallow = Image.fromarray(to_uint8(pixels if grey else colour))
        before = np.asarray(shallow.convert("RGB"))
        after = np.asarray(to_srgb(shallow, parsed, name))
        return (colour if np.array_equal(before, after) else to_uint16(after)), True
    matrix, curves = matrix_profile
    if _is_srgb(matrix, curves):
        return colour, True
    # A band at a time: the linear light of a whole large picture would take 24 bytes a pixel.
    out = np.empty(colour.shape, np.uint16)
    for top in range(0, colour.shape[0], 256):
        band = colour[top : top + 256]
        linear = np.stack([curve[band[..., i]] for i, curve in enumerate(curves)], axis=-1)
        out[top : top + 256] = to_uint16(_srgb_encode(linear @ matrix.T.astype(np.float32)))
    return out, True


def _changes_nothing(transform: ImageCms.ImageCmsTransform) -> bool:
    """Whether a transform moves no colour of a coarse grid by more than one level of 255.

    Most files carry sRGB itself under one of many names; finding out costs far less than a
    conversion of millions of pixels that does nothing.
    """
    steps = np.arange(0, 256, 15, dtype=np.uint8)
    grid = np.stack(np.meshgrid(steps, steps, steps, indexing="ij"), axis=-1)
    grid = grid.reshape(-1, len(steps), 3)
    converted = ImageCms.applyTransform(Image.fromarray(grid), transform)
    return bool(np.abs(np.asarray(converted, np.int16) - grid).max() <= 1)


def _matrix_profile(data: bytes) -> tuple[NDArray[np.float64], list[NDArray[np.float32]]] | None:
    """Matrix from the device's linear RGB to linear sRGB, and three curves of 65536 entries.

    None for a profile of another kind. Raises struct.error, ValueError or KeyError if broken.
    """
    if data[16:20] != b"RGB " or data[20:24] != b"XYZ ":
        return None
    (count,) = struct.unpack_from(">I", data, 128)
    tags: dict[bytes, bytes] = {}
    for index in range(min(count, 100)):
        name, offset, size = struct.unpack_from(">4sII", data, 132 + 12 * index)
        tags[name] = data[offset : offset + size]
    if b"A2B0" in tags:  # a perceptual table takes precedence over the matrix
        return None
    columns = [
        np.array(struct.unpack_from(">3i", tags[name], 8)) / 65536
        for name in (b"rXYZ", b"gXYZ", b"bXYZ")
    ]
    curves = [_curve(tags[name]) for name in (b"rTRC", b"gTRC", b"bTRC")]
    return np.linalg.solve(_SRGB_TO_XYZ, np.stack(columns, axis=1)), curves


def _curve(tag: bytes) -> NDArray[np.float32]:
    """Tone curve: linear light for each 16-bit device value."""
    x = np.arange(65536) / 65535
    if tag[:4] == b"curv":
        (count,) = struct.unpack_from(">I", tag, 8)
        values = np.array(struct.unpack_from(f">{count}H", tag, 12), np.float64)
        if count == 0:
            y = x
        elif count == 1:
            y = x ** (values[0] / 256)
        else:
            y = np.interp(x, np.linspace(0, 1, count), values / 65535)
        return y.astype(np.float32)
    if tag[:4] != b"para":
        raise ValueError("unknown curve")
    (kind,) = struct.unpack_from(">H", tag, 8)
    count = (1, 3, 4, 5, 7)[kind]
    g, *rest = (value / 65536 for value in struct.unpack_from(f">{count}i", tag, 12))
    rest += [0.0] * (6 - len(rest))
    a, b, c, d, e, f = rest
    # Parametric curves, ICC.1:2022 table 68: Y = (aX + b)^g + e above a break, cX + f below it.
    if kind == 0:
        a, start, below, above = 1.0, 0.0, 0 * x, 0.0
    elif kind in (1, 2):
        offset = c if kind == 2 else 0.0
        start, below, above = -b / a, 0 * x + offset, offset
    else:
        start, below, above = d, c * x + f, e
    y = np.where(x >= start, np.maximum(a * x + b, 0) ** g + above, below)
    return np.clip(y, 0, 1).astype(np.float32)


def _is_srgb(matrix: NDArray[np.float64], curves: list[NDArray[np.float32]]) -> bool:
    encoded = np.arange(65536, dtype=np.float32) / 65535
    return bool(
        np.abs(matrix - np.eye(3)).max() < 2e-3
        and all(np.abs(_srgb_encode(curve) - encoded).max() < 2e-3 for curve in curves)
    )


def _srgb_encode(linear: NDArray[np.float32]) -> NDArray[np.float32]:
    """Transfer function of sRGB, IEC 61966-2-1."""
    linear = np.clip(linear, 0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _warn(name: str, what: str) -> None:
    warnings.warn(f"{name}: the colour profile {what}; it is ignored.", stacklevel=2)
