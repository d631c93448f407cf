"""The checks of `birefnet doctor`: functions that return findings, and never raise."""

from __future__ import annotations

import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import birefnet
from birefnet.errors import counted

PACKAGES = (
    "numpy",
    "pillow",
    "tifffile",
    "opencv-python-headless",
    "filelock",
    "typer",
    "rich",
    "jinja2",
)
OPTIONAL_PACKAGES = ("safetensors", "onnx", "numba", "timm", "pillow-heif")
EXTRA_ENGINES = ("openvino", "torch")
_OTHERWISE = (
    "or where pip finds only older ones, such as on a Mac with Intel, "
    'pip install "birefnet[openvino]"'
)
_AGAIN = "pip install -U --force-reinstall --no-deps"


@dataclass(frozen=True)
class Finding:
    """One line of the report.

    Attributes:
        name: what was looked at.
        detail: the finding, for people to read.
        ok: whether it works; `None` where nothing can be wrong.
    """

    name: str
    detail: str
    ok: bool | None = None

    def to_dict(self) -> dict[str, Any]:
        return {key: value for key, value in asdict(self).items() if key != "name"}


def examine(*, self_test: bool = True) -> dict[str, list[Finding]]:
    """All findings by section; what raises becomes a broken finding."""
    sections: dict[str, Callable[[], Iterator[Finding]]] = {
        "Versions": versions,
        "Devices": devices,
        "Engines": engines,
        "Weights": weights,
    }
    if self_test:
        sections["Self-test"] = cut_something_out
    return {title: _collect(check) for title, check in sections.items()}


def _collect(check: Callable[[], Iterator[Finding]]) -> list[Finding]:
    findings: list[Finding] = []
    try:
        findings.extend(check())
    except Exception as error:
        findings.append(Finding(check.__name__.replace("_", " "), _sentence(error), ok=False))
    return findings


def versions() -> Iterator[Finding]:
    """Of this package, Python, the system, and what the package needs."""
    yield Finding("birefnet", birefnet.__version__)
    yield Finding("python", f"{platform.python_version()} ({sys.executable})")
    yield Finding("system", f"{platform.platform()}, {counted(os.cpu_count() or 1, 'core')}")
    for name in PACKAGES:
        version = _version(name)
        yield Finding(name, version or "missing: reinstall birefnet", ok=None if version else False)
    for name in OPTIONAL_PACKAGES:
        yield Finding(name, _version(name) or "not installed (optional)")


def devices() -> Iterator[Finding]:
    """Each device that torch sees, with the precisions it computes in; without torch, the CPU."""
    from birefnet.inference.load import has_nvidia_driver

    if find_spec("torch") is None:
        yield Finding("cpu", f"{counted(os.cpu_count() or 1, 'core')}")
        if has_nvidia_driver():
            yield Finding("cuda", f"an NVIDIA driver is here, torch is not: {_install('torch')}")
        return
    import torch

    from birefnet.inference.engines.devices import DTYPES, available_devices, supports

    for name in available_devices():
        device = torch.device(name)
        precisions = [short for short, dtype in DTYPES.items() if supports(device, dtype)]
        detail = f"{_describe(device)}; {', '.join(precisions) or 'computes nothing'}"
        yield Finding(name, detail, ok="fp32" in precisions)
        if device.type == "cuda":
            yield Finding(f"{name} kernels", _kernels_of(device))
    if torch.cuda.is_available():
        return
    if torch.version.cuda:
        yield Finding("cuda", f"torch is built for CUDA {torch.version.cuda}, but sees no GPU")
    elif has_nvidia_driver():
        yield Finding("cuda", "an NVIDIA driver is here, but torch is a build without CUDA")


def _kernels_of(device: Any) -> str:
    """Which kernels compute deformable convolution, and why not the quickest."""
    from birefnet.inference.engines.devices import resolve_dtype
    from birefnet.network.deform.choice import why_not_triton

    problem = why_not_triton(device, resolve_dtype("auto", device))
    return f"PyTorch's: Triton's {problem}" if problem else "Triton's"


def _describe(device: Any) -> str:
    import torch

    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        return f"{properties.name}, {properties.total_memory / 2**30:.0f} GiB"
    if device.type == "mps":
        return "Apple GPU"
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{counted(torch.get_num_threads(), 'thread')}, {capability}"


def engines() -> Iterator[Finding]:
    """The engines that can run a network here, and which `auto` takes for the default model."""
    from birefnet.inference.load import choose_engine
    from birefnet.weights.locate import default_model

    model = default_model()
    chosen = choose_engine("auto", model)
    yield Finding("auto", f"{chosen.engine} for {model}: {chosen.reason}")
    for name in EXTRA_ENGINES:
        yield Finding(name, _version(name) or f"not installed: {_install(name)}")
    yield onnxruntime()


def onnxruntime() -> Finding:
    """The build of ONNX Runtime that is in place; all of them install into the same folder."""
    from birefnet.inference.load import DEFORM_CONV

    is_needed = not any(map(find_spec, EXTRA_ENGINES))
    known = set(metadata.packages_distributions().get("onnxruntime", ()))
    if not known:
        return Finding(
            "onnxruntime",
            f"missing: pip install onnxruntime, {_OTHERWISE}",
            ok=False if is_needed else None,
        )
    from onnxruntime import __version__, get_available_providers
    from onnxruntime.capi.build_and_package_info import package_name

    detail = f"{__version__}, {', '.join(get_available_providers())}"
    if len(known) > 1:
        detail += f"; {' and '.join(sorted(known))} share a folder, {package_name} is in place"
    if tuple(map(int, __version__.split(".")[:2])) < DEFORM_CONV:
        detail += f"; it has no deformable convolution, 1.25 has: {_AGAIN} onnxruntime"
        return Finding("onnxruntime", f"{detail}, {_OTHERWISE}", ok=False if is_needed else None)
    others = sorted(known - {package_name})
    if others and package_name == "onnxruntime":  # which has overwritten the one that was meant
        return Finding("onnxruntime", f"{detail}: {_AGAIN} {others[-1]}", ok=False)
    return Finding("onnxruntime", detail, ok=True)


def _install(extra: str) -> str:
    return f'pip install "birefnet[{extra}]"'


def weights() -> Iterator[Finding]:
    """Bundled and downloaded weights, and whether more could be stored."""
    from birefnet.weights.cache import cache_directory, is_offline
    from birefnet.weights.locate import bundled_names, default_model

    bundled = bundled_names()
    yield Finding("bundled", ", ".join(bundled) or "none: reinstall birefnet", ok=bool(bundled))
    yield Finding("default", default_model())
    folder = cache_directory()
    problem = _cannot_write(folder)
    yield Finding("cache", f"{folder}{f' ({problem})' if problem else ''}", ok=problem is None)
    yield Finding("downloads", "switched off" if is_offline() else "allowed")
    for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
        if path.is_file() and path.suffix in (".safetensors", ".pth", ".pt", ".onnx"):
            size = path.stat().st_size / 2**20
            yield Finding(str(path.relative_to(folder)), f"{size:.1f} MiB")


def _cannot_write(folder: Path) -> str | None:
    """Why nothing can be stored in `folder`, which need not exist yet; `None` if it can."""
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not existing.is_dir():
        return f"{existing} is not a folder"
    try:
        with tempfile.TemporaryFile(dir=existing):
            return None
    except OSError as error:
        return f"not writable: {error.strerror}"


def cut_something_out() -> Iterator[Finding]:
    """The bundled model on a generated picture: a bright disc on a dark ground."""
    import numpy as np

    from birefnet.api import load
    from birefnet.weights.locate import BUNDLED_MODEL

    start = time.perf_counter()
    predictor = load(BUNDLED_MODEL)
    loaded = time.perf_counter()
    y, x = np.mgrid[:240, :320]
    disc = (x - 160) ** 2 + (y - 120) ** 2 < 80**2
    picture = np.where(disc[..., None], (230, 140, 60), (40, 60, 70)).astype(np.uint8)
    matte = predictor.predict(picture)
    cutout = matte.cutout()
    done = time.perf_counter()
    yield Finding("load", f"{BUNDLED_MODEL} in {loaded - start:.2f} s on {predictor.engine.name}")
    finite = bool(np.isfinite(matte.alpha).all()) and cutout.shape == (240, 320, 4)
    yield Finding("cut-out", f"320x240 in {done - loaded:.2f} s", ok=finite)


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _sentence(error: Exception) -> str:
    return str(error) or type(error).__name__
