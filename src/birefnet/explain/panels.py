"""The figure of a forward pass: titled panels in titled rows."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.errors import counted
from birefnet.explain import colours
from birefnet.explain.colours import Pixels
from birefnet.explain.field import Field
from birefnet.explain.observe import Map, Observation, Stage
from birefnet.imaging.box import Box
from birefnet.imaging.geometry import Geometry
from birefnet.imaging.picture import to_uint8
from birefnet.matte import Matte

SIDE = 480  # longer side of a panel [px]


@dataclass(frozen=True, eq=False)
class Panel:
    """One picture of the figure.

    Attributes:
        name: unique, fit for a file name.
        title: above it.
        note: the content, in one sentence.
        pixels: uint8 H x W x 3; all panels of a figure have one size.
    """

    name: str
    title: str
    note: str
    pixels: Pixels


@dataclass(frozen=True, eq=False)
class Row:
    """Panels that belong together."""

    title: str
    panels: tuple[Panel, ...]


def uncertainty(alpha: Map) -> Map:
    """Entropy of each pixel in bits: 0 where alpha is 0 or 1, 1 where it is one half."""
    p = np.clip(alpha, 1e-7, 1 - 1e-7).astype(np.float64)
    return (-(p * np.log2(p) + (1 - p) * np.log2(1 - p))).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Window:
    """A part of the network's input, and its panel.

    Attributes:
        box: the part.
        pixels: the panel.
    """

    box: Box
    pixels: Pixels

    def positions(self, positions: NDArray[np.floating]) -> NDArray[np.float32]:
        """Rows and columns of the input [px] → of the panel."""
        scale = np.divide(self.pixels.shape[:2], (self.box.height, self.box.width))
        return ((positions - (self.box.top, self.box.left)) * scale).astype(np.float32)

    def point(self, pixel: tuple[int, int]) -> tuple[int, int]:
        """Row and column of the input → of the panel, within it."""
        row, column = self.positions(np.add(pixel, 0.5))
        high, wide = self.pixels.shape[:2]
        return min(max(int(row), 0), high - 1), min(max(int(column), 0), wide - 1)


class Painter:
    """Resizes maps of the network's input to the picture's shape, in the size of a panel."""

    def __init__(self, matte: Matte, geometry: Geometry) -> None:
        scale = SIDE / max(matte.height, matte.width)
        self.size = tuple(max(1, round(n * scale)) for n in (matte.height, matte.width))
        self.source = matte.picture.rgb8()
        self.geometry = geometry
        self.picture = self.fit(self.source)
        self.whole = Window(geometry.box, self.picture)

    def fit(self, pixels: Pixels) -> Pixels:
        """Resize to a panel; small maps keep their cells visible."""
        is_smaller = pixels.shape[0] < self.size[0]
        how = cv2.INTER_NEAREST if is_smaller else cv2.INTER_AREA
        return np.asarray(cv2.resize(pixels, self.size[::-1], interpolation=how), np.uint8)

    def map(self, pixels: Pixels) -> Pixels:
        """From the grid of the network's input, at any stride."""
        if self.geometry.is_padded:
            high, wide = self.geometry.input
            whole = cv2.resize(pixels, (wide, high), interpolation=cv2.INTER_NEAREST)
            pixels = np.ascontiguousarray(self.geometry.box.cut(whole))
        return self.fit(pixels)

    def near(self, pixel: tuple[int, int], reach: float) -> Window:
        """The picture's part that holds `reach` pixels of the input to each side of one."""
        box = self.geometry.box
        share = min(max(2 * reach / min(box.height, box.width), 0.08), 1)
        high, wide = max(1, round(share * box.height)), max(1, round(share * box.width))
        top = min(max(pixel[0] - high // 2, box.top), box.bottom - high)
        left = min(max(pixel[1] - wide // 2, box.left), box.right - wide)
        part = Box(top, left, high, wide)
        (y0, x0), (y1, x1) = (
            np.rint(
                np.multiply(np.subtract(corner, (box.top, box.left)), self.source.shape[:2])
                / (box.height, box.width)
            ).astype(int)
            for corner in ((top, left), (part.bottom, part.right))
        )
        return Window(part, self.fit(self.source[y0 : max(y1, y0 + 1), x0 : max(x1, x0 + 1)]))


def rows(matte: Matte, geometry: Geometry, seen: Observation, field: Field | None) -> list[Row]:
    """All panels in the order of the network."""
    painter = Painter(matte, geometry)
    made = [_result(painter, matte), _localisation(painter, seen)]
    made += [_stage(painter, i, stage) for i, stage in enumerate(seen.stages)]
    made[-1] = Row(made[-1].title, (*made[-1].panels, _head(painter, seen)))
    if field is not None:
        made.append(_field(painter, field))
        inward = _inward(painter, seen, field.pixel)
        made += [] if inward is None else [inward]
    return made


def _result(painter: Painter, matte: Matte) -> Row:
    height, width = painter.geometry.input
    on_white = matte.on("white")
    verdict = "no object was found" if matte.is_empty else f"coverage {matte.coverage:.1%}"
    return Row(
        "From picture to matte",
        (
            Panel("picture", "picture", f"seen at {width} x {height}", painter.picture),
            Panel(
                "matte",
                "matte",
                f"{verdict}, confidence {matte.confidence:.2f}",
                painter.fit(colours.grey(matte.alpha)),
            ),
            Panel(
                "uncertainty",
                "uncertainty",
                "entropy of the matte, 0 to 1 bit",
                painter.fit(colours.heat(uncertainty(matte.alpha))),
            ),
            Panel("cutout", "on white", "with its own colours", painter.fit(to_uint8(on_white))),
        ),
    )


def _localisation(painter: Painter, seen: Observation) -> Row:
    panels = [
        Panel(
            f"encoder-x{i}",
            f"x{i}, stride {2 ** (i + 1)}",
            f"{counted(x.shape[0], 'channel')} of {x.shape[2]} x {x.shape[1]}",
            painter.map(colours.features(x)),
        )
        for i, x in enumerate(seen.encoded, start=1)
    ]
    x = seen.squeezed
    panels += [
        Panel(
            "squeezed",
            "squeezed",
            f"context of all maps, {counted(x.shape[0], 'channel')}",
            painter.map(colours.features(x)),
        ),
        Panel(
            "squeezed-strength",
            "its strength",
            "norm over the channels",
            painter.map(colours.strength(x)),
        ),
    ]
    return Row(
        "Localisation: the encoder's maps, three principal components as colours", (*panels,)
    )


def _stage(painter: Painter, index: int, stage: Stage) -> Row:
    number = 4 - index
    rows, columns = stage.grid
    prefix = f"stage{number}-"
    panels = []
    if stage.reference is not None:
        cut = colours.tiles(painter.picture, stage.grid)
        note = f"{rows} x {columns}, stacked" if rows > 1 else "the whole, resized"
        panels += [
            Panel(f"{prefix}patches", "image patches", note, cut),
            Panel(
                f"{prefix}inward",
                "inward reference",
                "features read from the patches",
                painter.map(colours.features(stage.reference)),
            ),
        ]
    panels.append(
        Panel(
            f"{prefix}features",
            "reconstructed",
            f"{counted(stage.features.shape[0], 'channel')}",
            painter.map(colours.features(stage.features)),
        )
    )
    optional: tuple[tuple[str, str, str, Map | None, bool], ...] = (
        ("coarse", "coarse prediction", "multi-stage supervision", stage.coarse, False),
        ("target", "gradient target", "edges near the coarse map", stage.target, True),
        ("gradient", "gradient, predicted", "outward reference", stage.gradient, True),
    )
    for name, title, note, x, is_heat in optional:
        if x is not None:
            drawn = colours.heat(x) if is_heat else colours.grey(x)
            panels.append(Panel(prefix + name, title, note, painter.map(drawn)))
    if stage.attention is not None:
        least, most = float(stage.attention.min()), float(stage.attention.max())
        shown = colours.heat((stage.attention - least) / max(most - least, 1e-6))
        note = f"from {least:.2f} (dark) to {most:.2f}"
        panels.append(Panel(f"{prefix}attention", "attention", note, painter.map(shown)))
    return Row(f"Stage {number} of the decoder, stride {stage.stride}", (*panels,))


def _head(painter: Painter, seen: Observation) -> Panel:
    height, width = seen.logits.shape
    probability = colours.grey(0.5 * (np.tanh(0.5 * seen.logits) + 1))
    return Panel("head", "head", f"the matte at {width} x {height}", painter.map(probability))


def _field(painter: Painter, field: Field) -> Row:
    at = painter.whole.point(field.pixel)
    seen = np.ascontiguousarray(painter.geometry.box.cut(field.influence))
    panels = [
        Panel(
            "field",
            "receptive field",
            f"half of the influence within {field.radius():.0f} px",
            colours.influence(painter.picture, seen, at),
        )
    ]
    for stage in sorted({s.stage for s in field.samplings}, reverse=True):
        found = sorted((s for s in field.samplings if s.stage == stage), key=lambda s: s.kernel)
        kernels = " and ".join(f"{s.kernel}x{s.kernel}" for s in found)
        reach = max(float(np.abs(s.positions - field.pixel).max()) for s in found)
        near = painter.near(field.pixel, 1.25 * reach)
        dots = [
            (near.positions(s.positions), s.weights, colours.KERNELS[i])
            for i, s in enumerate(found)
        ]
        panels.append(
            Panel(
                f"samples-stage{stage}",
                f"samples of stage {stage}",
                f"deformable {kernels}, {near.box.width} x {near.box.height} px",
                colours.samples(near.pixels, dots[::-1], near.point(field.pixel)),
            )
        )
    return Row("What one pixel of the matte (the cross) depends on", (*panels,))


def _inward(painter: Painter, seen: Observation, pixel: tuple[int, int]) -> Row | None:
    """The pixels of the tiles of each stage that are stacked at one position."""
    high, wide = painter.geometry.input
    panels = []
    for i, stage in enumerate(seen.stages):
        if stage.reference is None or stage.grid == (1, 1):
            continue
        rows, columns = stage.grid
        tile = (high // rows, wide // columns)
        inside = [at // stage.stride for at in pixel]
        grid = np.indices(stage.grid).reshape(2, -1).T
        positions = painter.whole.positions(grid * tile + np.array(inside) + 0.5)
        dots = (positions, np.full(len(positions), 0.3, np.float32), colours.KERNELS[0])
        panels.append(
            Panel(
                f"reads-stage{4 - i}",
                f"patches of stage {4 - i}",
                f"{rows} x {columns} pixels, one of each patch",
                colours.samples(painter.picture, [dots], painter.whole.point(pixel)),
            )
        )
    if not panels:
        return None
    return Row(
        "What the inward reference reads for that pixel: one position of every patch", (*panels,)
    )
