"""Which engine runs a network: what people ask for, turned into what is there."""

from __future__ import annotations

import ctypes
import os
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Literal, NamedTuple, cast

from birefnet.errors import MissingExtraError, UnknownDeviceError
from birefnet.weights.locate import Located, locate

EngineName = Literal["torch", "openvino", "onnx"]
ENGINES = ("auto", "torch", "openvino", "onnx")
_DTYPES = ("auto", "fp32", "fp16", "bf16")
_OF_FILES: dict[str, EngineName] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
DEFORM_CONV = (1, 25)  # the first ONNX Runtime that computes deformable convolution
# Devices that ONNX Runtime alone knows by these names.
_ONNX_DEVICES = ("tensorrt", "rocm", "migraphx", "directml", "coreml", "openvino")


class Choice(NamedTuple):
    """An engine, and why it was taken: half a sentence."""

    engine: EngineName
    reason: str


def choose_engine(
    engine: str,
    name: str | os.PathLike[str] | Located,
    device: str = "auto",
    dtype: str = "auto",
) -> Choice:
    """`auto` → the quickest engine that is there; any other name → that engine, if it fits.

    For `auto`, in this order:

    1. A file that holds a whole network runs in its own engine.
    2. PyTorch, where it finds a GPU (CUDA, MPS).
    3. OpenVINO on a CPU, where it is installed.
    4. ONNX Runtime, for networks that are there as ONNX: the bundled ones, and without PyTorch
       the released ones of which an ONNX file was published.
    5. PyTorch.

    docs/performance.md has the measurements.

    Args:
        engine: auto, torch, openvino or onnx.
        name: of the model, or a path, as for `birefnet.load`; or what `locate` found for it.
        device, dtype: as for `birefnet.load`.

    Raises:
        DeviceError: an unknown engine or dtype, or one that cannot run this model on this device.
        UnknownModelError: the name means nothing.
        MissingExtraError: the package that the engine or the weights need is not installed.
    """
    if engine not in ENGINES:
        raise UnknownDeviceError(f"engine {engine!r} is unknown; give one of {', '.join(ENGINES)}")
    if dtype not in _DTYPES:
        raise UnknownDeviceError(f"dtype {dtype!r} is unknown; give one of {', '.join(_DTYPES)}")
    located = locate(name)
    if located.exported is not None:
        own = _OF_FILES[located.exported]
        if engine not in ("auto", own):
            raise UnknownDeviceError(
                f"{Path(located.name).name} runs in engine {own}, and {engine} was asked for; "
                f"export the network for {engine}, or ask for auto"
            )
        return Choice(own, "the file is of this engine")
    if engine != "auto":
        return Choice(_check(cast(EngineName, engine), located), "it was asked for")
    return _automatic(located, device, dtype)


def _check(engine: EngineName, located: Located) -> EngineName:
    """`engine`, if it can run these weights here."""
    if engine == "onnx" and not located.is_bundled and located.onnx is None:
        raise UnknownDeviceError(
            f"engine onnx runs .onnx files and bundled models, and {located.name} is neither: "
            "write a file with `birefnet export MODEL -o MODEL.onnx` and load that, or ask for "
            "engine torch or openvino"
        )
    if engine == "openvino" and not _is_there("openvino"):
        raise MissingExtraError("the engine openvino", "openvino")
    if not _is_there("torch") and (
        engine == "torch" or (engine == "openvino" and not located.is_bundled)
    ):
        raise MissingExtraError(f"the engine {engine} for {located.name}", "torch")
    return engine


def _automatic(located: Located, device: str, dtype: str) -> Choice:
    bundled, has_torch = located.is_bundled, _is_there("torch")
    published = located.onnx
    kind = device.partition(":")[0]
    if kind in _ONNX_DEVICES and (bundled or published):
        return Choice("onnx", f"it has the device {kind}")
    if has_torch and (kind not in ("auto", "cpu") or (kind == "auto" and _has_accelerator())):
        return Choice("torch", "it has the GPU")
    if kind == "mps":
        raise MissingExtraError("the device mps", "torch")
    if (bundled or has_torch) and _openvino_is_quickest(dtype) and kind in ("auto", "cpu"):
        return Choice("openvino", "it is the quickest on a CPU")
    has_precision = dtype in ("auto", "fp32")
    if bundled and has_precision and not (has_torch and _onnxruntime_is_old()):
        return Choice("onnx", "it comes with every installation")
    if has_torch:
        return Choice("torch", "it runs all weights")
    if published is not None and has_precision:
        return Choice(
            "onnx", "PyTorch is not installed, and an ONNX file of this model is published"
        )
    what = f"dtype {dtype}" if bundled else f"running the weights {located.name}"
    raise MissingExtraError(what, "torch")


def runs_published_onnx(located: Located) -> bool:
    """Whether `auto` would take the published ONNX file of these weights here."""
    return located.exported == ".onnx" or (located.onnx is not None and not _is_there("torch"))


def _is_there(package: str) -> bool:
    return package in sys.modules or find_spec(package) is not None


def _onnxruntime_is_old() -> bool:
    try:
        import onnxruntime
    except ImportError:
        return True
    return tuple(map(int, onnxruntime.__version__.split(".")[:2])) < DEFORM_CONV


def _openvino_is_quickest(dtype: str) -> bool:
    if not _is_there("openvino") or dtype not in ("auto", "fp32", "bf16"):
        return False
    if dtype != "bf16":
        return True
    from birefnet.inference.engines.openvino_engine import has_bfloat16

    return has_bfloat16()  # otherwise torch computes it without such instructions


def _has_accelerator() -> bool:
    """Whether torch finds a GPU; where no driver is, torch need not be imported to be asked."""
    if "torch" not in sys.modules and not _has_driver():
        return False
    from birefnet.inference.engines.devices import available_devices

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
