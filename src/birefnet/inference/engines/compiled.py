"""torch.compile for networks that meet pictures of any size.

Compiled as a whole, a network would be compiled anew for each size, for its index maps are
constants of the size. Its blocks are not: they take the maps as arguments, and are compiled once
with free sizes; blocks that repeat share what was compiled. A new size may still meet a case that
is compiled for itself, such as maps that whole windows tile.
"""

from __future__ import annotations

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    from torch import nn

from birefnet.network.backbones.pvt_v2 import PVTBlock
from birefnet.network.backbones.swin import SwinBlock
from birefnet.network.blocks import ReconstructionBlock
from birefnet.network.cpu_optimised import OptimisedBlock

_VARIANTS = 64
REGIONS = (SwinBlock, PVTBlock, ReconstructionBlock, OptimisedBlock)


def compile_regions(network: nn.Module, **options: object) -> int:
    """Compile the blocks of `network` in place, for any size; gives their number.

    Args:
        network: in evaluation mode, on its device and in its precision.
        options: for `torch.compile`, such as `mode` or `backend`.
    """
    import torch._dynamo.config as settings

    # Blocks of several widths share the code that is compiled: more variants than by default.
    for name in ("recompile_limit", "cache_size_limit"):  # its name since 2.6, and before
        if hasattr(settings, name):
            setattr(settings, name, max(getattr(settings, name), _VARIANTS))
            break
    regions = [module for module in network.modules() if isinstance(module, REGIONS)]
    for region in regions:
        region.compile(dynamic=True, **options)
    return len(regions)
