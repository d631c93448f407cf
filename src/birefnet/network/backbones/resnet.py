"""ResNet-50.

Source: He et al., "Deep Residual Learning for Image Recognition", CVPR 2016; as in torchvision, a
block's stride is on its 3x3 convolution.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from birefnet.network.backbones.base import Backbone, DropPath, drop_path_rates


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolution beside a shortcut, projected where shapes differ."""

    def __init__(
        self, in_channels: int, width: int, *, stride: int = 1, drop_path: float = 0.0
    ) -> None:
        super().__init__()
        out_channels = 4 * width
        self.conv1 = nn.Conv2d(in_channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, out_channels, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(out_channels)
        self.drop_path = DropPath(drop_path)
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or in_channels != out_channels:
            self.downsample = nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False),
                nn.BatchNorm2d(out_channels),
            )

    def forward(self, x: Tensor) -> Tensor:
        """(B, in_channels, H, W) → (B, 4 * width, ceil(H / stride), ceil(W / stride))."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.drop_path(self.bn3(self.conv3(y)))
        return F.relu(y + self.downsample(x), inplace=True)


class ResNet50(Backbone):
    """ResNet-50 without its head.

    `conv1` holds the stem and the first stage, numbered as in the released checkpoints.

    Args:
        drop_path: stochastic depth of the last block; default 0.
    """

    out_channels = (256, 512, 1024, 2048)

    def __init__(self, *, drop_path: float | None = None) -> None:
        super().__init__()
        rates = iter(drop_path_rates(drop_path or 0.0, 3 + 4 + 6 + 3))

        def stage(in_channels: int, width: int, blocks: int, stride: int) -> nn.Sequential:
            first = Bottleneck(in_channels, width, stride=stride, drop_path=next(rates))
            rest = [Bottleneck(4 * width, width, drop_path=next(rates)) for _ in range(blocks - 1)]
            return nn.Sequential(first, *rest)

        self.conv1 = nn.Sequential(
            nn.Conv2d(3, 64, 7, 2, padding=3, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.MaxPool2d(3, 2, padding=1),
            stage(64, 64, blocks=3, stride=1),
        )
        self.conv2 = stage(256, 128, blocks=4, stride=2)
        self.conv3 = stage(512, 256, blocks=6, stride=2)
        self.conv4 = stage(1024, 512, blocks=3, stride=2)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> list[Tensor]:
        """(B, 3, H, W), any size → maps of ceil(H / s) x ceil(W / s) for s = 4, 8, 16, 32."""
        *stem, first = self.conv1.children()
        for layer in stem:
            x = layer(x)
        maps = []
        for stage in (first, self.conv2, self.conv3, self.conv4):
            for block in stage.children():
                x = self.run(block, x)
            maps.append(x)
        return maps
