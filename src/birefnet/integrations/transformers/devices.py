"""Precision and place of a model, as `from_pretrained` of `transformers` takes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import torch
from transformers import PreTrainedModel

from birefnet.errors import DeviceError, needs_extra

Model = TypeVar("Model", bound=PreTrainedModel)

_STRATEGIES = ("auto", "balanced", "balanced_low_0", "sequential")


def resolve_dtype(choice: str | torch.dtype | None) -> torch.dtype | None:
    """`None` → float32, `auto` → `None` (as stored), any other → that type.

    Raises:
        DeviceError: no floating type is called that.
    """
    if choice is None:
        return torch.float32
    if choice == "auto":
        return None
    dtype = getattr(torch, choice, None) if isinstance(choice, str) else choice
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise DeviceError(f"dtype is {choice!r}; give auto, float32, float16 or bfloat16")
    return dtype


def place_model(
    model: Model,
    device_map: Any,
    *,
    max_memory: object = None,
    offload_folder: str | None = None,
) -> Model:
    """Put a model on a device, or its modules on several.

    Args:
        device_map: see `BiRefNetForImageSegmentation.from_pretrained`.
        max_memory, offload_folder: see accelerate's `infer_auto_device_map`, `dispatch_model`.

    Raises:
        MissingExtraError: more than one device without accelerate.
        DeviceError: modules are named that are not there.
    """
    if isinstance(device_map, (str, int, torch.device)) and device_map not in _STRATEGIES:
        return model.to(device_map)
    if isinstance(device_map, Mapping) and set(device_map) == {""}:
        return model.to(device_map[""])
    with needs_extra("transformers", "a device_map over several devices"):
        from accelerate import dispatch_model, infer_auto_device_map
        from accelerate.utils import check_device_map, get_balanced_memory

    # accelerate finds weights by their names in the state dict, which are the official ones of the
    # model, and the modules' own of the network inside it.
    network = model.network
    whole = list(model._no_split_modules or ())
    if isinstance(device_map, str):
        if device_map != "sequential":
            max_memory = get_balanced_memory(
                network,
                max_memory=max_memory,
                no_split_module_classes=whole,
                low_zero=device_map == "balanced_low_0",
            )
        device_map = infer_auto_device_map(
            network, max_memory=max_memory, no_split_module_classes=whole
        )
    devices = {name.removeprefix("network."): device for name, device in device_map.items()}
    try:
        check_device_map(network, devices)
    except ValueError:
        raise DeviceError(
            f"device_map names {', '.join(device_map)}; together they must be all of "
            "network.encoder, network.squeeze and network.decoder"
        ) from None
    if set(devices.values()) != {"cpu"}:
        # Modules whose weights are read by others than themselves are fetched as a whole.
        dispatch_model(network, devices, offload_dir=offload_folder, preload_module_classes=whole)
    model.hf_device_map = {f"network.{name}" if name else "": p for name, p in devices.items()}
    return model
