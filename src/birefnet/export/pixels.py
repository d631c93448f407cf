"""The network with the preparation of pixels inside the graph."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from birefnet.imaging.geometry import Preprocess


class PixelsToMatte(nn.Module):
    """Preparation, network and sigmoid in one: pixels in, matte out.

    Args:
        network: normalised batch (B, 3, h, w) → logits (B, 1, h, w).
        preprocess: its mean and deviation.
        size: width and height of the network's input [px].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.size = (size[1], size[0])
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 (B, H, W, 3), RGB, any size → matte, float32 (B, 1, H, W) in [0, 1]."""
        height, width = pixels.shape[1], pixels.shape[2]
        image = pixels.permute(0, 3, 1, 2).float()
        image = F.interpolate(
            image, self.size, mode="bilinear", align_corners=False, antialias=True
        )
        matte = torch.sigmoid(self.network(image * self.scale + self.shift))
        matte = F.interpolate(
            matte, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        return matte.clamp(0, 1)
