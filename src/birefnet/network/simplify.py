"""Exact simplification: a trained network → an equal one that is cheaper to run.

Every step is an identity of real arithmetic, so outputs differ by rounding only:
- BatchNorm in evaluation mode is a scale and a shift: folded into the convolution before it.
- Offsets and modulation read the same input with kernels of one size: one convolution.
- The pooled branch of an ASPP is one vector per picture: its share of the joining 1x1 convolution
  is added as a bias instead of being spread over the map.
- The head is linear on (resized features, reference of the source image), and a 1x1 convolution
  commutes with resizing: the features are projected to one channel before they are enlarged, and
  the two 3x3 convolutions of the reference and the head become one 5x5, 3 → 1. No full-size map
  with more than one channel is left.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import pairwise

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.network.birefnet import BiRefNet
from birefnet.network.blocks import ASPP, DeformableConv2d, ImagePatchBlock, resize_like
from birefnet.network.decoder import Decoder, DecoderOutput, run_stages
from birefnet.network.deform import deformable_conv2d
from birefnet.network.guidance import GuidedConv2d


def simplify(network: BiRefNet, *, inplace: bool = False) -> BiRefNet:
    """An equal network for inference, in evaluation mode.

    Args:
        network: a network whose weights are final; its running statistics are used.
        inplace: change and return `network` itself, which spares a copy of its weights.

    Returns:
        A `BiRefNet` with other parameters: its state dict no longer fits a checkpoint.
        Supervised outputs (coarse maps, gradients) remain available.
    """
    network = (network if inplace else copy.deepcopy(network)).eval()
    device = next(network.parameters()).device
    if device.type not in ("cpu", "cuda", "meta"):
        network.cpu()  # Apple's GPUs and others have no float64
    with torch.no_grad():
        for parent in list(network.modules()):
            _fold_batch_norms(parent)
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, ASPP):
                    setattr(parent, name, InferenceASPP(child))
        assert isinstance(network.decoder, Decoder), "the network is simplified already"
        network.decoder = InferenceDecoder(network.decoder)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network.to(device)


def _scale_and_shift(norm: nn.BatchNorm2d) -> tuple[Tensor, Tensor]:
    mean, variance = norm.running_mean, norm.running_var
    assert mean is not None
    assert variance is not None
    # float64, so that folding adds no rounding of its own
    scale = (variance.double() + norm.eps).rsqrt()
    if norm.weight is not None:
        scale = scale * norm.weight.double()
    shift = -mean.double() * scale
    if norm.bias is not None:
        shift = shift + norm.bias.double()
    return scale, shift


def _fold(conv: nn.Conv2d, norm: nn.BatchNorm2d) -> nn.Conv2d:
    """One convolution equal to `norm(conv(x))`."""
    scale, shift = _scale_and_shift(norm)
    weight = conv.weight.double() * scale.view(-1, 1, 1, 1)
    bias = shift if conv.bias is None else shift + conv.bias.double() * scale
    conv.weight = nn.Parameter(weight.to(conv.weight.dtype))
    conv.bias = nn.Parameter(bias.to(conv.weight.dtype))
    if isinstance(conv, GuidedConv2d):
        guide = conv.guide.double() * scale.view(-1, 1, 1, 1)
        conv.guide = nn.Parameter(guide.to(conv.guide.dtype))
    return conv


def _fold_batch_norms(parent: nn.Module) -> None:
    """Fold each BatchNorm that is registered right after its convolution, as all here are."""
    children = list(parent.named_children())
    for (conv_name, conv), (norm_name, norm) in pairwise(children):
        if not isinstance(norm, nn.BatchNorm2d):
            continue
        if isinstance(conv, DeformableConv2d):
            setattr(parent, conv_name, InferenceDeformableConv2d(conv, norm))
        elif isinstance(conv, nn.Conv2d) and conv.out_channels == norm.num_features:
            setattr(parent, conv_name, _fold(conv, norm))
        else:
            continue
        setattr(parent, norm_name, nn.Identity())


class InferenceDeformableConv2d(nn.Module):
    """Deformable convolution with BatchNorm folded; offsets and modulation from one convolution."""

    def __init__(self, source: DeformableConv2d, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        regular = _fold(source.regular, norm)
        self.weight, self.bias = regular.weight, regular.bias
        offset, modulator = source.offset, source.modulator
        self.taps = modulator.out_channels
        self.sampling = nn.Conv2d(
            offset.in_channels,
            3 * self.taps,
            offset.kernel_size,  # type: ignore[arg-type]
            padding=offset.padding,  # type: ignore[arg-type]
            device=offset.weight.device,
            dtype=offset.weight.dtype,
        )
        assert offset.bias is not None
        assert modulator.bias is not None
        assert self.sampling.bias is not None
        self.sampling.weight.copy_(torch.cat([offset.weight, modulator.weight]))
        self.sampling.bias.copy_(torch.cat([offset.bias, modulator.bias]))

    def forward(self, x: Tensor) -> Tensor:
        offset, modulation = self.sampling(x).split([2 * self.taps, self.taps], dim=1)
        return deformable_conv2d(x, offset, 2.0 * torch.sigmoid(modulation), self.weight, self.bias)


class InferenceASPP(nn.Module):
    """ASPP whose pooled branch enters as a bias of the joining convolution."""

    def __init__(self, source: ASPP) -> None:
        super().__init__()
        self.branches = source.branches
        self.pooled = source.pooled
        assert isinstance(source.norm, nn.Identity), "BatchNorm must be folded first"
        weight, self.bias = source.project.weight, source.project.bias
        pooled_width = source.pooled.conv.out_channels
        self.project = nn.Parameter(weight[:, :-pooled_width].contiguous())
        self.project_pooled = nn.Parameter(weight[:, -pooled_width:].contiguous())

    def forward(self, x: Tensor) -> Tensor:
        fields = torch.cat([branch(x) for branch in self.branches], dim=1)
        average = F.relu(self.pooled.conv(x.mean(dim=(2, 3), keepdim=True)))
        joined = F.conv2d(fields, self.project, self.bias)
        return F.relu_(joined.add_(F.conv2d(average, self.project_pooled)))


class _ImageHead(nn.Module):
    """Head ∘ image-patch block as one 5x5 convolution 3 → 1, exact at the border too.

    The two 3x3 convolutions pad with zeros each, so one pixel at the border sees the zeros of the
    second padding: that ring is computed from thin strips by the two convolutions themselves.
    """

    def __init__(self, source: ImagePatchBlock, head: Tensor) -> None:
        super().__init__()
        first, second = source.conv_in, source.conv_out
        assert first.bias is not None
        assert second.bias is not None
        dtype = first.weight.dtype
        # head (R) ∘ second (R, w, 3, 3) → (1, w, 3, 3)
        projected = torch.einsum("r,rwyx->wyx", head.double(), second.weight.double())
        # Two correlations in a row are one, with the convolution of their kernels.
        composed = F.conv2d(
            first.weight.double().transpose(0, 1), projected.flip(1, 2)[None], padding=2
        ).transpose(0, 1)
        bias = (projected.sum(dim=(1, 2)) * first.bias.double()).sum()
        outer = (head.double() * second.bias.double()).sum()
        self.weight = nn.Parameter(composed.to(dtype))
        self.bias = nn.Parameter((bias + outer)[None].to(dtype))
        self.first = first
        self.second_weight = nn.Parameter(projected[None].to(dtype))
        self.second_bias = nn.Parameter(outer[None].to(dtype))

    def _exact(self, strip: Tensor) -> Tensor:
        return F.conv2d(self.first(strip), self.second_weight, self.second_bias, padding=1)

    def forward(self, image: Tensor) -> Tensor:
        """Normalised `image` (B,3,H,W), H and W at least 3 → its share of the logits (B,1,H,W)."""
        inside = F.conv2d(image, self.weight, self.bias, padding=2)
        top = self._exact(image[:, :, :3])[:, :, :1]
        bottom = self._exact(image[:, :, -3:])[:, :, -1:]
        left = self._exact(image[..., :3])[:, :, 1:-1, :1]
        right = self._exact(image[..., -3:])[:, :, 1:-1, -1:]
        middle = torch.cat([left, inside[:, :, 1:-1, 1:-1], right], dim=3)
        return torch.cat([top, middle, bottom], dim=2)


class InferenceDecoder(nn.Module):
    """`Decoder` whose head projects before it enlarges."""

    def __init__(self, source: Decoder) -> None:
        super().__init__()
        self.stages = source.stages
        head, reference = source.head, source.head_reference
        assert head.bias is not None
        width = head.in_channels - (reference.conv_out.out_channels if reference else 0)
        self.weight = nn.Parameter(head.weight[:, :width].contiguous())
        self.bias = nn.Parameter(head.bias.clone())
        self.image_head = _ImageHead(reference, head.weight[0, width:, 0, 0]) if reference else None

    def forward(
        self, squeezed: Tensor, maps: Sequence[Tensor], image: Tensor, *, supervised: bool = False
    ) -> DecoderOutput:
        features, coarse, gradients = run_stages(self.stages, squeezed, maps, image, supervised)
        logits = resize_like(F.conv2d(features, self.weight, self.bias), image)
        if self.image_head is not None:
            logits = logits + self.image_head(image)
        return DecoderOutput([*coarse, logits], gradients)
