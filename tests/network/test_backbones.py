"""Every backbone: names and shapes of the released checkpoints, equal numbers, any size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from birefnet.network.backbones import BACKBONES, Backbone, build_backbone
from reference.fill import fill, image

FOLDER = Path(__file__).parent.parent / "reference" / "network"
REFERENCES = ["swin_v1_t", "swin_v1_l", "pvt_v2_b0", "pvt_v2_b2", "resnet50", "vgg16bn"]
SMALL = ["swin_v1_t", "pvt_v2_b0", "vgg16", "resnet50", "efficientnet_lite0"]
MILLION_PARAMETERS = {
    "swin_v1_t": 27.5,
    "swin_v1_s": 48.8,
    "swin_v1_b": 86.9,
    "swin_v1_l": 195.2,
    "pvt_v2_b0": 3.4,
    "pvt_v2_b1": 13.5,
    "pvt_v2_b2": 24.9,
    "pvt_v2_b5": 81.4,
    "vgg16": 14.7,
    "vgg16bn": 14.7,
    "resnet50": 23.5,
    "efficientnet_lite0": 2.96,
    "efficientnet_lite1": 3.72,
    "efficientnet_lite2": 4.36,
}


def resize(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=True)


def on_meta(name: str) -> Backbone:
    with torch.device("meta"):
        return build_backbone(name)


@pytest.mark.parametrize("name", REFERENCES)
def test_names_shapes_and_types_are_those_of_the_released_checkpoints(name: str) -> None:
    lines = (FOLDER / f"{name}.keys.tsv").read_text().splitlines()
    expected = {line for line in lines if line.startswith("bb.")}
    ours = {
        f"bb.{key}\t{'x'.join(map(str, value.shape)) or 'scalar'}\t"
        f"{str(value.dtype).removeprefix('torch.')}"
        for key, value in on_meta(name).state_dict().items()
    }
    assert ours == expected


@pytest.mark.parametrize("name", REFERENCES)
def test_maps_have_the_released_networks_mean_and_deviation(name: str) -> None:
    backbone = build_backbone(name).eval()
    for key, value in backbone.state_dict().items():
        if value.is_floating_point():
            value.copy_(torch.from_numpy(fill(f"bb.{key}", tuple(value.shape))))
    with np.load(FOLDER / f"{name}.npz") as file:
        expected = dict(file)
    cases = [key.split("/")[0] for key in expected if key.endswith("/encoder_stats")]
    assert cases
    for case in cases:
        batch, _, height, width = expected[f"{case}/logits"].shape
        x = torch.from_numpy(image(case, batch, height, width))
        with torch.inference_mode():
            full, half = backbone(x), backbone(resize(x, (height // 2, width // 2)))
            maps = [
                torch.cat([large, resize(small, large.shape[-2:])], dim=1)
                for large, small in zip(full, half, strict=True)
            ]
            shallow = [resize(x, maps[-1].shape[-2:]) for x in maps[:-1]]
            maps[-1] = torch.cat([*shallow, maps[-1]], dim=1)
        stats = np.array([[x.mean().item(), x.std().item()] for x in maps])
        scale = np.abs(expected[f"{case}/encoder_stats"]).max()
        np.testing.assert_allclose(stats, expected[f"{case}/encoder_stats"], atol=1e-4 * scale)


@pytest.mark.parametrize("name", BACKBONES)
def test_size_and_channels_on_the_meta_device(name: str) -> None:
    backbone = on_meta(name)
    count = sum(p.numel() for p in backbone.parameters()) / 1e6
    assert count == pytest.approx(MILLION_PARAMETERS[name], rel=0.005)
    maps = backbone(torch.empty(2, 3, 160, 224, device="meta"))
    assert [tuple(x.shape) for x in maps] == [
        (2, channels, 160 // stride, 224 // stride)
        for channels, stride in zip(backbone.out_channels, (4, 8, 16, 32), strict=True)
    ]


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("size", [(48, 80), (33, 47), (64, 32)])
def test_odd_sizes(name: str, size: tuple[int, int]) -> None:
    backbone = build_backbone(name).eval()
    with torch.inference_mode():
        maps = backbone(torch.randn(1, 3, *size))
    down = (lambda n, s: n // s) if name == "vgg16" else (lambda n, s: -(-n // s))
    assert [tuple(x.shape[-2:]) for x in maps] == [
        (down(size[0], stride), down(size[1], stride)) for stride in (4, 8, 16, 32)
    ]
    assert all(x.isfinite().all() for x in maps)


@pytest.mark.parametrize("name", SMALL)
def test_evaluation_is_deterministic_and_treats_pictures_alone(name: str) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, drop_path=0.5).eval()
    x = torch.randn(2, 3, 64, 96)
    with torch.inference_mode():
        both, again, second = backbone(x), backbone(x), backbone(x[1:])
    for a, b, c in zip(both, again, second, strict=True):
        assert torch.equal(a, b)
        torch.testing.assert_close(a[1:], c, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SMALL)
def test_checkpointing_changes_memory_only(name: str) -> None:
    results = []
    for checkpointing in (False, True):
        torch.manual_seed(0)
        backbone = build_backbone(name, drop_path=0.3).train()
        backbone.gradient_checkpointing = checkpointing
        maps = backbone(torch.randn(2, 3, 64, 64))
        sum(x.square().mean() for x in maps).backward()
        gradients = {key: p.grad for key, p in backbone.named_parameters()}
        results.append((maps, gradients, dict(backbone.named_buffers())))
    (maps, gradients, buffers), (maps2, gradients2, buffers2) = results
    torch.testing.assert_close(maps, maps2)
    torch.testing.assert_close(gradients, gradients2)
    torch.testing.assert_close(buffers, buffers2)  # BatchNorm counts a batch once


def test_an_unknown_name_lists_what_exists() -> None:
    with pytest.raises(ValueError, match=r"there are swin_v1_t, .*, and timm:NAME"):
        build_backbone("swin")


def test_drop_path_must_be_a_probability() -> None:
    with pytest.raises(ValueError, match="below 1, got"):
        build_backbone("pvt_v2_b0", drop_path=1.5)
