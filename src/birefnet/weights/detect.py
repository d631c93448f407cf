"""Find out from the shapes of its tensors how a network is built, whatever its file is called.

What shapes cannot tell: an image pyramid that adds (`image_pyramid="add"`) has the same tensors as
none at all, so `none` is assumed; dropout and drop path, which only matter in training, get their
defaults. `HOW_TO_TELL` says how to give what is not right.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from birefnet.errors import WeightsError, counted
from birefnet.network.backbones import build_backbone
from birefnet.network.build import WithoutParameters
from birefnet.network.config import (
    Attention,
    DecoderBlock,
    ImagePyramid,
    InwardReference,
    NetworkConfig,
)
from birefnet.network.guidance import is_guidance
from birefnet.weights.layouts import from_official, is_official

HOW_TO_TELL = (
    'pass it as config={{"{name}": "{value}"}} to birefnet.load or load_network, or as '
    "--network-config {name}={value} to a command"
)
"""How a user says what the tensors do not."""

Shape = tuple[int, ...]
Shapes = Mapping[str, Shape]

# Tensors that tell a backbone from all others; `None`: it has none of that name.
_SIGNATURES: dict[str, dict[str, Shape | None]] = {
    "swin_v1_l": {"patch_embed.proj.weight": (192, 3, 4, 4)},
    "swin_v1_b": {"patch_embed.proj.weight": (128, 3, 4, 4)},
    "swin_v1_s": {
        "patch_embed.proj.weight": (96, 3, 4, 4),
        "layers.2.blocks.17.norm1.weight": (384,),
    },
    "swin_v1_t": {
        "patch_embed.proj.weight": (96, 3, 4, 4),
        "layers.2.blocks.5.norm1.weight": (384,),
        "layers.2.blocks.6.norm1.weight": None,
    },
    "pvt_v2_b0": {"patch_embed1.proj.weight": (32, 3, 7, 7)},
    "pvt_v2_b1": {"patch_embed1.proj.weight": (64, 3, 7, 7), "block3.2.norm1.weight": None},
    "pvt_v2_b2": {
        "patch_embed1.proj.weight": (64, 3, 7, 7),
        "block3.5.norm1.weight": (320,),
        "block3.6.norm1.weight": None,
    },
    "pvt_v2_b5": {"patch_embed1.proj.weight": (64, 3, 7, 7), "block3.39.norm1.weight": (320,)},
    "vgg16": {"conv1.0.weight": (64, 3, 3, 3), "conv1.1.running_mean": None},
    "vgg16bn": {"conv1.0.weight": (64, 3, 3, 3), "conv1.1.running_mean": (64,)},
    "resnet50": {"conv1.0.weight": (64, 3, 7, 7)},
    "efficientnet_lite0": {
        "stem.conv.weight": (32, 3, 3, 3),
        "blocks.15.project.norm.weight": (320,),
    },
    "efficientnet_lite1": {
        "stem.conv.weight": (32, 3, 3, 3),
        "blocks.20.project.norm.weight": (320,),
    },
    "efficientnet_lite2": {
        "stem.conv.weight": (32, 3, 3, 3),
        "blocks.20.project.norm.weight": (352,),
    },
    **{
        f"timm:vit_{size}_patch16_dinov3": {
            "model.patch_embed.proj.weight": (width, 3, 16, 16),
            "model.reg_token": (1, 4, width),
            "model.pos_embed": None,
            f"model.blocks.{depth - 1}.mlp.{layer}.weight": (inner, width),
            f"model.blocks.{depth}.norm1.weight": None,
            "model.blocks.0.attn.q_bias": None,
        }
        for size, width, depth, layer, inner in (
            ("small", 384, 12, "fc1", 1536),
            ("small_plus", 384, 12, "fc1_g", 1536),
            ("base", 768, 12, "fc1", 3072),
            ("large", 1024, 24, "fc1", 4096),
            ("huge_plus", 1280, 32, "fc1_g", 5120),
            ("7b", 4096, 40, "fc1_g", 8192),
        )
    },
}


class _Network(NamedTuple):
    """Shapes by our names, looked up with words for what is missing."""

    shapes: Shapes

    def get(self, name: str) -> Shape | None:
        return self.shapes.get(name)

    def has(self, name: str) -> bool:
        return name in self.shapes

    def channels(self, name: str, axis: int) -> int:
        """Output (axis 0) or input (axis 1) channels of a convolution that every network has."""
        shape = self.shapes.get(name)
        if shape is None or len(shape) < 2:
            raise WeightsError(
                f"the weights lack {name!r} (a convolution), so they are not a whole BiRefNet: "
                "check that the file is complete"
            )
        return shape[axis]


def detect_config(shapes: Shapes, given: Mapping[str, object] | None = None) -> NetworkConfig:
    """The configuration of the network that has tensors of these names and shapes.

    Args:
        shapes: of every tensor, by our names or the official ones.
        given: fields of the configuration that are known; the others are found.

    Raises:
        WeightsError: not a BiRefNet, an unknown backbone, or one trained without BatchNorm.
    """
    network = _Network(from_official(shapes) if is_official(shapes) else shapes)
    _check_kind(network)
    given = given or {}
    backbone = str(given.get("backbone") or _backbone(network))
    with WithoutParameters():
        own = build_backbone(backbone).out_channels
    is_necked = network.has("neck.projections.0.weight")
    shallowest = "neck.projections.0.weight" if is_necked else "decoder.stages.3.lateral.weight"
    pyramid = _pyramid(network.channels(shallowest, 1), own[0])
    scales = 2 if pyramid == "cat" else 1
    whole, deepest = scales * sum(own), scales * own[3]
    neck = _neck(network, scales) if is_necked else None

    first = "decoder.stages.0.block."
    decoder_block = _decoder_block(network, first)
    squeeze = network.has("squeeze.conv_in.weight")
    attention, attention_width, kernels = _attention(network)
    inward, reference_width, reference = _inward(network)
    if squeeze:
        context = network.channels("squeeze.conv_in.weight", 1)
    elif is_necked:
        context = network.channels("neck.projections.3.weight", 1)
    else:
        context = network.channels(_entry(first, decoder_block), 1) - reference
    if context not in (whole, deepest):
        raise WeightsError(
            f"the decoder of these weights takes {counted(context, 'channel')} and a {backbone} "
            f"encoder gives {deepest} or {whole}: it is a variant that is not known here"
        )
    classifier = network.get("classifier.weight") or (0, deepest)
    outputs = tuple(
        network.channels(_exit(f"decoder.stages.{i}.block.", decoder_block), 0) for i in range(4)
    )
    assert len(outputs) == 4
    d1, d2, d3, _ = (scales * c for c in neck or own)
    try:
        found = NetworkConfig(
            backbone=backbone,
            image_pyramid=pyramid,
            context_fusion=context == whole,
            squeeze=squeeze,
            decoder_block=decoder_block,
            attention=attention,
            inward_reference=inward,
            outward_reference=network.has("decoder.stages.0.outward.conv.weight"),
            multi_scale_supervision=network.has("decoder.stages.0.coarse_head.weight"),
            auxiliary_classes=classifier[0],
            classifier_input="deepest" if classifier[1] == deepest else "context",
            block_width=network.channels(_entry(first, decoder_block), 0),
            attention_width=attention_width,
            attention_kernels=kernels,
            reference_width=reference_width,
            stage_channels=None if outputs == (d3, d2, d1, max(d1 // 2, 1)) else outputs,
            neck_channels=neck,
            guidance_channel=any(is_guidance(name) for name in network.shapes),
        )
        return NetworkConfig.from_dict({**found.to_dict(), **given}) if given else found
    except ValueError as failure:
        raise WeightsError(f"these weights contradict themselves: {failure}") from None


def _check_kind(network: _Network) -> None:
    if not any(name.startswith("encoder.backbone.") for name in network.shapes):
        raise WeightsError(
            "these weights are not a BiRefNet: no encoder (`bb.…` or `encoder.backbone.…`) among "
            f"{counted(len(network.shapes), 'tensor')}"
        )
    inside = [n for n in network.shapes if n.startswith(("decoder.", "squeeze."))]
    if not inside:
        raise WeightsError("these weights hold an encoder alone, without a decoder")
    if not any(name.endswith(".running_mean") for name in inside):
        raise WeightsError(
            "these weights have no BatchNorm in the decoder: the official code leaves it out when "
            "training with batch size 1, which makes another network that is not supported; train "
            "again with a batch of at least 2"
        )


def _backbone(network: _Network) -> str:
    prefix = "encoder.backbone."
    for name, signature in _SIGNATURES.items():
        if all(network.get(prefix + key) == shape for key, shape in signature.items()):
            return name
    raise WeightsError(
        f"the backbone of these weights is none of {', '.join(_SIGNATURES)}: if it is of timm, "
        + HOW_TO_TELL.format(name="backbone", value="timm:NAME")
    )


def _neck(network: _Network, scales: int) -> tuple[int, int, int, int]:
    c = [network.channels(f"neck.projections.{i}.weight", 0) // scales for i in range(4)]
    return (c[0], c[1], c[2], c[3])


def _pyramid(encoded: int, own: int) -> ImagePyramid:
    if encoded == 2 * own:
        return "cat"
    if encoded == own:
        return "none"  # or `add`, whose tensors are the same
    raise WeightsError(
        f"the decoder of these weights expects {counted(encoded, 'channel')} at stride 4, their "
        f"backbone gives {own}: it is a variant that is not known here"
    )


def _decoder_block(network: _Network, block: str) -> DecoderBlock:
    if network.has(f"{block}blocks.0.conv1.weight"):
        return "resnet"
    return "residual" if network.has(f"{block}shortcut.weight") else "basic"


def _entry(block: str, kind: DecoderBlock) -> str:
    return block + ("blocks.0.conv1.weight" if kind == "resnet" else "conv_in.weight")


def _exit(block: str, kind: DecoderBlock) -> str:
    return block + ("blocks.1.conv2.weight" if kind == "resnet" else "conv_out.weight")


def _attention(network: _Network) -> tuple[Attention, int, tuple[int, ...]]:
    """Kind, width and kernel sizes; the squeeze module and the decoder blocks share them."""
    default = NetworkConfig()
    for block in ("squeeze.", "decoder.stages.0.block."):
        branches = f"{block}attention.branches."
        plain = network.get(f"{branches}0.conv.weight")
        if plain is not None:
            return "plain", plain[0], default.attention_kernels
        regular: list[Shape] = []
        while shape := network.get(f"{branches}{len(regular)}.conv.regular.weight"):
            regular.append(shape)
        if regular:
            return "deformable", regular[0][0], tuple(shape[-1] for shape in regular[1:])
    if network.has("squeeze.conv_in.weight") or network.has(
        "decoder.stages.0.block.conv_in.weight"
    ):
        return "none", default.attention_width, default.attention_kernels
    return default.attention, default.attention_width, default.attention_kernels


def _inward(network: _Network) -> tuple[InwardReference, int, int]:
    """Kind, inner width, and channels that it adds to the deepest stage."""
    conv_in = network.get("decoder.stages.0.reference.conv_in.weight")
    if conv_in is None:
        return "none", NetworkConfig().reference_width, 0
    added = network.channels("decoder.stages.0.reference.conv_out.weight", 0)
    # Split at stride 32, the picture's three channels become 3 * 32 * 32.
    kind: InwardReference = "split" if conv_in[1] == 3 * 32 * 32 else "whole"
    return kind, conv_in[0], added
