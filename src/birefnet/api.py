"""The three functions most people need: `remove_background`, `load`, `load_network`."""

from __future__ import annotations

import os
import threading
import warnings
from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birefnet.errors import UsageError, require
from birefnet.inference.engines.exported import is_exported, open_bundled
from birefnet.inference.engines.metadata import LONG_NAMES
from birefnet.weights.local import bundled, bundled_names, default_model, is_bundled

if TYPE_CHECKING:
    from birefnet.imaging.values import Keep, Kind, Resolution
    from birefnet.inference.engines.exported import ExportedEngine
    from birefnet.inference.engines.metadata import Output
    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Background, Matte
    from birefnet.network.birefnet import BiRefNet
    from birefnet.network.config import NetworkConfig
    from birefnet.weights.records import Checkpoint

KEPT = 2  # predictors that `remove_background` keeps in memory

_loading = threading.Lock()


def remove_background(
    source: Any,
    model: str | os.PathLike[str] | None = None,
    *,
    kind: Kind = "cutout",
    background: Background | None = None,
    resolution: Resolution | None = None,
    refine: bool = True,
    metadata: Keep = "keep",
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
) -> Any:
    """Cut the subject out; what comes back is of the kind that went in.

    | source                          | result                              |
    |---------------------------------|-------------------------------------|
    | path or open binary file        | `PIL.Image`, RGBA                   |
    | bytes                           | bytes of a PNG                      |
    | `PIL.Image`                     | `PIL.Image`, RGBA                   |
    | array H x W (x 1, 3 or 4)       | array H x W x 4 of the source's depth |
    | list or tuple                   | list of the above                   |
    | any other iterable              | lazy iterator of the above          |

    Args:
        source: see the table; `birefnet.imaging.io.decode` says which pictures are read.
        model: see `load`. It is loaded once and kept for the next call.
        kind: what to make of the matte, see `Matte.render`; RGB or grey instead of RGBA where the
            kind has no alpha.
        background: a colour or picture for behind the subject, see `Matte.on`.
        resolution: see `Predictor.predict`.
        refine: remove the old background's colour from the edges.
        metadata: of bytes: keep the picture's resolution, EXIF (with the place), XMP and IPTC, or
            strip.
        device, dtype, engine: see `load`.

    Raises:
        BiRefNetError: one sentence on what is wrong with the picture, model or device.
    """
    from birefnet.inference.predictor import is_single
    from birefnet.matte import read_background

    predictor = _kept(os.fspath(model or default_model()), device, dtype, engine)
    if background is not None:
        background = read_background(background)

    def finish(item: Any, matte: Matte) -> Any:
        if isinstance(item, (bytes, bytearray, memoryview)):
            return matte.encode(
                "png", kind, background=background, refine=refine, metadata=metadata
            )
        if isinstance(item, np.ndarray):
            return matte.render(kind, background=background, refine=refine)
        return matte.to_pil(kind, background=background, refine=refine)

    if is_single(source):
        return finish(source, predictor.predict(source, resolution=resolution))
    results = _each(predictor, source, resolution, finish)
    return list(results) if isinstance(source, (list, tuple)) else results


def _each(
    predictor: Predictor, sources: Iterable[Any], resolution: Resolution | None, finish: Any
) -> Iterator[Any]:
    """Results in order; remembers the sources that the predictor has read ahead."""
    waiting: list[Any] = []

    def remembered() -> Iterator[Any]:
        for source in sources:
            waiting.append(source)
            yield source

    for matte in predictor.predict(remembered(), resolution=resolution):
        yield finish(waiting.pop(0), matte)


def _kept(model: str, device: str, dtype: str, engine: str) -> Predictor:
    with _loading:  # so that threads which start together load once
        return _load_kept(model, device, dtype, engine)


@lru_cache(maxsize=KEPT)
def _load_kept(model: str, device: str, dtype: str, engine: str) -> Predictor:
    return load(model, device=device, dtype=dtype, engine=engine)


def load(
    name: str | os.PathLike[str] | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    engine: str = "auto",
    config: NetworkConfig | Mapping[str, Any] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    offline: bool | None = None,
    progress: Any = None,
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
        engine: auto, torch, openvino or onnx, see `engines.choice.choose_engine`.
        config: how the network is built, or those fields of `NetworkConfig` that neither the file
            says nor its tensors show, such as `{"image_pyramid": "add"}`. Needs the extra `torch`;
            a copy that carries it is kept with the downloads.
        cache_dir, offline, progress: of the download, see `birefnet.weights.download.fetch`.

    Raises:
        WeightsError: no such model, or its file cannot be fetched, read or fitted.
        DeviceError: no such device or precision; nothing falls back silently.
        MissingExtraError: the weights or the engine need a package that is not installed.
    """
    name = name or default_model()
    if config is not None:
        require("`load(config=...)`", "torch")
        from birefnet.weights.convert import with_config

        name = with_config(name, config, cache_dir=cache_dir, offline=offline, progress=progress)
    predictor = _load(
        name,
        device,
        dtype,
        engine,
        {"cache_dir": cache_dir, "offline": offline, "progress": progress},
    )
    predictor.reload = partial(
        load,
        _absolute(name),
        device=device,
        dtype=dtype,
        engine=engine,
        cache_dir=None if cache_dir is None else os.path.abspath(cache_dir),
        offline=offline,
    )
    return predictor


def _absolute(name: str | os.PathLike[str]) -> str:
    """The name of a model, so that it means the same in another working folder."""
    from birefnet.weights.table import lookup

    text = os.fspath(name)
    path = Path(text).expanduser()
    is_known = is_bundled(text) or (path.name == text and lookup(text))
    if isinstance(name, str) and is_known:
        return text
    return str(path.absolute()) if path.exists() else text


def _load(
    name: str | os.PathLike[str],
    device: str,
    dtype: str,
    engine: str,
    options: dict[str, Any],
) -> Predictor:
    from birefnet.inference.engines.choice import choose_engine

    dtype = LONG_NAMES.get(dtype, dtype)
    chosen = choose_engine(engine, name, device, dtype).engine
    if chosen != "torch" and (carried := bundled(name)) is not None:
        return _of_engine(open_bundled(carried, chosen, device=device, dtype=dtype))
    if is_exported(name) or chosen == "onnx":
        return _load_file(name, device, dtype, options)
    if chosen == "openvino":
        predictor = _load_openvino(name, device, dtype, options, required=engine == "openvino")
        if predictor is not None:
            return predictor

    from birefnet.inference.engines.devices import resolve_device, resolve_dtype
    from birefnet.inference.predictor import Predictor
    from birefnet.network.simplify import simplify
    from birefnet.weights.checkpoint import load_checkpoint

    resolve_dtype(dtype, resolve_device(device))  # refuses before a download, not after
    loaded = load_checkpoint(name, **options)
    return Predictor(
        simplify(loaded.network, inplace=True),
        loaded.preprocess,
        device=device,
        dtype=dtype,
        name=loaded.name,
        licence=loaded.licence,
    )


def _of_engine(engine: ExportedEngine, checkpoint: Checkpoint | None = None) -> Predictor:
    # Here, and not at the top: ONNX Runtime has made its session by now, without Python's lock, and
    # a command imports this meanwhile (`birefnet.cli.loading`).
    from birefnet.inference.predictor import Predictor

    about = checkpoint or engine.metadata
    return Predictor(engine, about.preprocess, name=about.name, licence=about.licence)


def _load_file(
    name: str | os.PathLike[str], device: str, dtype: str, options: dict[str, Any]
) -> Predictor:
    """A file that an engine runs as it is: a path, an address, or a published ONNX file."""
    from birefnet.inference.engines.choice import onnx_form
    from birefnet.inference.engines.exported import open_exported
    from birefnet.weights.download import fetch

    path = Path(name).expanduser()
    checkpoint = None if path.exists() and is_exported(path) else onnx_form(name)
    if checkpoint is not None:
        _say_published(name, checkpoint)
        path = fetch(checkpoint, **options)
    elif isinstance(name, str) and "://" in name:
        path = fetch(name, **options)
    output: Output | None = None if checkpoint is None else "logits"
    return _of_engine(open_exported(path, device=device, dtype=dtype, output=output), checkpoint)


def _say_published(name: str | os.PathLike[str], checkpoint: Checkpoint) -> None:
    """Say which file runs, where it is not the one that was named."""
    if os.fspath(name).lower() == checkpoint.name.lower():
        return
    size = f"{checkpoint.bytes / 1e6:,.0f} MB" if checkpoint.bytes else "of unknown size"
    warnings.warn(
        f"{os.fspath(name)} runs as its published ONNX file {checkpoint.name} ({size}); with "
        'pip install "birefnet[torch,openvino]" its weights run, a smaller file and quicker',
        stacklevel=2,
    )


def _load_openvino(
    name: str | os.PathLike[str],
    device: str,
    dtype: str,
    options: dict[str, Any],
    *,
    required: bool,
) -> Predictor | None:
    """`None` if the network cannot be a graph, and the engine is not `required`."""
    from birefnet.inference.engines.openvino_cache import load_openvino
    from birefnet.inference.engines.openvino_engine import UnknownModuleError

    try:
        return _of_engine(load_openvino(name, device=device, dtype=dtype, **options))
    except UnknownModuleError:
        if required:
            raise
        return None


def load_network(
    name: str | os.PathLike[str] | NetworkConfig | None = None,
    *,
    config: NetworkConfig | Mapping[str, Any] | None = None,
) -> BiRefNet:
    """The network itself, a `torch.nn.Module` in evaluation mode on the CPU in fp32.

    Calling it maps a batch (B,3,H,W), normalised as its `preprocess` says, to logits (B,1,H,W); H
    and W are multiples of 32.

    Args:
        name: as for `load`; or a preset of `birefnet.network.config.PRESETS` (`swin_v1_t` …) or a
            `NetworkConfig`, which give random weights. A bundled model wins over a preset of its
            name.
        config: of trained weights, see `load`.

    Raises:
        WeightsError: no such model, or its file cannot be fetched, read or fitted.
        MissingExtraError: the extra `torch` is not installed.
    """
    require("`load_network`", "torch")
    from birefnet.network.build import build_network
    from birefnet.network.config import PRESETS, NetworkConfig
    from birefnet.weights.checkpoint import load_checkpoint

    name = name or default_model()
    if isinstance(name, NetworkConfig):
        if config is not None:
            raise UsageError(
                "config goes with trained weights; give a name or path, or one of both"
            )
        return build_network(name).eval()
    if config is None and isinstance(name, str) and name in PRESETS and name not in bundled_names():
        return build_network(name).eval()
    return load_checkpoint(name, config=config).network
