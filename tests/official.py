"""The released networks' lists of parameters, as kept beside the reference numbers."""

from __future__ import annotations

from pathlib import Path

NETWORKS = Path(__file__).parent / "reference" / "network"


def official_shapes(name: str) -> dict[str, tuple[int, ...]]:
    """Official key → shape, of the reference network `name`."""
    shapes = {}
    for line in (NETWORKS / f"{name}.keys.tsv").read_text().splitlines():
        key, shape, _ = line.split("\t")
        shapes[key] = () if shape == "scalar" else tuple(map(int, shape.split("x")))
    return shapes
