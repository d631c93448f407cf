"""How large a network is and how much it computes."""

from __future__ import annotations

import copy
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import nn
    from torch.utils.flop_counter import FlopCounterMode

from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import NetworkConfig


def count_parameters(network: nn.Module) -> int:
    """Numbers that training would learn."""
    return sum(parameter.numel() for parameter in network.parameters())


def count_macs(network: BiRefNet | NetworkConfig | str, size: tuple[int, int]) -> int:
    """Multiplications with an addition of one forward pass of one picture.

    Convolutions, products of matrices, attention and deformable convolutions (as an ordinary
    convolution of their shape) count; sampling, norms, activations and resizing do not. Nothing is
    computed: the network runs on shapes alone.

    Args:
        network: in any form, or a configuration, or the name of a preset.
        size: width and height [px], multiples of 32.
    """
    with torch.device("meta"):
        if isinstance(network, (str, NetworkConfig)):
            network = build_network(network)
        else:
            empty = {id(p): torch.empty_like(p, device="meta") for p in _tensors(network)}
            network = copy.deepcopy(network, empty)
        image = torch.empty(1, 3, size[1], size[0])
    network.eval()
    counter = FlopCounterMode(
        display=False,
        custom_mapping={torch.ops.birefnet.deformable_conv2d: _deformable},
    )
    with counter, torch.no_grad():
        network(image)
    return int(counter.get_total_flops()) // 2


def _tensors(network: nn.Module) -> list[torch.Tensor]:
    return [*network.parameters(), *network.buffers()]


def _deformable(
    x: Any, offset: Any, mask: Any, weight: Any, padding: int, out_shape: Any = None, **_: Any
) -> int:
    """Twice the multiplications: FlopCounterMode counts operations. Arguments are shapes."""
    batch, out_channels, height, width = out_shape
    return int(2 * batch * out_channels * height * width * weight[1] * weight[2] * weight[3])
