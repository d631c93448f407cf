"""VGG-16, with and without BatchNorm.

Source: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015. Layers are numbered through as in torchvision's `features`, which is how
the released checkpoints name them.
"""

from __future__ import annotations

from torch import Tensor, nn

from birefnet.network.backbones.base import Backbone

# Convolutions between two pools; the first two groups make the map at stride 4.
_GROUPS = (((64, 64), (128, 128)), ((256, 256, 256),), ((512, 512, 512),), ((512, 512, 512),))


class VGG16(Backbone):
    """Convolutions 3x3 and max-pooling; a map is taken behind each pool from stride 4 on.

    Args:
        batch_norm: put a BatchNorm behind each convolution.
        drop_path: there are no residual branches to drop; accepted and without effect.
    """

    out_channels = (128, 256, 512, 512)

    def __init__(self, *, batch_norm: bool = False, drop_path: float | None = None) -> None:
        super().__init__()
        number, channels = 0, 3
        for i, groups in enumerate(_GROUPS):
            stage = nn.Sequential()
            for group in groups:
                layers: list[nn.Module] = []
                for width in group:
                    layers.append(_convolution(channels, width))
                    layers += [nn.BatchNorm2d(width)] if batch_norm else []
                    layers.append(nn.ReLU(inplace=True))
                    channels = width
                layers.append(nn.MaxPool2d(2))
                for layer in layers:
                    stage.add_module(str(number), layer)
                    number += 1
            self.add_module(f"conv{i + 1}", stage)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), sides of at least 32 → maps of H // s x W // s for s = 4, 8, 16, 32."""
        maps = []
        for stage in self.children():
            x = self.run(stage, x)
            maps.append(x)
        return maps


def _convolution(in_channels: int, out_channels: int) -> nn.Conv2d:
    layer = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
