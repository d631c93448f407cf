"""Which engine runs a network: what people ask for, turned into what is there."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, cast

from birefnet.engines.exported import is_exported
from birefnet.errors import MissingExtraError, UnknownDeviceError

EngineName = Literal["torch", "openvino", "onnx"]
ENGINES = ("auto", "torch", "openvino", "onnx")
_OF_FILES: dict[str, EngineName] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}


def choose_engine(
    engine: str, name: str | os.PathLike[str], device: str = "auto", dtype: str = "auto"
) -> EngineName:
    """`auto` → the quickest engine that is there; any other name → that engine, if it fits.

    On a CPU that is OpenVINO, if it is installed, in fp32 and bf16: docs/performance.md has the
    measurements. It starts sooner than torch from the second time on, when its graph is kept, and
    gives the same logits to rounding. Everything else runs in torch. A file that holds a whole
    network has its own engine.

    Args:
        engine: auto, torch, openvino or onnx.
        name: of the model, or a path, as for `birefnet.load`.
        device, dtype: as for `birefnet.load`.

    Raises:
        DeviceError: an unknown engine, or one that cannot run this model on this device.
        MissingExtraError: the engine's package is not installed.
    """
    if engine not in ENGINES:
        raise UnknownDeviceError(f"engine {engine!r} is unknown; give one of {', '.join(ENGINES)}")
    if is_exported(name):
        own = _OF_FILES[Path(name).suffix.lower()]
        if engine not in ("auto", own):
            raise UnknownDeviceError(
                f"{Path(name).name} runs in engine {own}, and {engine} was asked for; export the "
                f"network for {engine}, or ask for auto"
            )
        return own
    if engine == "onnx":
        raise UnknownDeviceError(
            "engine onnx runs .onnx files: write one with `birefnet export MODEL -o MODEL.onnx` "
            "and load that, or ask for engine torch or openvino"
        )
    if engine == "openvino" and find_spec("openvino") is None:
        raise MissingExtraError("the engine openvino", "openvino")
    if engine == "auto":
        return "openvino" if _openvino_is_quickest(device, dtype) else "torch"
    return cast(EngineName, engine)


def _openvino_is_quickest(device: str, dtype: str) -> bool:
    if find_spec("openvino") is None or dtype not in ("auto", "fp32", "float32", "bf16"):
        return False
    if device != "cpu" and (device != "auto" or _has_accelerator()):
        return False
    if dtype != "bf16":
        return True
    from birefnet.engines.openvino_engine import has_bfloat16

    return has_bfloat16()  # otherwise torch computes it without such instructions


def _has_accelerator() -> bool:
    """Whether torch finds a GPU; where no driver is, torch need not be imported to be asked."""
    if find_spec("torch") is None or not ("torch" in sys.modules or _has_driver()):
        return False
    from birefnet.engines.devices import available_devices

    return available_devices() != ["cpu"]


def _has_driver() -> bool:
    """Whether a GPU may be there: in a container, under WSL2 or on a plain system."""
    return sys.platform in ("win32", "darwin") or _AMD.exists() or has_nvidia_driver()


def has_nvidia_driver() -> bool:
    """Whether the library that every CUDA program needs can be loaded."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


_AMD = Path("/dev/kfd")
