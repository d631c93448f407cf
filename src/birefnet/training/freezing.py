"""How a network is trained: which blocks and BatchNorms learn, which activations are kept."""

from __future__ import annotations

from birefnet.errors import BiRefNetError, DeviceError, counted, needs_extra

with needs_extra("torch", __name__):
    from torch import nn
    from torch.nn.modules.batchnorm import _BatchNorm

from birefnet.network.backbones import Backbone
from birefnet.network.birefnet import BiRefNet
from birefnet.network.decoder import BilateralReferenceStage
from birefnet.network.guidance import GuidedConv2d
from birefnet.training.recipe import LoopSettings


def block_depths(backbone: nn.Module) -> dict[str, int]:
    """Depth of each parameter of a backbone, by name: 0 for the stem, 1 for the first block …

    A block is an element of a list of modules that itself consists of modules (a transformer or
    residual block); a backbone without such has its stages as blocks. What lies between two blocks
    has the depth of the first.
    """
    names = [name for name, _ in backbone.named_parameters()]
    found = [_block_of(backbone, name) for name in names]
    if not any(found):
        found = [name.split(".")[0] for name in names]
    order: dict[str, int] = {}
    depths = {}
    for name, block in zip(names, found, strict=True):
        if block:
            depths[name] = order.setdefault(block, len(order) + 1)
        else:
            depths[name] = len(order)
    return depths


def _block_of(backbone: nn.Module, name: str) -> str:
    """The innermost module around a parameter that is a numbered one with parts; or nothing."""
    parts = name.split(".")
    for end in range(len(parts) - 1, 0, -1):
        path = ".".join(parts[:end])
        is_numbered = parts[end - 1].isdigit()
        module = backbone.get_submodule(path)
        is_stage = any(isinstance(child, nn.ModuleList) for child in module.children())
        if is_numbered and not is_stage and any(True for _ in module.children()):
            return path
    return ""


def freeze(network: BiRefNet, settings: LoopSettings) -> None:
    """Mark the parameters that keep their values.

    Raises:
        BiRefNetError: more blocks are to be frozen than there are.
    """
    backbone = network.encoder.backbone
    if settings.frozen_encoder:
        backbone.requires_grad_(False)
    elif settings.frozen_blocks:
        depths = block_depths(backbone)
        blocks = max(depths.values())
        if settings.frozen_blocks > blocks:
            raise BiRefNetError(
                f"loop.frozen_blocks is {settings.frozen_blocks}, but the backbone "
                f"{network.config.backbone} has {counted(blocks, 'block')}; "
                "loop.frozen_encoder=true freezes all"
            )
        for name, parameter in backbone.named_parameters():
            if depths[name] <= settings.frozen_blocks:
                parameter.requires_grad_(False)
    for module in backbone.modules():
        if isinstance(module, GuidedConv2d):  # starts at 0, and must learn whatever else is kept
            module.guide.requires_grad_(True)
    for norm in _frozen_norms(network, settings):
        norm.requires_grad_(False)


def train_mode(network: BiRefNet, settings: LoopSettings) -> None:
    """Training mode for what learns; frozen BatchNorms use and keep their statistics."""
    network.train()
    if settings.frozen_encoder:
        network.encoder.backbone.eval()
    for norm in _frozen_norms(network, settings):
        norm.eval()


def _frozen_norms(network: BiRefNet, settings: LoopSettings) -> list[nn.Module]:
    frozen: list[nn.Module] = []
    if settings.batch_norm == "frozen":
        frozen.append(network)
    elif settings.frozen_encoder_norms or settings.frozen_encoder:
        frozen.append(network.encoder.backbone)
    return [m for part in frozen for m in part.modules() if isinstance(m, _BatchNorm)]


def synchronise_norms(network: BiRefNet, settings: LoopSettings, device: str) -> None:
    """Let the BatchNorms of several processes see the whole batch, where that is asked for.

    Raises:
        DeviceError: on a CPU, where PyTorch has no synchronised BatchNorm.
    """
    if settings.batch_norm != "synchronised":
        return
    if device == "cpu":
        raise DeviceError(
            "loop.batch_norm is synchronised, which PyTorch has on GPUs only; "
            "choose loop.batch_norm=frozen or train"
        )
    nn.SyncBatchNorm.convert_sync_batchnorm(network)  # in place; keeps the names


def checkpoint_activations(network: BiRefNet, is_on: bool) -> None:
    """Compute inner activations of the backbone's and the decoder's blocks twice, or keep them."""
    for module in network.modules():
        if isinstance(module, (Backbone, BilateralReferenceStage)):
            module.gradient_checkpointing = is_on
