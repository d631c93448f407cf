"""Localisation module: a backbone at full and half scale, and the fusion of its maps.

Source: paper Sec. 3.2; image pyramid (IPT) and context feature fusion (CFF) of Table 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.network.backbones import Backbone
from birefnet.network.blocks import resize, resize_like
from birefnet.network.config import ImagePyramid
from birefnet.network.guidance import PICTURE_CHANNELS, GuidanceMaps


class EncoderOutput(NamedTuple):
    """The encoder's maps and context.

    Attributes:
        maps: x1, x2, x3, x4 at strides 4, 8, 16, 32, after the image pyramid.
        context: x4 with x1, x2, x3 resized and concatenated before it (x4 itself without fusion).
    """

    maps: list[Tensor]
    context: Tensor


class PyramidNeck(nn.Module):
    """Gives maps of one stride, as those of a plain ViT, the four strides 4, 8, 16, 32.

    It stands between encoder and decoder. Each map is projected by a 1x1 convolution and resized.
    The released networks resize first; the two commute, and this order is cheaper when enlarging.
    """

    def __init__(self, in_channels: Sequence[int], out_channels: tuple[int, int, int, int]) -> None:
        super().__init__()
        self.projections = nn.ModuleList(
            nn.Conv2d(i, o, 1) for i, o in zip(in_channels, out_channels, strict=True)
        )

    def forward(self, maps: Sequence[Tensor], size: tuple[int, int]) -> list[Tensor]:
        """x1, x2, x3 and the squeezed x4 of an image of `size` (height, width) → strides 4…32."""
        height, width = size
        return [
            resize(project(x), (height // stride, width // stride))
            for project, x, stride in zip(self.projections, maps, (4, 8, 16, 32), strict=True)
        ]


class Encoder(nn.Module):
    """Backbone, image pyramid and context fusion.

    Attributes:
        out_channels: of x1..x4 after the image pyramid.
        context_channels: of `EncoderOutput.context`.
        guidance: adds a guidance channel to the maps of both scales, or `None`.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        image_pyramid: ImagePyramid = "cat",
        context_fusion: bool = True,
        is_guided: bool = False,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.image_pyramid = image_pyramid
        self.context_fusion = context_fusion
        channels = tuple(backbone.out_channels)
        self.guidance = GuidanceMaps(channels) if is_guided else None
        scales = 2 if image_pyramid == "cat" else 1
        self.out_channels = tuple(scales * c for c in channels)
        self.context_channels = sum(self.out_channels) if context_fusion else self.out_channels[-1]

    def features(self, image: Tensor) -> list[Tensor]:
        """The maps x1..x4 of one scale."""
        maps = list(self.backbone(image))
        if self.guidance is not None and image.shape[1] > PICTURE_CHANNELS:
            maps = self.guidance(image[:, PICTURE_CHANNELS:], maps)
        return maps

    def forward(self, image: Tensor) -> EncoderOutput:
        """Normalised `image` (B,3,H,W), or (B,4,H,W) with guidance; H and W multiples of 32."""
        maps = self.features(image)
        if self.image_pyramid != "none":
            half = self.features(resize(image, (image.shape[-2] // 2, image.shape[-1] // 2)))
            enlarged = [resize_like(small, large) for small, large in zip(half, maps, strict=True)]
            if self.image_pyramid == "cat":
                maps = [torch.cat(pair, dim=1) for pair in zip(maps, enlarged, strict=True)]
            else:
                maps = [large + small for large, small in zip(maps, enlarged, strict=True)]
        context = maps[-1]
        if self.context_fusion:
            shallow = [resize_like(x, maps[-1]) for x in maps[:-1]]
            context = torch.cat([*shallow, maps[-1]], dim=1)
        return EncoderOutput(maps, context)
