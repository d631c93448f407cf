"""The network as users see it: presets, shapes, switches, training at batch size one."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from birefnet.network.birefnet import SupervisedOutput
from birefnet.network.blocks import BatchNorm2d
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS, NetworkConfig, preset
from birefnet.network.decoder import image_tiles

TINY = PRESETS["tiny"]


@pytest.mark.parametrize("name", [n for n in PRESETS if not n.startswith("dino")])
def test_every_preset_builds_on_the_meta_device(name: str) -> None:
    with torch.device("meta"):
        network = build_network(name)
        assert network.eval()(torch.empty(1, 3, 96, 64)).shape == (1, 1, 96, 64)
    assert NetworkConfig.from_dict(network.config.to_dict()) == network.config


@pytest.mark.parametrize(
    "change",
    [
        {"image_pyramid": "none"},
        {"image_pyramid": "add"},
        {"context_fusion": False},
        {"squeeze": False},
        {"inward_reference": "whole"},
        {"inward_reference": "none"},
        {"outward_reference": False},
        {"outward_reference": False, "multi_scale_supervision": False},
        {"attention": "plain"},
        {"attention": "none"},
        {"decoder_block": "residual"},
        {"decoder_block": "resnet"},
        {"auxiliary_classes": 219},
        {"auxiliary_classes": 219, "classifier_input": "context"},
        {"stage_channels": None},
        {"attention_kernels": (3, 5)},
        {"neck_channels": (8, 8, 16, 16)},
    ],
    ids=str,
)
def test_every_switch_trains_one_step_at_batch_size_one(change: dict[str, object]) -> None:
    torch.manual_seed(0)
    network = build_network(replace(TINY, **change))
    out = network(torch.randn(1, 3, 128, 96), supervised=True)
    assert isinstance(out, SupervisedOutput)
    assert out.logits.shape == (1, 1, 128, 96)
    total = sum((x.mean() for x in [*out.stages, *out.gradients]), torch.zeros(()))
    if out.classes is not None:
        assert out.classes.shape == (1, 219)
        total = total + out.classes.mean()
    total.backward()
    without = [n for n, p in network.named_parameters() if p.grad is None]
    assert not without


def test_layers_do_not_depend_on_the_batch_size() -> None:
    network = build_network(TINY)
    assert any(isinstance(m, BatchNorm2d) for m in network.modules())
    one = network.eval()(torch.ones(1, 3, 32, 32))
    three = network(torch.ones(3, 3, 32, 32))
    torch.testing.assert_close(three, one.expand_as(three))


@pytest.mark.parametrize(
    ("shape", "words"),
    [((3, 64, 64), "(B, 3, H, W)"), ((1, 1, 64, 64), "(B, 3, H, W)"), ((1, 3, 60, 64), "32")],
)
def test_a_wrong_batch_is_refused_with_the_cure(shape: tuple[int, ...], words: str) -> None:
    network = build_network(TINY).eval()
    with pytest.raises(ValueError, match="expected") as error:
        network(torch.zeros(shape))
    assert words in str(error.value)


def test_tiles_are_stacked_by_channel_then_row_then_column() -> None:
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    tiles = image_tiles(x, (2, 3))
    assert tiles.shape == (2, 12, 2, 3)
    for channel in range(3):
        for row in range(2):
            for column in range(2):
                expected = x[:, channel, 2 * row : 2 * row + 2, 3 * column : 3 * column + 3]
                assert torch.equal(tiles[:, 4 * channel + 2 * row + column], expected)


def test_configuration_refuses_contradictions_and_lists_choices() -> None:
    with pytest.raises(ValueError, match="there are swin_v1_l"):
        preset("nothing")
    with pytest.raises(ValueError, match="none, add, cat"):
        NetworkConfig(image_pyramid="sum")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="coarse maps"):
        NetworkConfig(multi_scale_supervision=False)
    with pytest.raises(ValueError, match="odd"):
        NetworkConfig(attention_kernels=(2,))
    with pytest.raises(ValueError, match="unknown network settings"):
        NetworkConfig.from_dict({"widht": 3})
    with pytest.raises(ValueError, match="efficientnet_lite0"):
        build_network(NetworkConfig("resnet51"))
