"""From a name of weights to a predictor: locate, choose an engine, open it."""

from __future__ import annotations

import ctypes
import os
import sys
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, cast

from birefnet.errors import (
    MissingExtraError,
    UnknownDeviceError,
    UnknownModelError,
    WeightsError,
    require,
)
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import LONG_NAMES, Engine, Metadata, Output
from birefnet.weights.locate import EXPORTED, Located, WeightFiles, at_path, default_model, locate

if TYPE_CHECKING:
    from birefnet.inference.predictor import Predictor
    from birefnet.network.config import NetworkConfig
    from birefnet.weights.catalogue import Checkpoint
    from birefnet.weights.transfer import Report

# Downloads, OpenVINO and PyTorch are imported by the step that needs them: with a bundled network
# in ONNX Runtime a process starts in a second.

EngineName = Literal["torch", "openvino", "onnx"]
ENGINES = ("auto", "torch", "openvino", "onnx")
_DTYPES = ("auto", "fp32", "fp16", "bf16")
_OF_FILES: dict[str, EngineName] = {".onnx": "onnx", ".xml": "openvino", ".pt2": "torch"}
DEFORM_CONV = (1, 25)  # the first ONNX Runtime that computes deformable convolution
# Devices that ONNX Runtime alone knows by these names.
_ONNX_DEVICES = ("tensorrt", "rocm", "migraphx", "directml", "coreml", "openvino")
_AMD = Path("/dev/kfd")  # there with a driver


@dataclass(frozen=True)
class Download:
    """Where downloads go, and whether there may be any; see `birefnet.weights.download.fetch`."""

    cache_dir: str | os.PathLike[str] | None = None
    offline: bool | None = None
    progress: bool | Report | None = None


class ExportedEngine(Engine, Protocol):
    """An engine that runs a file with a whole network: .onnx, .xml (OpenVINO) or .pt2."""

    metadata: Metadata


class Opened(NamedTuple):
    """An engine that runs a network, and what is known of its weights."""

    engine: Engine
    preprocess: Preprocess
    name: str
    licence: str | None


def load(
    name: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    config: NetworkConfig | Mapping[str, object] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: bool | Report | None = None,
) -> Predictor:
    """A predictor with trained weights.

    Args:
        name: a bundled model (`nano`), a released one (`general`, `lite` …; see `birefnet models
            list`), a file (.safetensors, .pth) or directory, or a Hugging Face id; `None` for
            BIREFNET_MODEL or `nano`. Only names that need it are downloaded, once. A file that
            holds a whole network (.onnx, .xml of OpenVINO, .pt2 of torch.export) runs in its own
            engine.
        device: auto (CUDA, MPS, CPU, in that order), cpu, cuda, cuda:1, mps; where ONNX Runtime
            has them directml, coreml and others.
        dtype: auto (fp16 on CUDA, fp32 elsewhere), fp32, fp16, bf16.
        engine: auto, torch, openvino or onnx, see `choose_engine`.
        config: how the network is built, or those fields of `NetworkConfig` that neither the file
            says nor its tensors show, such as `{"image_pyramid": "add"}`. Needs the extra `torch`;
            a copy that carries it is kept with the downloads.
        cache_dir, offline, progress: of the download, see `birefnet.weights.download.fetch`.

    Raises:
        WeightsError: no such model, or its file cannot be fetched, read or fitted.
        DeviceError: no such device or precision; nothing falls back silently.
        MissingExtraError: the weights or the engine need a package that is not installed.
    """
    download = Download(cache_dir, offline, progress)
    located = locate(default_model() if name is None else name)
    if config is not None:
        located = _configured(located, config, download)
    dtype = LONG_NAMES.get(dtype, dtype)
    chosen = choose_engine(engine, located, device, dtype).engine
    opened = open_engine(located, chosen, device, dtype, download, is_required=engine == "openvino")
    # Here, and not at the top: ONNX Runtime has made its session by now, without Python's lock, and
    # a command imports this meanwhile (`birefnet.cli.remove.command`).
    from birefnet.inference.predictor import Predictor

    predictor = Predictor(
        opened.engine, opened.preprocess, name=opened.name, licence=opened.licence
    )
    predictor.reload = partial(
        load,
        located.absolute,
        device=device,
        dtype=dtype,
        engine=engine,
        cache_dir=None if cache_dir is None else os.path.abspath(cache_dir),
        offline=offline,
    )
    return predictor


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


def open_engine(
    located: Located,
    engine: EngineName,
    device: str,
    dtype: str,
    download: Download,
    *,
    is_required: bool = False,
) -> Opened:
    """The network in the engine that was chosen.

    Args:
        located: the weights.
        engine: that `choose_engine` chose.
        device, dtype, download: see `load`.
        is_required: whether a network that OpenVINO cannot run is an error; else PyTorch runs it.
    """
    if located.is_bundled and located.path is not None and engine != "torch":
        files = at_path(located.path, located.name)
        return _described(open_bundled(files, engine, device=device, dtype=dtype))
    if located.exported is not None or engine == "onnx":
        return _open_file(located, device, dtype, download)
    if engine == "openvino":
        from birefnet.inference.engines.openvino_cache import load_openvino
        from birefnet.inference.engines.openvino_engine import UnknownModuleError

        try:
            return _described(load_openvino(located, device=device, dtype=dtype, **vars(download)))
        except UnknownModuleError:
            if is_required:
                raise
    return _open_torch(located, device, dtype, download)


def open_exported(
    path: str | os.PathLike[str],
    *,
    device: str = "auto",
    dtype: str = "auto",
    threads: int | None = None,
    output: Output | None = None,
) -> ExportedEngine:
    """The engine for an exported file.

    Args:
        path: ends with .onnx, .xml or .pt2.
        device: auto, cpu, cuda … as the engine has them.
        dtype: auto, or the precision that the file was exported in; an exported file has only one.
        threads: of a CPU; `None` for the engine's own choice.
        output: what an ONNX file of others gives; `None` finds it out.

    Raises:
        WeightsError: no such file (`UnknownModelError`), or not one of its kind.
        DeviceError: the device is not there, or the file has another precision.
        MissingExtraError: the engine's package is not installed.
    """
    path = Path(path).expanduser()
    if not path.is_file():
        raise UnknownModelError(f"there is no file {path}")
    # Each engine brings a library that the others do not need.
    match path.suffix.lower():
        case ".onnx":
            from birefnet.inference.engines.onnxruntime_engine import OnnxEngine

            return OnnxEngine(path, device, dtype, threads, output)
        case ".xml":
            from birefnet.inference.engines.openvino_engine import OpenVinoEngine

            return OpenVinoEngine(path, device, dtype, threads)
        case ".pt2":
            from birefnet.inference.engines.program_engine import ProgramEngine

            return ProgramEngine(path, device, dtype, threads)
    raise WeightsError(f"{path} is not a file that an engine runs ({', '.join(EXPORTED)})")


def open_bundled(
    files: WeightFiles, engine: str, *, device: str = "auto", dtype: str = "auto"
) -> ExportedEngine:
    """The ONNX graph of a bundled network in an engine other than torch.

    Args:
        files: of the network.
        engine: onnx or openvino.
        device, dtype: as the engine has them.

    Raises: as `open_exported`.
    """
    if engine == "onnx":
        return open_exported(files.graph, device=device, dtype=dtype)
    from birefnet.inference.engines.openvino_engine import OpenVinoEngine

    settings = files.settings
    preprocess = Preprocess.from_dict(settings["preprocess"])
    metadata = Metadata(
        name=files.name,
        preprocess=preprocess,
        size=(preprocess.width, preprocess.height),
        dynamic=True,
        licence=settings.get("licence"),
        source=settings.get("source"),
    )
    return OpenVinoEngine(files.graph, device, dtype, metadata=metadata)


def _configured(
    located: Located, config: NetworkConfig | Mapping[str, object], download: Download
) -> Located:
    """A copy of the weights that says how its network is built."""
    require("`load(config=...)`", "torch")
    from birefnet.weights.convert import with_config

    return locate(with_config(located, config, **vars(download)))


def _open_file(located: Located, device: str, dtype: str, download: Download) -> Opened:
    """A file that an engine runs as it is: a path, an address, or a published ONNX file."""
    if located.path is not None and located.exported is not None:
        return _described(open_exported(located.path, device=device, dtype=dtype))
    from birefnet.weights.download import fetch

    checkpoint = located.onnx
    if checkpoint is None:
        path = fetch(located.name, **vars(download))
        return _described(open_exported(path, device=device, dtype=dtype))
    if located.checkpoint != checkpoint:
        _say_published(located.name, checkpoint)
    path = fetch(checkpoint, **vars(download))
    opened = open_exported(path, device=device, dtype=dtype, output="logits")
    return Opened(opened, checkpoint.preprocess, checkpoint.name, checkpoint.licence)


def _open_torch(located: Located, device: str, dtype: str, download: Download) -> Opened:
    from birefnet.inference.engines.devices import resolve_device, resolve_dtype
    from birefnet.inference.engines.torch_engine import TorchEngine
    from birefnet.network.simplify import simplify
    from birefnet.weights.checkpoint import load_checkpoint

    resolve_dtype(dtype, resolve_device(device))  # refuses before a download, not after
    loaded = load_checkpoint(located, **vars(download))
    engine = TorchEngine(simplify(loaded.network, inplace=True), device, dtype)
    return Opened(engine, loaded.preprocess, loaded.name, loaded.licence)


def _described(engine: ExportedEngine) -> Opened:
    """An engine whose file says what is known of its weights."""
    about = engine.metadata
    return Opened(engine, about.preprocess, about.name, about.licence)


def _say_published(name: str, checkpoint: Checkpoint) -> None:
    """Say which file runs, where it is not the one that was named."""
    size = f"{checkpoint.bytes / 1e6:,.0f} MB" if checkpoint.bytes else "of unknown size"
    warnings.warn(
        f"{name} runs as its published ONNX file {checkpoint.name} ({size}); with "
        'pip install "birefnet[torch,openvino]" its weights run, a smaller file and quicker',
        stacklevel=5,
    )
