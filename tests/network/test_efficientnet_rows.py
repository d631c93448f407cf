"""EfficientNet a few rows at a time gives the same maps."""

from __future__ import annotations

import pytest
import torch

from birefnet.network.backbones import efficientnet_rows
from birefnet.network.backbones.efficientnet_lite import EfficientNetLite
from birefnet.network.backbones.efficientnet_rows import RowwiseEfficientNet
from birefnet.network.build import build_network
from birefnet.network.cpu_optimised import cpu_optimised
from birefnet.network.simplify import simplify


@pytest.fixture(scope="module")
def backbones() -> tuple[EfficientNetLite, RowwiseEfficientNet]:
    torch.manual_seed(0)
    network = build_network("nano").train()
    with torch.no_grad():
        network(torch.randn(2, 3, 64, 64))  # so that BatchNorm has statistics of its own
        network = simplify(network, inplace=True)
    backbone = network.encoder.backbone
    assert isinstance(backbone, EfficientNetLite)
    return backbone, RowwiseEfficientNet(backbone)


@pytest.mark.parametrize("size", [(1, 64, 64), (2, 96, 32), (1, 75, 101), (1, 33, 260)])
@pytest.mark.parametrize("strip", [1, 3000, 40_000])
def test_the_maps_are_the_same(
    backbones: tuple[EfficientNetLite, RowwiseEfficientNet],
    size: tuple[int, int, int],
    strip: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(efficientnet_rows, "_WORTH_IT", 1)
    monkeypatch.setattr(efficientnet_rows, "_STRIP", strip)
    whole, in_rows = backbones
    batch, height, width = size
    x = torch.randn(batch, 3, height, width)
    x[:, :, :2] += 5  # borders that matter
    with torch.inference_mode():
        for expected, given in zip(whole(x), in_rows(x), strict=True):
            assert given.shape == expected.shape
            torch.testing.assert_close(given, expected, atol=1e-5, rtol=1e-5)


def test_small_maps_stay_whole(
    backbones: tuple[EfficientNetLite, RowwiseEfficientNet], monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(*_: object) -> None:
        raise AssertionError("cut into rows")

    monkeypatch.setattr(efficientnet_rows, "_rows", never)
    whole, in_rows = backbones
    x = torch.randn(1, 3, 64, 96)
    with torch.inference_mode():
        for expected, given in zip(whole(x), in_rows(x), strict=True):
            torch.testing.assert_close(given, expected)
        with pytest.raises(AssertionError, match="cut into rows"):
            in_rows(torch.randn(1, 3, 704, 704))


def test_cpu_optimised_networks_take_it() -> None:
    network = simplify(build_network("nano").eval(), inplace=True)
    assert isinstance(
        cpu_optimised(network).encoder.get_submodule("source.backbone"), RowwiseEfficientNet
    )
    assert isinstance(network.encoder.backbone, EfficientNetLite)
