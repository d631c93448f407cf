"""The architecture is found from the shapes alone, for every official key list and preset."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from birefnet.errors import WeightsError
from birefnet.network.backbones import BACKBONES, build_backbone
from birefnet.network.build import WithoutParameters, empty_network
from birefnet.network.config import PRESETS, NetworkConfig, preset
from birefnet.weights import detect
from birefnet.weights.detect import detect_config
from birefnet.weights.layouts import from_official, to_official
from official import NETWORKS, official_shapes

B0 = NetworkConfig(backbone="pvt_v2_b0")
OFFICIAL = {
    "swin_v1_t": preset("swin_v1_t"),
    "swin_v1_l": preset("swin_v1_l"),
    "pvt_v2_b0": B0,
    "pvt_v2_b2": preset("pvt_v2_b2"),
    "resnet50": preset("resnet50"),
    "vgg16bn": preset("vgg16bn"),
    "dino_v3_s": preset("dino_v3_s"),
    "ablation_no_image_pyramid": replace(B0, image_pyramid="none"),
    "ablation_image_pyramid_add": replace(B0, image_pyramid="none"),  # shapes cannot tell
    "ablation_no_context": replace(B0, context_fusion=False),
    "ablation_no_out_ref": replace(B0, outward_reference=False),
    "ablation_in_ref_whole_image": replace(B0, inward_reference="whole"),
    "variant_aspp_plain": replace(B0, attention="plain"),
    "variant_residual_decoder": replace(B0, decoder_block="residual"),
    "variant_auxiliary_classification": replace(B0, auxiliary_classes=219),
}


def test_every_official_key_list_is_tested() -> None:
    names = {p.name.removesuffix(".keys.tsv") for p in NETWORKS.glob("*.tsv")}
    assert names == set(OFFICIAL)


@pytest.mark.parametrize("name", OFFICIAL)
def test_official_layouts(name: str) -> None:
    if OFFICIAL[name].backbone.startswith("timm:"):
        pytest.importorskip("timm")
    assert detect_config(official_shapes(name)) == OFFICIAL[name]


@pytest.mark.parametrize("name", [n for n in PRESETS if not n.startswith("dino")])
def test_every_preset_is_found_again(name: str) -> None:
    config = PRESETS[name]
    if config.backbone == "swin_v1_l" and name != "swin_v1_l":  # smaller, for the same decoder
        config = replace(config, backbone="efficientnet_lite0")
    shapes = {k: tuple(v.shape) for k, v in empty_network(config).state_dict().items()}
    expected = replace(config, dropout=NetworkConfig().dropout)
    if config.image_pyramid == "add":
        expected = replace(expected, image_pyramid="none")
    assert detect_config(shapes) == expected
    assert detect_config(to_official(shapes)) == expected


@pytest.mark.parametrize(
    "change",
    [
        {"squeeze": False},
        {"squeeze": False, "context_fusion": False},
        {"squeeze": False, "inward_reference": "none", "reference_width": 64},
        {"decoder_block": "resnet", "squeeze": False},
        {"attention": "none", "attention_width": 256, "attention_kernels": (1, 3, 7)},
        {"attention_kernels": (3,)},
        {"stage_channels": None},
        {"image_pyramid": "none", "stage_channels": None},
        {"inward_reference": "none", "reference_width": 64},
        {"auxiliary_classes": 5, "classifier_input": "context"},
        {"auxiliary_classes": 5},
    ],
)
def test_combinations_of_switches(change: dict[str, object]) -> None:
    config = replace(preset("tiny"), dropout=0.5, **change)  # type: ignore[arg-type]
    if config.decoder_block == "resnet":  # no attention anywhere, so none can be found
        config = replace(config, attention_width=256, attention_kernels=(1, 3, 7))
    shapes = {k: tuple(v.shape) for k, v in empty_network(config).state_dict().items()}
    assert detect_config(shapes) == config


def test_every_backbone_has_one_signature() -> None:
    assert set(BACKBONES) <= set(detect._SIGNATURES)
    for name in BACKBONES:
        with WithoutParameters():
            state = build_backbone(name).state_dict()
        shapes = {f"encoder.backbone.{k}": tuple(v.shape) for k, v in state.items()}
        matching = [
            other
            for other, signature in detect._SIGNATURES.items()
            if all(shapes.get(f"encoder.backbone.{k}") == s for k, s in signature.items())
        ]
        assert matching == [name]


@pytest.mark.parametrize("name", [n for n in PRESETS if n.startswith("dino_v3")])
def test_dinov3_presets_are_found_again_and_have_the_official_names(name: str) -> None:
    pytest.importorskip("timm")
    config = PRESETS[name]
    shapes = {k: tuple(v.shape) for k, v in empty_network(config).state_dict().items()}
    official = to_official(shapes)
    expected = {re.sub(r"blocks\.\d+\.", "", key) for key in official_shapes("dino_v3_s")}
    if "fc1_g" in " ".join(official):  # the larger ones have another perceptron, with a gate
        gates = {key.replace("fc1", f"fc1_{x}") for x in "gx" for key in expected if "fc1" in key}
        expected = {key for key in expected if "fc1" not in key} | gates
    assert {re.sub(r"blocks\.\d+\.", "", key) for key in official} == expected
    assert from_official(official) == shapes
    assert detect_config(shapes) == detect_config(official) == config


@pytest.mark.parametrize(
    "change",
    [
        {"image_pyramid": "none"},
        {"context_fusion": False},
        {"squeeze": False},
        {"neck_channels": (8, 16, 24, 32)},
        {"stage_channels": (16, 16, 8, 8)},
    ],
)
def test_switches_of_a_network_with_a_neck(change: dict[str, object]) -> None:
    settings = {"neck_channels": (24, 32, 48, 64), "dropout": 0.5, **change}
    config = replace(preset("tiny"), **settings)  # type: ignore[arg-type]
    shapes = {k: tuple(v.shape) for k, v in empty_network(config).state_dict().items()}
    assert detect_config(shapes) == detect_config(to_official(shapes)) == config


def test_every_preset_of_dinov3_has_both_spellings() -> None:
    official = [name for name in PRESETS if name.startswith("dino_v3_")]
    assert [name.removeprefix("dino_v3_") for name in official] == [
        "s",
        "s_plus",
        "b",
        "l",
        "h_plus",
        "7b",
    ]
    for name in official:
        assert PRESETS[name.replace("dino_v3", "dinov3")] == PRESETS[name]


def test_networks_trained_without_batchnorm_are_refused() -> None:
    shapes = official_shapes("swin_v1_t")
    without = {k: s for k, s in shapes.items() if ".bn" not in k and "gdt_convs" not in k}
    without = {k: s for k, s in without.items() if not k.endswith(("running_mean", "running_var"))}
    with pytest.raises(WeightsError, match=r"no BatchNorm in the decoder.*batch size 1"):
        detect_config(without)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda s: {}, "not a BiRefNet"),
        (lambda s: {f"x.{k}": v for k, v in s.items()}, "not a BiRefNet"),
        (lambda s: {k: v for k, v in s.items() if k.startswith("bb.")}, "an encoder alone"),
        (lambda s: {**s, "bb.patch_embed.proj.weight": (100, 3, 4, 4)}, "none of swin_v1_l"),
        (lambda s: {**s, "decoder.lateral_block2.conv.weight": (9, 9, 1, 1)}, "expects 9 channels"),
        (lambda s: {**s, "squeeze_module.0.conv_in.weight": (64, 9, 3, 3)}, "takes 9 channels"),
        (
            lambda s: {k: v for k, v in s.items() if "lateral_block2" not in k},
            "not a whole BiRefNet",
        ),
    ],
)
def test_what_is_no_network_is_told_in_a_sentence(change: object, told: str) -> None:
    shapes = official_shapes("swin_v1_t")
    with pytest.raises(WeightsError, match=told) as caught:
        detect_config(change(shapes))  # type: ignore[operator]
    assert "\n" not in str(caught.value)
