"""A fourth channel beside red, green and blue, which says what object is meant.

Its values lie in [-1, 1]: above 0 on the object, below 0 on what it is not, 0 where nothing is
said. All its weights start at 0, so a network with trained weights computes what it did before,
until these are trained too; and without the channel it computes it bit by bit.
"""

from __future__ import annotations

from collections.abc import Sequence

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.network.blocks import resize_like

PICTURE_CHANNELS = 3
STRIDES = (4, 8, 16)  # to which the channel is averaged; stride 32 is resized from the last


def is_guidance(name: str) -> bool:
    """Whether a parameter of this name reads the guidance channel."""
    return name.startswith("encoder.guidance.") or name.endswith(".guide")


class GuidedConv2d(nn.Conv2d):
    """The first convolution of a backbone, of pictures (B,3,H,W) or guided ones (B,4,H,W).

    Attributes:
        guide: (out_channels, 1, k, k), the weights of the fourth channel.
    """

    def __init__(self, source: nn.Conv2d) -> None:
        super().__init__(
            source.in_channels,
            source.out_channels,
            source.kernel_size,  # type: ignore[arg-type]
            source.stride,  # type: ignore[arg-type]
            source.padding,  # type: ignore[arg-type]
            source.dilation,  # type: ignore[arg-type]
            bias=source.bias is not None,
            device="meta",
        )
        self.weight, self.bias = source.weight, source.bias
        shape = (source.out_channels, 1, *source.kernel_size)
        self.guide = nn.Parameter(source.weight.new_empty(shape))
        nn.init.zeros_(self.guide)

    def forward(self, x: Tensor) -> Tensor:
        """As a convolution of three channels where there is no fourth."""
        if x.shape[1] == self.in_channels:
            return super().forward(x)
        return self._conv_forward(x, self.whole_weight, self.bias)

    @property
    def whole_weight(self) -> Tensor:
        """(out_channels, 4, k, k): of all four channels."""
        return torch.cat([self.weight, self.guide], dim=1)


class GuidanceMaps(nn.Module):
    """Adds the guidance, averaged to their strides, to a backbone's four maps.

    What the stem says of the channel must pass the whole backbone, whose first blocks are often
    kept as they are; the decoder learns from here within some hundred steps.

    Args:
        channels: of the maps, shallow to deep.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(1, c, 3, padding=1, bias=False) for c in channels)
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            nn.init.zeros_(conv.weight)

    def forward(self, guide: Tensor, maps: Sequence[Tensor]) -> list[Tensor]:
        """`guide` (B,1,H,W) and maps of an image of that size → maps of the same sizes."""
        pooled = [F.avg_pool2d(guide, stride) for stride in STRIDES]
        return [
            x + conv(resize_like(small, x))
            for conv, small, x in zip(self.convs, [*pooled, pooled[-1]], maps, strict=True)
        ]


def let_guide(backbone: nn.Module) -> None:
    """Replace the convolution that reads the picture by one that reads guided ones too.

    Raises:
        ValueError: the backbone has no plain convolution of three channels.
    """
    for parent in backbone.modules():
        for name, child in parent.named_children():
            if type(child) is nn.Conv2d and child.in_channels == PICTURE_CHANNELS:
                setattr(parent, name, GuidedConv2d(child))
                return
    raise ValueError(
        f"guidance_channel=True needs a backbone that reads the picture by a convolution of three "
        f"channels, and {type(backbone).__name__} has none; choose another backbone"
    )
