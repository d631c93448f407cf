"""The description of a BiRefNet: one frozen, documented description, and named presets.

Sources: Zheng et al., "Bilateral Reference for High-Resolution Dichotomous Image Segmentation",
CAAI AIR 2024 (Sec. 3, Tables 1-3 and 7), and the released checkpoints.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal, get_args

ImagePyramid = Literal["none", "add", "cat"]
InwardReference = Literal["split", "whole", "none"]
Attention = Literal["deformable", "plain", "none"]
DecoderBlock = Literal["basic", "residual", "resnet"]
ClassifierInput = Literal["deepest", "context"]


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture of one network.

    Attributes:
        backbone: name of the encoder, see `birefnet.network.build.BACKBONES`; `timm:NAME` takes any
            timm model with feature maps (extra `timm`).
        image_pyramid: how the half-scale pass of the encoder joins the full-scale one
            (paper Table 3, IPT): `cat` doubles the channels, `add` sums, `none` skips it.
        context_fusion: resize x1, x2, x3 to x4 and concatenate them before it (Table 3, CFF).
        squeeze: put one decoder block between encoder and decoder.
        decoder_block: `basic` is the reconstruction block (Table 2, RM); `residual` adds a
            projected shortcut to it; `resnet` is the paper's baseline, two residual blocks.
        attention: multi-context module inside a block: `deformable` (the paper's), `plain` (dilated
            ASPP) or `none`.
        inward_reference: tiles of the source image at its own resolution (`split`), the whole image
            resized (`whole`), or `none` (Sec. 3.4, InRef).
        outward_reference: gradient-supervised attention after stages 4, 3, 2 (Sec. 3.4, OutRef).
        multi_scale_supervision: heads for coarse maps at stages 4, 3, 2 (Sec. 3.6, MSS).
        auxiliary_classes: classes of the auxiliary head; 0 leaves it out (219 for DIS5K).
        classifier_input: what that head reads: `deepest`, x4 alone, as in the released code, or
            `context`, x4 with the fused context, as in the paper (Sec. 3.2).
        block_width: channels inside a decoder block.
        attention_width: channels of each branch of the attention.
        attention_kernels: kernel sizes of the deformable branches (after the fixed 1x1 branch).
        reference_width: channels inside an image-patch block.
        stage_channels: output channels of the decoder stages 4, 3, 2, 1 (deep to shallow); `None`
            follows the encoder: c3, c2, c1, c1 // 2.
        neck_channels: project the four maps (shallow to deep) to these channels, twice as many
            with the pyramid `cat`, and resize them to strides 4, 8, 16, 32, for a backbone whose
            maps share one stride; `None` uses the maps as they are.
        guidance_channel: the encoder reads a fourth channel too, which says what object is meant
            (see `birefnet.network.guidance`); pictures of three channels still do.
        drop_path: stochastic depth of the backbone while training, 0 to 1.
        dropout: dropout behind the attention while training, 0 to 1.
    """

    backbone: str = "swin_v1_l"
    image_pyramid: ImagePyramid = "cat"
    context_fusion: bool = True
    squeeze: bool = True
    decoder_block: DecoderBlock = "basic"
    attention: Attention = "deformable"
    inward_reference: InwardReference = "split"
    outward_reference: bool = True
    multi_scale_supervision: bool = True
    auxiliary_classes: int = 0
    classifier_input: ClassifierInput = "deepest"
    block_width: int = 64
    attention_width: int = 256
    attention_kernels: tuple[int, ...] = (1, 3, 7)
    reference_width: int = 64
    stage_channels: tuple[int, int, int, int] | None = None
    neck_channels: tuple[int, int, int, int] | None = None
    guidance_channel: bool = False
    drop_path: float | None = None
    dropout: float = 0.5

    def __post_init__(self) -> None:
        for name, choices in _CHOICES.items():
            value = getattr(self, name)
            if value not in choices:
                raise ValueError(f"{name}={value!r} is unknown; choose one of {', '.join(choices)}")
        for name in ("block_width", "attention_width", "reference_width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if any(k < 1 or k % 2 == 0 for k in self.attention_kernels):
            raise ValueError(f"attention_kernels must be odd sizes, got {self.attention_kernels}")
        if self.auxiliary_classes < 0:
            raise ValueError(f"auxiliary_classes must be 0 or more, got {self.auxiliary_classes}")
        if self.outward_reference and not self.multi_scale_supervision:
            raise ValueError(
                "outward_reference=True needs multi_scale_supervision=True: its target is "
                "masked by the coarse maps; switch both off, or keep both"
            )
        for name in ("attention_kernels", "stage_channels", "neck_channels"):
            value = getattr(self, name)
            if isinstance(value, list):  # as JSON gives it
                object.__setattr__(self, name, tuple(value))

    @property
    def necked_channels(self) -> tuple[int, int, int, int] | None:
        """Channels of x1..x4 behind the neck; `None` without one."""
        if self.neck_channels is None:
            return None
        c1, c2, c3, c4 = self.neck_channels
        scales = 2 if self.image_pyramid == "cat" else 1
        return c1 * scales, c2 * scales, c3 * scales, c4 * scales

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values that JSON can hold."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> NetworkConfig:
        """The inverse of `to_dict`; unknown names raise `ValueError`."""
        known = {field.name: field.default for field in fields(cls)}
        unknown = sorted(set(values) - set(known))
        if unknown:
            raise ValueError(f"unknown network settings {unknown}; known are {sorted(known)}")
        for name, value in values.items():
            if isinstance(known[name], bool) and not isinstance(value, bool):
                raise ValueError(f"{name} is {value!r}; it must be true or false")
        return cls(**values)


_CHOICES: dict[str, tuple[str, ...]] = {
    "image_pyramid": get_args(ImagePyramid),
    "decoder_block": get_args(DecoderBlock),
    "attention": get_args(Attention),
    "inward_reference": get_args(InwardReference),
    "classifier_input": get_args(ClassifierInput),
}

_BACKBONES = (
    "swin_v1_l",
    "swin_v1_b",
    "swin_v1_s",
    "swin_v1_t",
    "pvt_v2_b0",
    "pvt_v2_b1",
    "pvt_v2_b2",
    "pvt_v2_b5",
    "vgg16",
    "vgg16bn",
    "resnet50",
    "efficientnet_lite0",
    "efficientnet_lite1",
    "efficientnet_lite2",
)
_SWIN_L_CHANNELS = (192, 384, 768, 1536)
_SLIM = NetworkConfig(
    block_width=32,
    attention_width=32,
    attention_kernels=(1, 3),
    reference_width=16,
    stage_channels=(96, 64, 48, 32),
    dropout=0.1,
)

PRESETS: dict[str, NetworkConfig] = {
    **{name: NetworkConfig(backbone=name) for name in _BACKBONES},
    **{
        f"{family}_{size}": NetworkConfig(
            backbone=f"timm:vit_{timm_size}_patch16_dinov3", neck_channels=_SWIN_L_CHANNELS
        )
        for family in ("dino_v3", "dinov3")  # the official spelling, and the common one
        for size, timm_size in (
            ("s", "small"),
            ("s_plus", "small_plus"),
            ("b", "base"),
            ("l", "large"),
            ("h_plus", "huge_plus"),
            ("7b", "7b"),
        )
    },
    # Ablations of the paper, on its own encoder. Table 2: components.
    "ablation_baseline": NetworkConfig(
        decoder_block="resnet",
        attention="plain",
        inward_reference="none",
        outward_reference=False,
        image_pyramid="none",
        context_fusion=False,
    ),
    "ablation_no_reconstruction": NetworkConfig(decoder_block="resnet"),
    "ablation_no_inward_reference": NetworkConfig(inward_reference="none"),
    "ablation_whole_inward_reference": NetworkConfig(inward_reference="whole"),
    "ablation_no_outward_reference": NetworkConfig(outward_reference=False),
    # Table 3: strategies.
    "ablation_no_context_fusion": NetworkConfig(context_fusion=False),
    "ablation_no_image_pyramid": NetworkConfig(image_pyramid="none"),
    "ablation_image_pyramid_add": NetworkConfig(image_pyramid="add"),
    # Table 1: multi-stage supervision.
    "ablation_no_multi_scale_supervision": NetworkConfig(
        multi_scale_supervision=False, outward_reference=False
    ),
    # Variants of the released code.
    "variant_plain_aspp": NetworkConfig(attention="plain"),
    "variant_no_aspp": NetworkConfig(attention="none"),
    "variant_residual_decoder": NetworkConfig(decoder_block="residual"),
    "variant_auxiliary_classification": NetworkConfig(auxiliary_classes=219),
    # Small ones of this project.
    "nano": replace(_SLIM, backbone="efficientnet_lite0"),
    "tiny": replace(  # for tests: everything there is, as small as it goes
        _SLIM,
        backbone="efficientnet_lite0",
        block_width=8,
        attention_width=8,
        reference_width=4,
        stage_channels=(16, 16, 8, 8),
    ),
}


def preset(name: str) -> NetworkConfig:
    """The configuration called `name`; raises `ValueError` that lists what exists."""
    try:
        return PRESETS[name]
    except KeyError:
        raise ValueError(f"no preset {name!r}; there are {', '.join(PRESETS)}") from None


def parse_config(text: str) -> dict[str, Any]:
    """Settings of a network from a command line, for `NetworkConfig.from_dict`.

    Args:
        text: the name of a preset, `NAME=VALUE` pairs between commas, or the path of a JSON file
            with the settings (or of a config.json of this package, which has them as `network`).

    Raises:
        ValueError: neither of them.

    Example:
        >>> parse_config("image_pyramid=add,context_fusion=false")
        {'image_pyramid': 'add', 'context_fusion': False}
    """
    if text in PRESETS:
        return PRESETS[text].to_dict()
    if text.lower().endswith(".json"):
        try:
            values = json.loads(Path(text).expanduser().read_text(encoding="utf-8"))
        except OSError as failure:
            raise ValueError(f"cannot read {text}: {failure.strerror}") from None
        except ValueError:
            raise ValueError(f"{text} is not valid JSON") from None
        if isinstance(values, dict):
            values = values.get("network", values)
        if not isinstance(values, dict):
            raise ValueError(f"{text} holds no settings of a network")
        return values
    pairs = [pair.partition("=") for pair in text.split(",")]
    if not all(equals and name.strip() for name, equals, _ in pairs):
        raise ValueError(
            f"got {text!r}; give NAME=VALUE such as image_pyramid=add, a JSON file or a preset"
        )
    return {name.strip(): _value(value.strip()) for name, _, value in pairs}


def _value(text: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        return text
