"""The maps inside a network between one picture and its matte, as arrays and as a figure.

>>> from birefnet.explain import explain
>>> seen = explain("examples/chelsea.jpg", point=(0.5, 0.4))  # doctest: +SKIP
>>> seen.save("chelsea.explain.png")  # doctest: +SKIP
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from birefnet.errors import DeviceError, UsageError, needs_extra

with needs_extra("torch", "birefnet.explain"):
    import torch

from birefnet.explain.field import Field, Sampling, receptive_field
from birefnet.explain.figure import save_figure
from birefnet.explain.observe import Observation, Stage, observe
from birefnet.explain.panels import Panel, Row, rows, uncertainty
from birefnet.files import write_atomic
from birefnet.imaging.encoding import encode
from birefnet.imaging.geometry import Geometry
from birefnet.imaging.io import decode
from birefnet.imaging.picture import Picture
from birefnet.imaging.values import Resolution
from birefnet.inference.engines.devices import resolve_device
from birefnet.inference.guidance import Point
from birefnet.matte import Matte

if TYPE_CHECKING:
    from birefnet.inference.predictor import Input
    from birefnet.weights.checkpoint import Loaded

__all__ = ["Explanation", "Field", "Observation", "Panel", "Row", "Sampling", "Stage", "explain"]


@dataclass(frozen=True, eq=False)
class Explanation:
    """The forward pass of one picture through one network.

    Attributes:
        matte: the result, as `Predictor.predict` gives it in float32.
        geometry: how the picture became the network's input.
        seen: the maps, as arrays.
        field: the receptive field of one pixel of the matte, if requested.
        model: name of the weights.
    """

    matte: Matte
    geometry: Geometry
    seen: Observation
    field: Field | None
    model: str

    @cached_property
    def rows(self) -> list[Row]:
        """The panels of the figure."""
        return rows(self.matte, self.geometry, self.seen, self.field)

    @property
    def panels(self) -> dict[str, Panel]:
        """The same by name: `matte`, `encoder-x4`, `stage3-attention` …"""
        return {panel.name: panel for row in self.rows for panel in row.panels}

    @property
    def title(self) -> str:
        name = Path(self.matte.picture.name or "picture").name
        return f"{name} through {self.model}"

    def summary(self) -> dict[str, object]:
        """The numbers of the figure, as plain values for JSON."""
        height, width = self.geometry.input
        stages = [
            {
                "stage": len(self.seen.stages) - i,
                "stride": stage.stride,
                "attention": None if stage.attention is None else _spread(stage.attention),
                "coarse_mean": None if stage.coarse is None else float(stage.coarse.mean()),
            }
            for i, stage in enumerate(self.seen.stages)
        ]
        field = None
        if self.field is not None:
            row, column = self.field.pixel
            shares = {f"radius_{p}": round(self.field.radius(p / 100), 1) for p in (50, 90)}
            field = {"x": column, "y": row, **shares}
        return {
            "model": self.model,
            "input": {"width": width, "height": height},
            "coverage": self.matte.coverage,
            "confidence": self.matte.confidence,
            "is_empty": self.matte.is_empty,
            "uncertainty": float(uncertainty(self.matte.alpha).mean()),
            "stages": stages,
            "field": field,
        }

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the figure: .png, .svg, .pdf (extra `evaluate`) or .html.

        Raises:
            BiRefNetError: another suffix, or the extra is missing.
        """
        save_figure(Path(path), self.title, self.rows)

    def save_panels(self, folder: str | os.PathLike[str]) -> list[Path]:
        """Write every panel as NAME.png into the folder, which is created if necessary."""
        target = Path(folder)
        target.mkdir(parents=True, exist_ok=True)
        written = []
        for name, panel in self.panels.items():
            written.append(target / f"{name}.png")
            write_atomic(written[-1], encode(panel.pixels))
        return written


def explain(
    source: Input,
    model: str | os.PathLike[str] | Loaded | None = None,
    *,
    point: tuple[float, float] | None = None,
    field: bool = True,
    resolution: Resolution | None = None,
    device: str = "auto",
) -> Explanation:
    """Record the maps of a network while it cuts out one picture, in float32.

    Args:
        source: a picture, see `birefnet.Predictor.predict`.
        model: as for `birefnet.load`, but not an exported file; or the result of
            `birefnet.weights.load_checkpoint`.
        point: x, y of the pixel whose receptive field is drawn, in pixels, or as shares where both
            are floats from 0.0 to 1.0; `None` takes the most uncertain pixel of the matte.
        field: whether to compute that field, which takes a backward pass.
        resolution: see `Predictor.predict`.
        device: see `birefnet.load`.

    Raises:
        ImageError: the picture cannot be read.
        WeightsError: no such model, or its file cannot be downloaded or read, or does not fit.
        BiRefNetError: an exported file, or a point outside the picture.
        DeviceError: no such device, or not enough memory.
    """
    resolved = resolve_device(device)
    picture = source if isinstance(source, Picture) else decode(source)
    at = None if point is None else Point(*point).at(picture.height, picture.width)
    loaded = _network(model)
    network = loaded.network.to(resolved).eval()
    geometry = loaded.preprocess.plan(picture.height, picture.width, resolution)
    image = torch.from_numpy(geometry.apply(picture.pixels))[None].to(resolved)
    try:
        seen = observe(network, image)
        probability = 0.5 * (np.tanh(0.5 * seen.logits) + 1)
        pixel = _most_uncertain(probability, geometry) if at is None else _in_input(at, geometry)
        found = receptive_field(network, image, pixel) if field else None
    except (RuntimeError, MemoryError) as error:
        if isinstance(error, MemoryError) or "memory" in str(error):
            raise DeviceError(
                f"{resolved} ran out of memory at {image.shape[-1]}x{image.shape[-2]}; give a "
                "smaller resolution, or leave the receptive field out"
            ) from error
        raise
    alpha = np.clip(geometry.restore(probability), 0, 1)
    if picture.alpha is not None:
        alpha = alpha * picture.alpha
    return Explanation(Matte(alpha, picture), geometry, seen, found, loaded.name)


def _network(model: str | os.PathLike[str] | Loaded | None) -> Loaded:
    from birefnet.weights.checkpoint import load_checkpoint
    from birefnet.weights.locate import default_model, locate

    if model is not None and not isinstance(model, (str, os.PathLike)):
        return model
    located = locate(model or default_model())
    if located.exported is not None:
        raise UsageError(
            f"{located.name!r} is an exported file, which cannot be explained; give its original "
            "weights"
        )
    return load_checkpoint(located)


def _spread(x: np.ndarray) -> dict[str, float]:
    return {"least": float(x.min()), "mean": float(x.mean()), "most": float(x.max())}


def _most_uncertain(probability: np.ndarray, geometry: Geometry) -> tuple[int, int]:
    """Row and column of the pixel inside the picture that is nearest to one half."""
    box = geometry.box
    row, column = np.unravel_index(
        int(uncertainty(box.cut(probability)).argmax()), (box.height, box.width)
    )
    return int(row) + box.top, int(column) + box.left


def _in_input(at: tuple[int, int], geometry: Geometry) -> tuple[int, int]:
    """Row and column of the picture → of the network's input."""
    box = geometry.box
    row = box.top + (2 * at[0] + 1) * box.height // (2 * geometry.source[0])
    column = box.left + (2 * at[1] + 1) * box.width // (2 * geometry.source[1])
    return row, column
