"""The simplified network in a form for PyTorch on a CPU: equal, without its large maps.

`simplify` gives a network that every runtime can take. These steps pay where operators run one
after the other and each result is new memory. Beside the simplified network, with all of them
`nano` at 704 x 704 takes 0.76 of the time, and 357 MB in place of 453. Swin-T at 1024 x 1024 takes
0.91 of the time, and 800 MB in place of 1354; without the first two steps it is 892 MB. The table
is in docs/performance.md.
- Maps of the half-scale pass stay small. A 1x1 convolution commutes with resizing, so the lateral
  convolution reads them before they are enlarged, together with the features from below.
- A convolution of two concatenated maps is the sum of two convolutions.
- The branches of a deformable ASPP are sampled, multiplied, rectified and joined in pieces that
  stay in the processor's cache (see `cpu_fused`): no map of 256 channels is made.
- EfficientNet's widest maps exist a few rows at a time (see `efficientnet_rows`).
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple, TypeGuard

from birefnet.errors import needs_extra

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.network.backbones.efficientnet_lite import EfficientNetLite
from birefnet.network.backbones.efficientnet_rows import RowwiseEfficientNet
from birefnet.network.birefnet import BiRefNet
from birefnet.network.blocks import ReconstructionBlock, resize, resize_like
from birefnet.network.decoder import BilateralReferenceStage, StageOutput, image_tiles
from birefnet.network.deform import cpu_fused, deformable_conv2d
from birefnet.network.encoder import Encoder, EncoderOutput
from birefnet.network.execution import on_cpu, pinned
from birefnet.network.simplify import (
    InferenceASPP,
    InferenceDecoder,
    InferenceDeformableConv2d,
)

_STRIP = 2**22  # values of a strip of rows that a convolution reads on a CPU: 16 MB in float32


def is_simplified(network: nn.Module) -> TypeGuard[BiRefNet]:
    """Whether `network` comes from `simplify`, and `cpu_optimised` can take it."""
    return isinstance(network, BiRefNet) and isinstance(network.decoder, InferenceDecoder)


def cpu_optimised(network: BiRefNet) -> BiRefNet:
    """An equal network for inference in PyTorch.

    Args:
        network: simplified. Its modules are not changed, and most weights are shared with it.

    Returns:
        A `BiRefNet` whose state dict is its own; supervised outputs remain available.
    """
    assert is_simplified(network), "simplify the network first"
    tensors = {id(t): t for t in (*network.parameters(), *network.buffers())}
    network = copy.deepcopy(network, tensors)
    with torch.no_grad():
        for parent in list(network.modules()):
            for name, child in list(parent.named_children()):
                if isinstance(child, InferenceASPP) and _is_deformable(child):
                    setattr(parent, name, _ASPP(child))
        if isinstance(network.encoder.backbone, EfficientNetLite):
            rows = RowwiseEfficientNet(network.encoder.backbone)
            network.encoder.backbone = rows  # type: ignore[assignment]
        if network.encoder.image_pyramid == "cat" and network.neck is None:
            network.encoder = _Encoder(network.encoder)  # type: ignore[assignment]
        stages = network.decoder.stages
        assert isinstance(stages, nn.ModuleList)
        for i, stage in enumerate(stages):
            assert isinstance(stage, BilateralReferenceStage)
            stages[i] = _Stage(stage)
    for parameter in network.parameters():
        parameter.requires_grad_(False)
    return network


class _Scales(NamedTuple):
    """Maps of one stride; they stand for `cat([full, resize_like(half, full)], dim=1)`."""

    full: Tensor
    half: Tensor


class _Encoder(nn.Module):
    """`Encoder` with a concatenating image pyramid, of which only the deepest maps are joined."""

    def __init__(self, source: Encoder) -> None:
        super().__init__()
        self.source = source

    def forward(self, image: Tensor) -> EncoderOutput:
        full = self.source.features(image)
        half = self.source.features(resize(image, (image.shape[-2] // 2, image.shape[-1] // 2)))
        deepest = torch.cat([full[-1], resize_like(half[-1], full[-1])], dim=1)
        pairs = [_Scales(*pair) for pair in zip(full[:-1], half[:-1], strict=True)]
        context = deepest
        if self.source.context_fusion:
            size = (deepest.shape[-2], deepest.shape[-1])
            parts = []
            for large, small in pairs:
                parts += [resize(large, size), _resize_twice(small, large, size)]
            context = torch.cat([*parts, deepest], dim=1)
        maps: list[Any] = [*pairs, deepest]
        return EncoderOutput(maps, context)


def _resize_twice(x: Tensor, like: Tensor, size: tuple[int, int]) -> Tensor:
    """`resize(resize_like(x, like), size)` without the map in between."""
    batch, channels, height, width = x.shape
    rows = pinned(_resizing((height, like.shape[-2], size[0]), x.dtype, x.device))
    columns = pinned(_resizing((width, like.shape[-1], size[1]), x.dtype, x.device))
    x = x.permute(0, 2, 3, 1).reshape(batch, height, width * channels)
    x = torch.matmul(rows, x).view(batch, size[0], width, channels)
    return torch.matmul(columns, x).permute(0, 3, 1, 2)


def _resize_rows(x: Tensor, size: tuple[int, int], rows: slice) -> Tensor:
    """`resize(x, size)[:, :, rows]` from the rows of `x` that it needs."""
    batch, channels, height, width = x.shape
    scale = (height - 1) / max(size[0] - 1, 1)
    seen = slice(max(int(rows.start * scale) - 1, 0), min(int((rows.stop - 1) * scale) + 3, height))
    weights = _resizing((height, size[0]), x.dtype, x.device)[rows, seen]
    x = x.permute(0, 2, 3, 1)[:, seen].reshape(batch, seen.stop - seen.start, width * channels)
    x = torch.matmul(weights, x).view(batch, -1, width, channels)
    return resize(x.permute(0, 3, 1, 2), (rows.stop - rows.start, size[1]))


@lru_cache(maxsize=64)
def _resizing(sizes: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Matrix (last, first) of linear interpolations from size to size, corners aligned."""
    with torch.inference_mode(False):
        unit = torch.eye(sizes[0], device=device).unsqueeze(0)
        for size in sizes[1:]:
            unit = F.interpolate(unit, size=size, mode="linear", align_corners=True)
        return unit[0].t().to(dtype).contiguous()


class _Stage(BilateralReferenceStage):
    """A stage that takes `_Scales`, and concatenates nothing."""

    def __init__(self, source: BilateralReferenceStage) -> None:
        block = source.block
        if isinstance(block, ReconstructionBlock):
            extra = source.reference.conv_out.out_channels if source.reference else 0
            block = OptimisedBlock(block, extra)
        super().__init__(
            block,
            reference=source.reference,
            lateral=source.lateral,
            outward=source.outward,
            coarse_head=source.coarse_head,
            inward=source.inward,
        )
        if source.lateral is not None:
            self.lateral_parts = _parts_of(source.lateral, 2 * (source.lateral.in_channels // 2,))

    def forward(
        self, features: Tensor, encoded: Tensor | _Scales, image: Tensor, supervised: bool
    ) -> StageOutput:
        """As `BilateralReferenceStage.forward`."""
        joined = self._join(features, encoded)
        reference = None
        if self.reference is not None:
            size = joined.size
            source = image_tiles(image, size) if self.inward == "split" else resize(image, size)
            reference = self.reference(source)
        if isinstance(self.block, OptimisedBlock):
            features = self.block(joined, reference)
        else:
            whole = joined.whole()
            features = self.block(whole if reference is None else torch.cat([whole, reference], 1))
        return self.output(features, supervised)

    def _join(self, features: Tensor, encoded: Tensor | _Scales) -> _Joined:
        """The features from below, enlarged, plus the lateral convolution of the encoder's map."""
        if self.lateral is None:
            return _Joined(features)
        if isinstance(encoded, Tensor):
            return _Joined(features, encoded, self.lateral.weight, self.lateral.bias)
        of_full, of_half = self.lateral_parts
        below = F.conv2d(encoded.half, of_half)
        # Equal but for an odd number of tiles.
        below = below.add_(resize_like(features, below))
        return _Joined(below, encoded.full, of_full, self.lateral.bias)


class _Joined(NamedTuple):
    """A map that need not be made whole: resize_like(below, full) + conv1x1(full), or `below`."""

    below: Tensor
    full: Tensor | None = None
    weight: Tensor | None = None
    bias: Tensor | None = None

    @property
    def size(self) -> tuple[int, int]:
        shape = (self.below if self.full is None else self.full).shape
        return (shape[-2], shape[-1])

    def whole(self) -> Tensor:
        if self.full is None or self.weight is None:
            return self.below
        return F.conv2d(self.full, self.weight, self.bias).add_(resize(self.below, self.size))

    def rows(self, rows: slice) -> Tensor:
        """Some rows of all images."""
        if self.full is None or self.weight is None:
            return self.below[:, :, rows]
        out = F.conv2d(self.full[:, :, rows], self.weight, self.bias)
        return out.add_(_resize_rows(self.below, self.size, rows))


class OptimisedBlock(nn.Module):
    """`ReconstructionBlock` of joined features and, apart from them, a reference.

    Args:
        source: its BatchNorm is folded.
        extra: channels of the reference, 0 without one.
    """

    def __init__(self, source: ReconstructionBlock, extra: int) -> None:
        super().__init__()
        widths = (source.conv_in.in_channels - extra, *([extra] if extra else []))
        self.weights, self.bias = _parts_of(source.conv_in, widths), source.conv_in.bias
        self.attention, self.conv_out = source.attention, source.conv_out
        self.shortcut = source.shortcut

    def forward(self, joined: _Joined, reference: Tensor | None) -> Tensor:
        height, width = joined.size
        channels = self.weights[0].shape[1]
        step = max(1, _STRIP // (channels * width * len(joined.below)))
        if self.shortcut is not None or height <= step or not on_cpu(joined.below):
            whole = joined.whole()
            inside = F.conv2d(whole, self.weights[0], self.bias, padding=1)
            if reference is not None:
                inside += F.conv2d(reference, self.weights[1], padding=1)
        else:
            inside = self._in_strips(joined, reference, step)
        out = self.conv_out(self.attention(F.relu_(inside)))
        if self.shortcut is None:
            return out
        seen = whole if reference is None else torch.cat([whole, reference], dim=1)
        return out.add_(self.shortcut(seen))

    def _in_strips(self, joined: _Joined, reference: Tensor | None, step: int) -> Tensor:
        """The first convolution, a few rows at a time; the joined map is never whole."""
        height, width = joined.size
        if reference is not None:
            inside = F.conv2d(reference, self.weights[1], self.bias, padding=1)
        else:
            assert self.bias is not None
            shape = (len(joined.below), height, width, len(self.bias))
            inside = self.bias.expand(shape).contiguous().permute(0, 3, 1, 2)
        for first in range(0, height, step):
            last = min(first + step, height)
            seen = slice(max(first - 1, 0), min(last + 1, height))
            # The padding stands for rows that are there: what sees it is dropped, but at a border.
            strip = F.conv2d(joined.rows(seen), self.weights[0], padding=1)
            inside[:, :, first:last] += strip[:, :, first - seen.start : last - seen.start]
        return inside


def _parts_of(source: nn.Conv2d, widths: Sequence[int]) -> nn.ParameterList:
    """The weight of a convolution of concatenated maps, cut into those of each map."""
    assert sum(widths) == source.in_channels
    return nn.ParameterList(part.contiguous() for part in source.weight.split(list(widths), dim=1))


def _is_deformable(source: InferenceASPP) -> bool:
    return all(isinstance(branch.conv, InferenceDeformableConv2d) for branch in source.branches)


class _DeformableField(nn.Module):
    """One branch of a deformable ASPP, and its share of the joining convolution.

    Attributes:
        kernel: (taps, C, width).
        project: (width, channels).
    """

    def __init__(self, source: InferenceDeformableConv2d, project: Tensor) -> None:
        super().__init__()
        self.sampling, self.taps = source.sampling, source.taps
        self.kernel = nn.Parameter(source.weight.permute(2, 3, 1, 0).flatten(0, 1).contiguous())
        self.bias = source.bias
        self.project = nn.Parameter(project.flatten(1).t().contiguous())

    def positions(self, x: Tensor, rows: slice | None = None) -> tuple[Tensor, Tensor]:
        """Offsets (B, 2 taps, H, W) and modulation (B, taps, H, W), or some rows of them."""
        rows = rows or slice(0, x.shape[2])
        halo = self.sampling.kernel_size[0] // 2
        seen = slice(max(rows.start - halo, 0), min(rows.stop + halo, x.shape[2]))
        sampling = self.sampling(x[:, :, seen])[
            :, :, rows.start - seen.start : rows.stop - seen.start
        ]
        offset, modulation = sampling.split([2 * self.taps, self.taps], dim=1)
        return offset, modulation.sigmoid_().mul_(2.0)

    def forward(self, x: Tensor) -> Tensor:
        """The share of this branch in the output, (B, channels, H, W)."""
        size = int(self.taps**0.5)
        weight = self.kernel.unflatten(0, (size, size)).permute(3, 2, 0, 1)
        hidden = deformable_conv2d(x, *self.positions(x), weight, self.bias)
        return F.conv2d(F.relu_(hidden), self.project.t()[..., None, None])


class _ASPP(nn.Module):
    """`InferenceASPP` of deformable branches, joined branch by branch."""

    def __init__(self, source: InferenceASPP) -> None:
        super().__init__()
        self.pooled, self.bias = source.pooled, source.bias
        self.project_pooled = source.project_pooled
        convolutions: list[Any] = [branch.conv for branch in source.branches]
        widths = [len(conv.weight) for conv in convolutions]
        shares = source.project.split(widths, dim=1)
        self.fields = nn.ModuleList(map(_DeformableField, convolutions, shares))

    def forward(self, x: Tensor) -> Tensor:
        average = F.relu(self.pooled.conv(x.mean(dim=(2, 3), keepdim=True)))
        base = F.conv2d(average, self.project_pooled, self.bias)
        if on_cpu(x):
            fields: Any = self.fields  # a ModuleList says nothing of its modules
            return F.relu_(cpu_fused.joined_fields(x, fields, base))
        total = sum((field(x) for field in self.fields), base)
        return F.relu_(total)
