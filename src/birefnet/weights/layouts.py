"""Names of parameters: ours and those of the released checkpoints, and the way between them.

The two layouts hold the same tensors under other names, so converting is renaming, in both
directions, and loses nothing. `from_official(to_official(name)) == name` for every parameter.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

T = TypeVar("T")

# Inside a decoder block: (ours, official), first match wins, matched at a dot or the end.
_BLOCK = (
    ("conv_in", "conv_in"),
    ("norm_in", "bn_in"),
    ("conv_out", "conv_out"),
    ("norm_out", "bn_out"),
    ("shortcut", "conv_resi"),
    ("attention.pooled.conv", "dec_att.global_avg_pool.1"),
    ("attention.pooled.norm", "dec_att.global_avg_pool.2"),
    ("attention.project", "dec_att.conv1"),
    ("attention.norm", "dec_att.bn1"),
)
_DEFORMABLE = (
    ("conv.offset", "atrous_conv.offset_conv"),
    ("conv.modulator", "atrous_conv.modulator_conv"),
    ("conv.regular", "atrous_conv.regular_conv"),
    ("norm", "bn"),
)
_PLAIN = (("conv", "atrous_conv"), ("norm", "bn"))
_MAX_BRANCHES = 8


def _block(ours: str, official: str, deformable: bool) -> list[tuple[str, str]]:
    pairs = [(f"{ours}.{a}", f"{official}.{b}") for a, b in _BLOCK]
    for i in range(_MAX_BRANCHES):
        if deformable:
            branch = "dec_att.aspp1" if i == 0 else f"dec_att.aspp_deforms.{i - 1}"
        else:
            branch = f"dec_att.aspp{i + 1}"
        inside = _DEFORMABLE if deformable else _PLAIN
        pairs += [
            (f"{ours}.attention.branches.{i}.{a}", f"{official}.{branch}.{b}") for a, b in inside
        ]
    return pairs


def _pairs(deformable: bool) -> list[tuple[str, str]]:
    """All prefixes (ours, official) of a network; `deformable` tells the kind of ASPP."""
    pairs = [
        ("encoder.backbone", "bb"),
        ("encoder.guidance", "guidance"),  # of no released checkpoint
        ("classifier", "cls_head.0"),
        ("decoder.head", "decoder.conv_out1.0"),
        ("decoder.head_reference.conv_in", "decoder.ipt_blk1.conv1"),
        ("decoder.head_reference.conv_out", "decoder.ipt_blk1.conv_out"),
        *_block("squeeze", "squeeze_module.0", deformable),
    ]
    pairs += [(f"neck.projections.{i}", f"decoder.pyramid_neck_x{i + 1}.conv") for i in range(4)]
    for i in range(4):  # stage i of ours is number 4 - i there, the references one higher
        ours, number = f"decoder.stages.{i}", 4 - i
        pairs += _block(f"{ours}.block", f"decoder.decoder_block{number}", deformable)
        pairs += [
            (f"{ours}.reference.conv_in", f"decoder.ipt_blk{number + 1}.conv1"),
            (f"{ours}.reference.conv_out", f"decoder.ipt_blk{number + 1}.conv_out"),
            (f"{ours}.lateral", f"decoder.lateral_block{number + 1}.conv"),
            (f"{ours}.coarse_head", f"decoder.conv_ms_spvn_{number}"),
            (f"{ours}.outward.conv", f"decoder.gdt_convs_{number}.0"),
            (f"{ours}.outward.norm", f"decoder.gdt_convs_{number}.1"),
            (f"{ours}.outward.attention", f"decoder.gdt_convs_attn_{number}.0"),
            (f"{ours}.outward.prediction", f"decoder.gdt_convs_pred_{number}.0"),
        ]
    return pairs


def _rename(state: Mapping[str, T], table: Mapping[str, str]) -> dict[str, T]:
    # Longest prefix first; a name that no prefix covers is handed on, for strict loading to report.
    prefixes = "|".join(re.escape(p) for p in sorted(table, key=len, reverse=True))
    pattern = re.compile(rf"({prefixes})(?=\.|$)")
    renamed = {}
    for name, value in state.items():
        match = pattern.match(name)
        new = name if match is None else table[match[1]] + name[match.end() :]
        if new in renamed:
            raise ValueError(f"two parameters would be called {new!r} (one of them is {name!r})")
        renamed[new] = value
    return renamed


def is_official(names: Mapping[str, object]) -> bool:
    """Whether these parameters carry the official names (`bb.…`)."""
    return any(name.startswith("bb.") for name in names)


def to_official(state: Mapping[str, T]) -> dict[str, T]:
    """Our names → official names; the values are handed on as they are."""
    deformable = any(".conv.offset." in name for name in state)
    return _rename(state, dict(_pairs(deformable)))


def from_official(state: Mapping[str, T]) -> dict[str, T]:
    """Official names → our names; the values are handed on as they are."""
    deformable = any(".offset_conv." in name for name in state)
    return _rename(state, {official: ours for ours, official in _pairs(deformable)})
