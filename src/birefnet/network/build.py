"""The only place that turns names into modules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import nn
    from torch.overrides import TorchFunctionMode

from birefnet.network.backbones import BACKBONES, build_backbone
from birefnet.network.birefnet import BiRefNet
from birefnet.network.blocks import (
    BlockFactory,
    ReconstructionBlock,
    ResidualPair,
    deformable_aspp,
    plain_aspp,
)
from birefnet.network.config import NetworkConfig, preset
from birefnet.network.decoder import Decoder
from birefnet.network.encoder import Encoder, PyramidNeck
from birefnet.network.guidance import let_guide

__all__ = ["BACKBONES", "WithoutParameters", "build_network", "empty_network"]


def build_network(config: NetworkConfig | str) -> BiRefNet:
    """A new network with random weights, in training mode.

    Args:
        config: a configuration, or the name of a preset.

    Raises:
        ValueError: an unknown preset or backbone; the message lists what exists. Or a backbone that
            cannot read a guidance channel.

    Example:
        >>> import torch
        >>> with torch.device("meta"):  # no memory is spent
        ...     network = build_network("tiny")
        >>> network(torch.empty(2, 3, 64, 96, device="meta")).shape
        torch.Size([2, 1, 64, 96])
    """
    if isinstance(config, str):
        config = preset(config)
    backbone = build_backbone(config.backbone, drop_path=config.drop_path)
    if config.guidance_channel:
        let_guide(backbone)
    encoder = Encoder(
        backbone,
        image_pyramid=config.image_pyramid,
        context_fusion=config.context_fusion,
        is_guided=config.guidance_channel,
    )
    deepest = encoder.out_channels[-1]
    squeeze = (
        _reconstruction_block(config, encoder.context_channels, deepest) if config.squeeze else None
    )
    encoded = (*encoder.out_channels[:3], deepest if squeeze else encoder.context_channels)
    necked = config.necked_channels
    decoder = Decoder(
        necked or encoded,
        _block_factory(config),
        inward_reference=config.inward_reference,
        outward_reference=config.outward_reference,
        multi_scale_supervision=config.multi_scale_supervision,
        reference_channels=encoded,
        reference_width=config.reference_width,
        stage_channels=config.stage_channels,
    )
    classes = config.auxiliary_classes
    classified = encoder.context_channels if config.classifier_input == "context" else deepest
    return BiRefNet(
        encoder,
        squeeze,
        decoder,
        neck=PyramidNeck(encoded, necked) if necked else None,
        classifier=nn.Linear(classified, classes) if classes else None,
        config=config,
    )


def empty_network(config: NetworkConfig) -> BiRefNet:
    """The network of `config` in evaluation mode; its parameters must be assigned before use."""
    with WithoutParameters():
        network = build_network(config)
    return network.eval()


class WithoutParameters(TorchFunctionMode):
    """Inside this context layers get parameters without values, and buffers as usual.

    Layers allocate parameters with `torch.empty`, which goes to the meta device here, and fill
    them in place, which is skipped. Were everything built on the meta device, computed buffers such
    as position indices would lose their values too, and filling would first import for a second.
    """

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> object:
        kwargs = kwargs or {}
        if func is torch.empty:
            return func(*args, **{**kwargs, "device": "meta"})
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):  # in place
            target = args[0] if args else kwargs.get("tensor")
            if isinstance(target, nn.Parameter):
                return target
        return func(*args, **kwargs)


def _attention(config: NetworkConfig) -> nn.Module:
    channels, width = config.block_width, config.attention_width
    if config.attention == "deformable":
        return deformable_aspp(channels, width, config.attention_kernels, config.dropout)
    if config.attention == "plain":
        return plain_aspp(channels, width, config.dropout)
    return nn.Identity()


def _reconstruction_block(
    config: NetworkConfig, in_channels: int, out_channels: int, *, residual: bool = False
) -> ReconstructionBlock:
    return ReconstructionBlock(
        in_channels, out_channels, config.block_width, _attention(config), residual=residual
    )


def _block_factory(config: NetworkConfig) -> BlockFactory:
    if config.decoder_block == "resnet":
        return partial(ResidualPair, width=config.block_width)
    return partial(_reconstruction_block, config, residual=config.decoder_block == "residual")
