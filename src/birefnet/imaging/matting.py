"""Alpha once more, inside the band where a matte is uncertain: from the picture's own colours.

`guided` is ours and fast; the others solve a matting Laplacian, as the library pymatting (extra
`matting`) builds it, with the matte itself as a weak prior.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.compiling import import_compiled
from birefnet.errors import BiRefNetError, ImageError, MissingExtraError
from birefnet.imaging.box import Tiles
from birefnet.imaging.picture import Alpha, Pixels, to_float
from birefnet.imaging.trimap import SUBJECT, UNKNOWN, default_band, trimap
from birefnet.imaging.values import Method

METHODS: tuple[str, ...] = get_args(Method)


def check_method(method: str) -> None:
    """Refuse unknown methods, and those whose library is not installed.

    Raises:
        BiRefNetError: an unknown one; the known ones are listed.
        MissingExtraError: it needs the extra `matting`.
    """
    if method not in METHODS:
        raise BiRefNetError(f"there is no matting {method!r}; choose one of {', '.join(METHODS)}")
    if method not in ("none", "guided"):
        from importlib.util import find_spec

        if find_spec("pymatting") is None:
            raise MissingExtraError(f"matting {method!r}", "matting")


def refine_alpha(
    pixels: Pixels, alpha: Alpha, method: str = "guided", *, band: float | None = None
) -> Alpha:
    """A matte whose uncertain band follows the picture's colours; equal elsewhere.

    Works on overlapping tiles of the band, blended without seams, so memory and time follow the
    length of the edge and not the picture's size.

    Args:
        pixels: H x W x 3, uint8, uint16 or float in [0, 1].
        alpha: H x W.
        method: one of `METHODS`; `none` gives alpha back.
        band: half of the band's width [px]; `None` follows the picture's size, see
            `trimap.default_band`.

    Returns:
        float32 H x W in [0, 1].

    Raises:
        BiRefNetError: an unknown method, or shapes that differ.
        MissingExtraError: the method needs the extra `matting`.
    """
    check_method(method)
    if pixels.shape != (*alpha.shape, 3):
        raise ImageError(
            f"got pixels of shape {pixels.shape} and an alpha of {alpha.shape}; expected "
            "H x W x 3 and H x W"
        )
    if method == "none":
        return alpha
    height, width = alpha.shape
    reach = default_band(height, width) if band is None else band
    whole_trimap = trimap(alpha, band=reach)
    if not (whole_trimap == UNKNOWN).any():
        return alpha
    solve = _guided if method == "guided" else _laplacian_solver(method)
    # A tile sees what is certain on both sides of its band.
    overlap = max(16, round((_GUIDED_SIGHT if method == "guided" else _SIGHT) * reach))
    tiles = Tiles.plan(height, width, tile=max(_TILE, 2 * overlap + 1), overlap=overlap)
    out = np.array(alpha, np.float32)
    change = np.zeros_like(out)
    for box, weight in zip(tiles, tiles.weights, strict=True):
        part = whole_trimap[box.slices]
        unknown = part == UNKNOWN
        if not unknown.any():
            continue
        try:
            solved = solve(to_float(pixels[box.slices]), out[box.slices], part, reach)
        except ValueError as error:  # of the library's solver
            raise BiRefNetError(
                f"matting {method!r} finds no solution for this picture; choose guided"
            ) from error
        change[box.slices] += np.where(unknown, weight * (solved - out[box.slices]), 0)
    out += change
    return np.clip(out, 0, 1, out=out)


_TILE = 512  # [px]
_GUIDED_SIGHT, _SIGHT = 6, 3  # by how much tiles overlap, in half bands
_PRIOR = 0.01  # weight of the matte itself within the band, where the Laplacian's windows weigh 1


def _guided(
    pixels: NDArray[np.float32], alpha: Alpha, trimap: NDArray[np.uint8], reach: float
) -> Alpha:
    """Alpha as a linear function of colour in each window, fitted mostly to what is certain."""
    for _ in range(_ROUNDS):
        alpha = _fitted(pixels, alpha, trimap, reach)
    return alpha


def _fitted(
    pixels: NDArray[np.float32], alpha: Alpha, trimap: NDArray[np.uint8], reach: float
) -> Alpha:
    """One round of `_guided`.

    A guided filter (He, Sun, Tang, "Guided Image Filtering", TPAMI 2013, Sec. 3.5) with weights:
    pixels of the band, whose alpha is what is sought, count little, and windows whose colours do
    not tell subject and ground apart count little in the mean over a pixel's windows. At a reduced
    size, as in "Fast Guided Filter" (arXiv:1505.00996).
    """
    height, width = alpha.shape
    step = max(1, int(reach / _CELLS))
    size = max(1, width // step), max(1, height // step)
    target = np.where(trimap == UNKNOWN, alpha, (trimap == SUBJECT).astype(np.float32))
    weight = np.where(trimap == UNKNOWN, np.float32(_BAND_WEIGHT), np.float32(1))
    guide, goal, sure = (
        cv2.resize(plane, size, interpolation=cv2.INTER_AREA) if step > 1 else plane
        for plane in (pixels, target, weight)
    )
    side = 2 * max(1, round(_WINDOW * reach / step)) + 1

    def mean(plane: NDArray[Any]) -> NDArray[Any]:  # OpenCV says no more
        return cv2.blur(plane, (side, side), borderType=cv2.BORDER_REFLECT_101)

    total = 1 / mean(sure)
    colours = [guide[..., channel] for channel in range(3)]
    weighted = [sure * colour for colour in colours]
    means = [mean(colour) * total for colour in weighted]
    goal_mean = mean(sure * goal) * total
    covariance = [
        mean(colour * goal) * total - own * goal_mean
        for colour, own in zip(weighted, means, strict=True)
    ]
    pairs = ((0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2))
    variance = {
        (i, j): mean(weighted[i] * colours[j]) * total
        - means[i] * means[j]
        + (np.float32(_FLAT) if i == j else np.float32(0))
        for i, j in pairs
    }
    slopes = _solve(variance, covariance)
    offset = goal_mean - sum(s * m for s, m in zip(slopes, means, strict=True))
    spread = mean(sure * goal * goal) * total - goal_mean**2
    rest = spread - sum(s * c for s, c in zip(slopes, covariance, strict=True))
    trust = 1 / (np.maximum(rest, 0) + np.float32(_MISFIT))
    norm = 1 / mean(trust)
    explained = np.clip(1 - rest / np.maximum(spread, 1e-6), 0, 1)
    coefficients: NDArray[Any] = np.dstack(
        [mean(trust * plane) * norm for plane in (*slopes, offset, explained)]
    )
    if step > 1:
        coefficients = np.asarray(cv2.resize(coefficients, (width, height)))
    out = coefficients[..., 3].copy()
    for channel in range(3):
        out += coefficients[..., channel] * pixels[..., channel]
    # Where colours say nothing about alpha, it stays as it was.
    belief = np.clip(_BELIEF * coefficients[..., 4], 0, 1)
    return alpha + belief * (np.clip(out, 0, 1) - alpha)


_CELLS = 4  # of the reduced size, in half a band
_ROUNDS = 3  # later windows know the band better
_BAND_WEIGHT = 0.2
_BELIEF = 1.5  # a window whose colours explain 1 / 1.5 of alpha is believed
_WINDOW = 2.5  # radius of the windows, in half bands
_FLAT = 1e-4  # variance of colours below which a window counts as flat
_MISFIT = 0.01  # variance of alpha that a window may leave unexplained


def _solve(
    matrix: Mapping[tuple[int, int], NDArray[np.floating]], vector: Sequence[NDArray[np.floating]]
) -> list[NDArray[np.floating]]:
    """Solutions of symmetric 3 x 3 systems by Cramer's rule, elementwise over planes."""
    a, b, c = matrix[0, 0], matrix[0, 1], matrix[0, 2]
    d, e, f = matrix[1, 1], matrix[1, 2], matrix[2, 2]
    inverse = {
        (0, 0): d * f - e * e,
        (0, 1): c * e - b * f,
        (0, 2): b * e - c * d,
        (1, 1): a * f - c * c,
        (1, 2): b * c - a * e,
        (2, 2): a * d - b * b,
    }
    determinant = a * inverse[0, 0] + b * inverse[0, 1] + c * inverse[0, 2]
    x, y, z = vector
    rows = (((0, 0), (0, 1), (0, 2)), ((0, 1), (1, 1), (1, 2)), ((0, 2), (1, 2), (2, 2)))
    return [(inverse[i] * x + inverse[j] * y + inverse[k] * z) / determinant for i, j, k in rows]


def _laplacian_solver(method: str) -> Any:
    """A function like `_guided` that minimises a matting Laplacian, with the matte as prior.

    With x the unknown alphas and k the known: (L_uu + p) x = p alpha - L_uk k, for a weight p of
    the prior; it keeps tiles that show only one side of the edge solvable.
    """
    pymatting = import_compiled("pymatting")
    import scipy.sparse  # type: ignore[import-untyped]

    build = {
        "closed-form": pymatting.cf_laplacian,
        "lbdm": pymatting.lbdm_laplacian,
        "lkm": pymatting.lkm_laplacian,
    }[method]

    def solve(
        pixels: NDArray[np.float32], alpha: Alpha, trimap: NDArray[np.uint8], reach: float
    ) -> Alpha:
        unknown = (trimap == UNKNOWN).ravel()
        goal = np.where(unknown, alpha.ravel(), trimap.ravel() == SUBJECT).astype(np.float64)
        image = pixels.astype(np.float64)
        out = goal.copy()
        if method == "lkm":
            product, diagonal = build(image)
            weight = np.where(unknown, _PRIOR, 100.0)
            inverse = 1 / (diagonal + weight)
            out = pymatting.cg(
                lambda x: product(x) + weight * x,
                weight * goal,
                x0=goal,
                M=lambda x: inverse * x,
                rtol=1e-4,
            )
        else:
            laplacian = build(image).tocsr()
            rows = laplacian[unknown]
            system = rows[:, unknown] + _PRIOR * scipy.sparse.identity(int(unknown.sum()))
            right = _PRIOR * goal[unknown] - rows[:, ~unknown] @ goal[~unknown]
            out[unknown] = pymatting.cg(
                system, right, x0=goal[unknown], M=pymatting.ichol(system.tocsc()), rtol=1e-4
            )
        return np.clip(out, 0, 1).astype(np.float32).reshape(alpha.shape)

    return solve
