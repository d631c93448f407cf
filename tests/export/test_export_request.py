"""What exported files say of the pictures they want."""

from __future__ import annotations

import pytest

from birefnet.export.request import Request
from birefnet.imaging.geometry import Preprocess
from birefnet.network.build import build_network
from birefnet.network.simplify import simplify


@pytest.mark.parametrize(
    ("fit", "dynamic", "size", "expected"),
    [
        ("stretch", False, None, (1024, 1024, "stretch")),
        ("stretch", False, (192, 96), (192, 96, "stretch")),
        ("stretch", True, (192, 96), (192, 96, "stretch")),
        ("pad", False, (192, 96), (192, 96, "pad")),
        ("native", False, (192, 96), (192, 96, "stretch")),
        ("native", True, None, (1024, 1024, "native")),
    ],
)
def test_file_of_one_size_asks_for_it(
    fit: str, dynamic: bool, size: tuple[int, int] | None, expected: tuple[int, int, str]
) -> None:
    """Otherwise a predictor would prepare pictures at the weights' size, which the file refuses."""
    network = simplify(build_network("tiny").eval())
    request = Request(network, Preprocess(fit=fit), size=size, dynamic=dynamic)  # type: ignore[arg-type]
    about = request.metadata().preprocess
    assert (about.width, about.height, about.fit) == expected


@pytest.mark.parametrize(
    ("dynamic", "size", "kept"), [(True, None, True), (True, (64, 64), False), (False, None, False)]
)
def test_files_for_every_size_keep_the_looks(
    dynamic: bool, size: tuple[int, int] | None, kept: bool
) -> None:
    network = simplify(build_network("tiny").eval())
    preprocess = Preprocess(64, 64, looks=((96, 96, True), (64, 64, False)))
    request = Request(network, preprocess, size=size, dynamic=dynamic)
    assert request.metadata().preprocess.looks == (preprocess.looks if kept else ())
