"""Files of the layout `comfyui` hold what ComfyUI's own loader asks for.

The names and shapes below are those that `comfy/background_removal/birefnet.py` declares (read in
github.com/comfyanonymous/ComfyUI, 2026-10); it loads without strictness and only warns of what is
missing, so a file that differed would give a wrong network silently.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from birefnet.imaging.geometry import Preprocess
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.weights.save import save_file
from official import official_shapes

Shapes = dict[str, tuple[int, ...]]
WIDTHS, DEPTHS, HEADS, WINDOW = (192, 384, 768, 1536), (2, 2, 18, 2), (6, 12, 24, 48), 12
INNER, BRANCH = 64, 256


def layer(name: str, *shape: int, bias: bool = True) -> Shapes:
    shapes: Shapes = {f"{name}.weight": shape}
    return {**shapes, f"{name}.bias": shape[:1]} if bias else shapes


def batch_norm(name: str, width: int) -> Shapes:
    statistics = {f"{name}.running_mean": (width,), f"{name}.running_var": (width,)}
    return {**layer(name, width), **statistics, f"{name}.num_batches_tracked": ()}


def swin() -> Shapes:
    shapes = {**layer("bb.patch_embed.proj", 192, 3, 4, 4), **layer("bb.patch_embed.norm", 192)}
    for stage, (width, depth, heads) in enumerate(zip(WIDTHS, DEPTHS, HEADS, strict=True)):
        shapes |= layer(f"bb.norm{stage}", width)
        for number in range(depth):
            block = f"bb.layers.{stage}.blocks.{number}"
            shapes |= {
                f"{block}.attn.relative_position_bias_table": ((2 * WINDOW - 1) ** 2, heads),
                f"{block}.attn.relative_position_index": (WINDOW**2, WINDOW**2),
                **layer(f"{block}.norm1", width),
                **layer(f"{block}.norm2", width),
                **layer(f"{block}.attn.qkv", 3 * width, width),
                **layer(f"{block}.attn.proj", width, width),
                **layer(f"{block}.mlp.fc1", 4 * width, width),
                **layer(f"{block}.mlp.fc2", width, 4 * width),
            }
        if stage < 3:
            merge = f"bb.layers.{stage}.downsample"
            shapes |= layer(f"{merge}.reduction", 2 * width, 4 * width, bias=False)
            shapes |= layer(f"{merge}.norm", 4 * width)
    return shapes


def decoder_block(name: str, wide: int, out: int) -> Shapes:
    shapes = {**layer(f"{name}.conv_in", INNER, wide, 3, 3), **batch_norm(f"{name}.bn_in", INNER)}
    shapes |= {**layer(f"{name}.conv_out", out, INNER, 3, 3), **batch_norm(f"{name}.bn_out", out)}
    attention = f"{name}.dec_att"
    branches = [f"{attention}.aspp1", *(f"{attention}.aspp_deforms.{i}" for i in range(3))]
    for branch, side in zip(branches, (1, 1, 3, 7), strict=True):
        conv = f"{branch}.atrous_conv"
        shapes |= layer(f"{conv}.offset_conv", 2 * side**2, INNER, side, side)
        shapes |= layer(f"{conv}.modulator_conv", side**2, INNER, side, side)
        shapes |= layer(f"{conv}.regular_conv", BRANCH, INNER, side, side, bias=False)
        shapes |= batch_norm(f"{branch}.bn", BRANCH)
    shapes |= layer(f"{attention}.global_avg_pool.1", BRANCH, INNER, 1, 1, bias=False)
    shapes |= batch_norm(f"{attention}.global_avg_pool.2", BRANCH)
    shapes |= layer(f"{attention}.conv1", INNER, 5 * BRANCH, 1, 1, bias=False)
    return shapes | batch_norm(f"{attention}.bn1", INNER)


def comfyui_shapes() -> Shapes:
    """Every entry of the state of ComfyUI's module."""
    wide = [2 * width for width in reversed(WIDTHS)]  # 3072, 1536, 768, 384
    shapes = swin() | decoder_block("squeeze_module.0", wide[0] + sum(wide[1:]), wide[0])
    patches = [wide[0] // 8, wide[0] // 8, wide[1] // 8, wide[2] // 8, wide[3] // 8]
    for index, out in enumerate(patches):
        number = 5 - index
        name = f"decoder.ipt_blk{number}"
        # The last one sees the picture itself, the others its patches side by side.
        shapes |= layer(f"{name}.conv1", INNER, 3 * 4**number if number > 1 else 3, 3, 3)
        shapes |= layer(f"{name}.conv_out", out, INNER, 3, 3)
    for index, number in enumerate((4, 3, 2, 1)):
        out = wide[index + 1] if index < 3 else wide[3] // 2
        shapes |= decoder_block(f"decoder.decoder_block{number}", wide[index] + patches[index], out)
    for index, number in enumerate((4, 3, 2)):
        width = wide[index + 1]
        shapes |= layer(f"decoder.lateral_block{number}.conv", width, width, 1, 1)
        shapes |= layer(f"decoder.conv_ms_spvn_{number}", 1, width, 1, 1)
        shapes |= layer(f"decoder.gdt_convs_{number}.0", 16, wide[index] // 2, 3, 3)
        shapes |= batch_norm(f"decoder.gdt_convs_{number}.1", 16)
        shapes |= layer(f"decoder.gdt_convs_pred_{number}.0", 1, 16, 1, 1)
        shapes |= layer(f"decoder.gdt_convs_attn_{number}.0", 1, 16, 1, 1)
    return shapes | layer("decoder.conv_out1.0", 1, wide[3] // 2 + patches[4], 1, 1)


def test_comfyui_declares_the_official_network() -> None:
    """So that any file with the official names and no prefix is complete for it."""
    expected, official = comfyui_shapes(), official_shapes("swin_v1_l")
    assert {k: v for k, v in expected.items() if official.get(k) != v} == {}
    assert set(official) - set(expected) == set()


@pytest.mark.slow
def test_a_file_for_comfyui(tmp_path: Path) -> None:
    """Written by `birefnet models convert … --layout comfyui`, of a whole Swin-L."""
    with torch.device("meta"):
        network = build_network(preset("swin_v1_l"))
    network = network.to_empty(device="cpu").half()
    for value in network.state_dict().values():
        value.zero_()
    own = Preprocess(96, 64, interpolation="bicubic", views=((96, 64, False), (64, 64, True)))
    path = save_file(tmp_path / "birefnet.safetensors", network, own, layout="comfyui")
    with safe_open(path, "pt") as file:
        assert json.loads(file.metadata()["birefnet"])["preprocess"] == own.to_dict()
        shapes = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    assert "bb.layers.1.blocks.0.attn.relative_position_index" in shapes  # how it is recognised
    assert shapes == comfyui_shapes()
