"""Reconstruction module: one bilateral-reference stage, looped from stride 32 to stride 4.

Source: paper Sec. 3.3 and 3.4, Fig. 4.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.network.backbones.base import checkpointed
from birefnet.network.blocks import (
    BlockFactory,
    ImagePatchBlock,
    OutwardReference,
    resize_like,
)
from birefnet.network.config import InwardReference


class StageOutput(NamedTuple):
    """Features for the next stage, and what training supervises (`None` where a stage has none)."""

    features: Tensor
    coarse: Tensor | None
    gradient: Tensor | None


class DecoderOutput(NamedTuple):
    """Coarse logits, deep to shallow, then the final ones; gradient logits, deep to shallow."""

    stages: list[Tensor]
    gradients: list[Tensor]


def image_tiles(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Cut `image` (B,C,H,W) into tiles of `size` (h, w), stacked as channels.

    Channel order: (channel, grid row, grid column), so the result is (B, C·(H/h)·(W/w), h, w).
    H and W must be multiples of h and w.
    """
    return _tiles(image, image.shape[-2] // size[0], image.shape[-1] // size[1])


def _tiles(image: Tensor, rows: int, columns: int) -> Tensor:
    """`image_tiles` by their number, which a traced graph of any size knows."""
    batch, channels, height, width = image.shape
    h, w = height // rows, width // columns
    # Four axes: ncnn has no more, others have five.
    tiles = image.reshape(batch * channels * rows, h, columns, w).transpose(1, 2)
    return tiles.reshape(batch, channels * rows * columns, h, w)


class BilateralReferenceStage(nn.Module):
    """Lateral sum → inward reference → reconstruction block → outward reference.

    Args:
        block: reconstruction block from `in_channels` + reference channels to `out_channels`.
        reference: image-patch block, or `None` without inward reference.
        lateral: 1x1 convolution of the encoder's map, or `None` at the deepest stage.
        outward: outward reference on the block's output, or `None`.
        coarse_head: 1x1 convolution to coarse logits, or `None`.
        inward: `split` feeds tiles, `whole` the resized image.

    Attributes:
        grid: tiles along each side of the picture; 0 where it is resized, or not read.
        gradient_checkpointing: as in `birefnet.network.backbones.base.Backbone`.
    """

    gradient_checkpointing: bool = False

    def __init__(
        self,
        block: nn.Module,
        *,
        reference: ImagePatchBlock | None,
        lateral: nn.Conv2d | None,
        outward: OutwardReference | None,
        coarse_head: nn.Conv2d | None,
        inward: InwardReference,
    ) -> None:
        super().__init__()
        self.block = block
        self.reference = reference
        self.lateral = lateral
        self.outward = outward
        self.coarse_head = coarse_head
        self.inward = inward
        tiles = reference.conv_in.in_channels // 3 if reference is not None else 0
        self.grid = math.isqrt(tiles) if inward == "split" else 0

    def forward(
        self, features: Tensor, encoded: Tensor, image: Tensor, supervised: bool
    ) -> StageOutput:
        """`features` of the stage below, the encoder's map of this stage, the source image."""
        if self.lateral is not None:
            features = resize_like(features, encoded) + self.lateral(encoded)
        if self.reference is not None:
            source = self.source(image, features)
            features = torch.cat([features, self.reference(source)], dim=1)
        if self.gradient_checkpointing and self.training and torch.is_grad_enabled():
            features = checkpointed(self.block, features)
        else:
            features = self.block(features)
        return self.output(features, supervised)

    def output(self, features: Tensor, supervised: bool) -> StageOutput:
        """The part behind the block: coarse logits, outward reference, gradient logits."""
        coarse = gradient = None
        if supervised and self.coarse_head is not None:
            coarse = self.coarse_head(features)
        if self.outward is not None:
            features, gradient_features = self.outward(features)
            if supervised:
                gradient = self.outward.prediction(gradient_features)
        return StageOutput(features, coarse, gradient)

    def source(self, image: Tensor, features: Tensor) -> Tensor:
        """The input of the inward reference, made of `image`, at the size of `features`."""
        return _tiles(image, self.grid, self.grid) if self.grid else resize_like(image, features)


class Decoder(nn.Module):
    """Four bilateral-reference stages and the full-size head.

    Args:
        encoder_channels: of x1..x4 (shallow to deep), x4 as squeezed, behind the neck if any.
        make_block: makes a reconstruction block from its channel counts.
        reference_channels: of x1..x4 before the neck, by which the references are sized; default:
            `encoder_channels`.
        stage_channels: output channels of the stages, deep to shallow; `None`: c3, c2, c1, c1 // 2.
    """

    def __init__(
        self,
        encoder_channels: Sequence[int],
        make_block: BlockFactory,
        *,
        inward_reference: InwardReference = "split",
        outward_reference: bool = True,
        multi_scale_supervision: bool = True,
        reference_channels: Sequence[int] | None = None,
        reference_width: int = 64,
        stage_channels: tuple[int, int, int, int] | None = None,
    ) -> None:
        super().__init__()
        c1, c2, c3, c4 = encoder_channels
        outputs = stage_channels or (c3, c2, c1, max(c1 // 2, 1))
        inputs = (c4, *outputs[:3])
        encoded = (c4, c3, c2, c1)
        # The released networks size the references of stages 4 and 3 alike, by c4.
        shallow_to_deep = reference_channels or encoder_channels
        references = [max(shallow_to_deep[i] // 8, 1) for i in (3, 3, 2, 1, 0)]
        if inward_reference == "none":
            references = [0] * 5
        stages = []
        for i in range(4):
            tiles = (32 >> i) ** 2 if inward_reference == "split" else 1
            shallowest = i == 3
            stages.append(
                BilateralReferenceStage(
                    make_block(inputs[i] + references[i], outputs[i]),
                    reference=ImagePatchBlock(3 * tiles, references[i], reference_width)
                    if references[i]
                    else None,
                    lateral=nn.Conv2d(encoded[i], inputs[i], 1) if i else None,
                    outward=OutwardReference(outputs[i])
                    if outward_reference and not shallowest
                    else None,
                    coarse_head=nn.Conv2d(outputs[i], 1, 1)
                    if multi_scale_supervision and not shallowest
                    else None,
                    inward=inward_reference,
                )
            )
        self.stages = nn.ModuleList(stages)
        self.head_reference = (
            ImagePatchBlock(3, references[4], reference_width) if references[4] else None
        )
        self.head = nn.Conv2d(outputs[3] + references[4], 1, 1)

    def forward(
        self,
        squeezed: Tensor,
        maps: Sequence[Tensor],
        image: Tensor,
        *,
        supervised: bool = False,
    ) -> DecoderOutput:
        """From the squeezed x4, the encoder's maps x1..x4 and the image (B,3,H,W) to logits.

        Returns the final logits (B,1,H,W) as last of `stages`; the coarse logits and the gradient
        logits, each at its stage's size, only when `supervised`.
        """
        features, coarse, gradients = run_stages(self.stages, squeezed, maps, image, supervised)
        # The head is linear, so it may project before the maps are enlarged; the released networks
        # enlarge and concatenate all channels first, which training would have to remember.
        weight = self.head.weight
        own = features.shape[1]
        logits = resize_like(F.conv2d(features, weight[:, :own], self.head.bias), image)
        if self.head_reference is not None:
            logits = logits + F.conv2d(self.head_reference(image), weight[:, own:])
        return DecoderOutput([*coarse, logits], gradients)


def run_stages(
    stages: Iterable[nn.Module],
    squeezed: Tensor,
    maps: Sequence[Tensor],
    image: Tensor,
    supervised: bool,
) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """Loop the stages, deep to shallow: the last features, the coarse logits, the gradients."""
    features = squeezed
    coarse: list[Tensor] = []
    gradients: list[Tensor] = []
    for stage, encoded in zip(stages, reversed(maps), strict=True):
        out: StageOutput = stage(features, encoded, image, supervised)
        features = out.features
        coarse += [] if out.coarse is None else [out.coarse]
        gradients += [] if out.gradient is None else [out.gradient]
    return features, coarse, gradients
