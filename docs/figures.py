"""Draw the figures of the documentation: diagrams of a real network, and maps of `nano`.

    python docs/figures.py

Numbers in the diagrams are from the network of the paper (preset swin_v1_l, on the meta device);
the maps are from the bundled model and pictures of examples/.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from tables import TABLE_7

from birefnet.explain import Explanation, Row, explain
from birefnet.explain.figure import save_figure
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network

ROOT = Path(__file__).parent.parent
IMAGES = ROOT / "docs" / "images"
BLUE, GREEN, ORANGE, GREY, WHITE = "#dbe7f6", "#ddefdc", "#fbe5cd", "#ececec", "#ffffff"
NAVY, DIM = "#24527a", "#555555"


class Diagram:
    """Boxes and arrows on a white ground; units are inches, y upwards."""

    def __init__(self, width: float, height: float) -> None:
        self.figure = Figure(figsize=(width, height), facecolor="white")
        self.axes = self.figure.add_axes((0, 0, 1, 1))
        self.axes.set(xlim=(0, width), ylim=(0, height))
        self.axes.set_axis_off()

    def box(
        self, x: float, y: float, text: str, *, w: float = 1.8, h: float = 0.62, fill: str = BLUE
    ) -> None:
        """A box around its centre."""
        self.frame(x, y, w, h, fc=fill, ec=DIM)
        self.text(x, y, text)

    def frame(self, x: float, y: float, w: float, h: float, **style: Any) -> None:
        """An empty box."""
        corner = (x - w / 2, y - h / 2)
        form = "round,pad=0,rounding_size=0.06"
        self.axes.add_patch(FancyBboxPatch(corner, w, h, form, lw=0.8, **style))

    def text(self, x: float, y: float, text: str, *, size: float = 8, **style: Any) -> None:
        """Centred, or aligned by `ha`."""
        self.axes.text(x, y, text, fontsize=size, **{"ha": "center", "va": "center", **style})

    def arrow(self, *points: tuple[float, float], dashed: bool = False) -> None:
        """Along the points; the head is at the last one."""
        style = {"color": "#444", "lw": 0.9, "linestyle": (0, (3, 2)) if dashed else "-"}
        for start, end in pairwise(points[:-1]):
            self.axes.plot(*zip(start, end, strict=True), **style, solid_capstyle="round")
        head = FancyArrowPatch(
            *points[-2:], arrowstyle="-|>", mutation_scale=8, shrinkA=0, shrinkB=0, **style
        )
        self.axes.add_patch(head)

    def save(self, name: str) -> None:
        """As SVG with text as paths, so that it looks the same everywhere."""
        FigureCanvasSVG(self.figure).print_svg(IMAGES / f"{name}.svg", metadata={"Date": None})


def pipeline(network: BiRefNet) -> None:
    """The whole network, after the paper's Fig. 3."""
    d = Diagram(11.2, 6.6)
    encoder, decoder = network.encoder, network.decoder
    stages: Any = decoder.stages
    rows = [4.55, 3.3, 2.05, 0.8]  # of strides 4, 8, 16, 32
    d.text(2.75, 6.35, "localisation module", size=9.5, weight="bold", color=NAVY)
    d.text(7.2, 6.35, "reconstruction module", size=9.5, weight="bold", color=NAVY)
    d.box(0.8, 3.7, "image\n3 × 1024²", w=1.2, fill=WHITE)
    d.box(0.8, 2.3, "half of it\n3 × 512²", w=1.2, fill=WHITE)
    d.arrow((0.8, 3.39), (0.8, 2.61))
    d.text(2.75, 5.25, "one backbone sees both sizes;", size=7.5, color=DIM)
    d.text(2.75, 5.07, "the half's maps are enlarged and joined", size=7.5, color=DIM)
    for i, y in enumerate(rows):
        d.box(
            2.75, y, f"x{i + 1}, stride {4 << i}\n{encoder.out_channels[i]} channels, {256 >> i}²"
        )
    for start in (3.7, 2.3):
        d.arrow((1.4, start), (1.62, start), (1.62, rows[0]), (1.85, rows[0]))
    for upper, lower in pairwise(rows):
        d.arrow((2.75, upper - 0.31), (2.75, lower + 0.31))
    context = f"{encoder.context_channels} → {encoder.out_channels[3]} channels"
    d.box(4.8, rows[3], f"context: all four joined,\n{context}", w=1.65, fill=GREEN)
    d.text(4.8, rows[3] - 0.44, "squeezed by one RB", size=7, color=DIM)
    d.arrow((3.65, rows[3]), (3.97, rows[3]))
    for y in rows[:3]:
        d.arrow((3.65, y - 0.15), (3.82, y - 0.15), (3.82, rows[3] + 0.15), (3.97, rows[3] + 0.15))
    for i, stage in enumerate(stages):
        y, side = rows[3 - i], 32 >> i
        out = stage.block.conv_out.out_channels
        d.box(7.2, y, f"stage {4 - i}: BiRef block\n{out} channels, {32 << i}²", w=1.9)
        tiles = f"{side}×{side} tiles: {stage.reference.conv_in.in_channels} channels"
        d.box(4.95, y + 0.55, tiles, w=1.75, h=0.26, fill=ORANGE)
        d.arrow((5.83, y + 0.55), (6.6, y + 0.55), (6.6, y + 0.31))
        d.arrow((3.65 if i else 5.63, y), (6.25, y))
        if i:
            d.text(5.0, y - 0.12, "lateral 1×1, added", size=7, color=DIM)
        if i < 3:
            d.arrow((7.4, y + 0.31), (7.4, y + 0.94))
            d.text(7.5, y + 0.62, "enlarged", size=7, color=DIM, ha="left")
            for name, shift in ((f"coarse map m{4 - i}", 0.17), (f"gradient g{4 - i}", -0.17)):
                d.box(9.75, y + shift, name, w=1.7, h=0.28, fill=GREY)
                d.arrow((8.15, y + shift), (8.9, y + shift), dashed=True)
    d.text(9.75, rows[1] + 0.5, "supervised in training", size=7.5, style="italic", color=DIM)
    head: Any = decoder.head
    d.box(7.2, 5.75, f"head: 1×1 on {head.in_channels} channels, 1024²", w=2.6, h=0.36, fill=GREEN)
    d.arrow((7.4, rows[0] + 0.31), (7.4, 5.57))
    d.text(7.5, 5.22, "enlarged", size=7, color=DIM, ha="left")
    d.box(9.75, 5.75, "logits, sigmoid: matte", w=1.7, h=0.36, fill=GREY)
    d.arrow((8.5, 5.75), (8.9, 5.75))
    d.arrow((0.8, 4.01), (0.8, 5.75), (5.9, 5.75))
    d.text(3.4, 5.87, "image, two convolutions 3×3", size=7, color=DIM)
    d.save("pipeline")


def block(network: BiRefNet) -> None:
    """One BiRef block, after the paper's Fig. 4."""
    stages: Any = network.decoder.stages
    stage = stages[1]
    inner = stage.block.conv_in.out_channels
    branch = stage.block.attention.branches[0].norm.num_features
    d = Diagram(11.2, 4.3)
    d.box(0.95, 2.35, "features of the\nstage below", w=1.3, fill=WHITE)
    d.box(0.95, 1.35, "encoder's map", w=1.3, h=0.4, fill=WHITE)
    d.box(0.95, 3.45, "image tiles", w=1.3, h=0.4, fill=ORANGE)
    d.text(1.75, 4.05, "inward reference", size=9, weight="bold", color="#a05a00")
    d.text(2.27, 2.35, "+", size=15)
    d.arrow((1.6, 2.35), (2.12, 2.35))
    d.text(1.86, 2.47, "enlarged", size=6.5, color=DIM)
    d.arrow((1.6, 1.35), (2.27, 1.35), (2.27, 2.2))
    d.text(1.95, 1.22, "1×1", size=6.5, color=DIM)
    d.box(2.55, 3.45, "conv 3×3, conv 3×3\n(no activation between)", w=1.6, h=0.46, fill=ORANGE)
    d.arrow((1.6, 3.45), (1.75, 3.45))
    d.box(3.1, 2.35, "join", w=0.6, h=0.4, fill=WHITE)
    d.arrow((2.42, 2.35), (2.8, 2.35))
    d.arrow((3.1, 3.22), (3.1, 2.55))
    d.frame(5.7, 2.03, 4.15, 3.45, fc="#f6f9fd", ec="#8888aa", ls="--")
    d.text(5.7, 4.05, "reconstruction block (RB)", size=9, weight="bold", color=NAVY)
    d.box(4.17, 2.35, f"conv 3×3\nBN, ReLU\n{inner}", w=0.85, h=0.75)
    d.arrow((3.4, 2.35), (3.74, 2.35))
    sides = [b.conv.regular.kernel_size[0] for b in stage.block.attention.branches]
    names = [f"{side}×{side} deformable" for side in sides]
    for i, name in enumerate([*names, "whole image, pooled"]):
        y = 3.35 - 0.62 * i
        d.box(5.5, y, name, w=1.35, h=0.36, fill=GREEN)
        d.arrow((4.6, 2.35), (4.7, 2.35), (4.7, y), (4.82, y))
        d.arrow((6.18, y), (6.32, y), (6.32, 2.35), (6.45, 2.35))
    d.text(5.5, 0.48, f"each {inner} → {branch}, BN, ReLU", size=6.5, color=DIM)
    d.box(6.72, 2.35, "join\n1×1\nBN\nReLU", w=0.52, h=0.95)
    d.box(7.42, 2.35, "conv\n3×3\nBN", w=0.5, h=0.75)
    d.arrow((6.98, 2.35), (7.17, 2.35))
    d.text(9.6, 4.05, "outward reference", size=9, weight="bold", color="#2f6b2f")
    d.box(8.75, 3.2, "conv 3×3\nBN, ReLU → 16", w=1.15, h=0.5, fill=GREEN)
    d.box(10.3, 3.5, "1×1 → gradient g", w=1.3, h=0.36, fill=GREY)
    d.box(10.3, 2.9, "1×1, sigmoid = a", w=1.3, h=0.36, fill=GREEN)
    d.arrow((7.67, 2.35), (7.95, 2.35), (7.95, 3.2), (8.17, 3.2))
    d.arrow((9.33, 3.2), (9.5, 3.2), (9.5, 3.5), (9.65, 3.5))
    d.arrow((9.33, 3.2), (9.5, 3.2), (9.5, 2.9), (9.65, 2.9))
    d.text(10.3, 2.35, "×", size=15)
    d.arrow((7.67, 2.35), (10.15, 2.35))
    d.arrow((10.3, 2.72), (10.3, 2.48))
    d.arrow((10.45, 2.35), (11.05, 2.35))
    d.text(10.8, 2.12, "features for\nthe next stage", size=6.5, color=DIM)
    d.box(8.9, 1.35, "1×1 → coarse map m", w=1.5, h=0.36, fill=GREY)
    d.arrow((7.95, 2.35), (7.95, 1.35), (8.15, 1.35), dashed=True)
    d.text(9.3, 0.85, "grey: supervised in training", size=7, style="italic", color=DIM)
    d.save("block")


def sheet(name: str, title: str, rows: list[Row]) -> None:
    """Rows of panels as a JPEG."""
    path = IMAGES / f"{name}.png"
    save_figure(path, title, rows)
    pixels = cv2.imread(str(path))
    path.unlink()
    height = round(pixels.shape[0] * 1500 / pixels.shape[1])
    small = cv2.resize(pixels, (1500, height), interpolation=cv2.INTER_AREA)
    cv2.imwrite(str(IMAGES / f"{name}.jpg"), small, [cv2.IMWRITE_JPEG_QUALITY, 85])


def picked(found: Explanation, title: str, *names: str) -> Row:
    """Some panels of an explanation as a row."""
    return Row(title, tuple(found.panels[name] for name in names))


def maps() -> None:
    """Maps of `nano` for pictures of examples/."""
    examples = ROOT / "examples"
    person = explain(examples / "astronaut.jpg", "nano", point=(0.535, 0.21))
    inside = explain(examples / "astronaut.jpg", "nano", point=(0.45, 0.75))
    cat = explain(examples / "chelsea.jpg", "nano", field=False)
    cup = explain(examples / "coffee.jpg", "nano", field=False)
    sheet("explain", person.title, person.rows)
    sheet("encoder", "Localisation: maps of the encoder", [_encoder(f) for f in (person, cat)])

    parts = ("patches", "inward", "features", "coarse", "target", "gradient", "attention")
    rows = [
        picked(person, f"Stage {n}, stride {2 ** (n + 1)}", *(f"stage{n}-{p}" for p in parts))
        for n in (4, 3, 2)
    ]
    last = [f"stage1-{part}" for part in parts[:3]]
    rows.append(picked(person, "Stage 1, stride 4, and the head", *last, "head"))
    sheet("stages", "Reconstruction: four stages", rows)

    shown = ("picture", *(f"stage{n}-attention" for n in (4, 3, 2)), "uncertainty")
    rows = [picked(found, found.title, *shown) for found in (person, cup)]
    sheet("attention", "Attention of the outward reference, stages 4, 3 and 2", rows)

    columns = ("field", *(f"samples-stage{n}" for n in (4, 3, 2, 1)))
    rows = [
        picked(person, "A pixel on the outline of the head", *columns),
        picked(inside, "A pixel inside the suit", *columns),
    ]
    sheet("fields", "Receptive fields", rows)
    reads = [f"reads-stage{n}" for n in (4, 3, 2, 1)]
    row = picked(person, "The pixels at one position of the stacked tiles", *reads)
    sheet("reads", "Inward reference", [row])


def _encoder(found: Explanation) -> Row:
    names = ("picture", *(f"encoder-x{i}" for i in (1, 2, 3, 4)), "squeezed", "squeezed-strength")
    return picked(found, found.title, *names)


def efficiency() -> None:
    """The paper's Fig. 8 with the times of `benchmarks/efficiency.py`."""
    measured = json.loads((ROOT / "docs" / "data" / "efficiency.json").read_text(encoding="utf-8"))
    figure = Figure(figsize=(7.2, 3.6), layout="constrained", facecolor="white")
    axes = figure.add_subplot()
    for name, (_, _, _, scores) in TABLE_7.items():
        row = measured["networks"][name]
        score = float(scores.rpartition(" ")[2])
        axes.scatter(row["seconds"], score, s=row["parameters"] / 4e5, color="#3f6fb5", alpha=0.8)
        label = f"{name}, {row['parameters'] / 1e6:.0f} M"
        offset = {"textcoords": "offset points", "xytext": (9, -9)}
        axes.annotate(label, (row["seconds"], score), fontsize=8, **offset)
    axes.set(
        xlabel=f"seconds a picture of 1024 x 1024, {measured['threads']} threads of a CPU",
        ylabel="weighted F on DIS-TE (paper)",
        xlim=(0, 16),
        ylim=(0.8, 0.865),
    )
    axes.grid(alpha=0.25)
    axes.spines[["top", "right"]].set_visible(False)
    FigureCanvasSVG(figure).print_svg(IMAGES / "efficiency.svg", metadata={"Date": None})


def favicon() -> None:
    """A cut-out disc: half on a chequered ground, half on blue."""
    side = 64
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    chequers = np.where(((x // 8 + y // 8) % 2 == 0)[..., None], 255, 205)
    ground = np.where((x < 0)[..., None], np.array([181, 81, 63]), chequers)
    disc = np.clip(side * 0.34 + 0.5 - np.hypot(x, y), 0, 1)[..., None]
    pixels = disc * np.array([60, 160, 250]) + (1 - disc) * ground
    cv2.imwrite(str(IMAGES / "favicon.png"), pixels.round().astype(np.uint8))


def main() -> None:
    """Write them all to docs/images."""
    with torch.device("meta"):
        network = build_network("swin_v1_l")
    pipeline(network)
    block(network)
    favicon()
    efficiency()
    maps()


if __name__ == "__main__":
    main()
