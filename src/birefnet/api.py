"""The three functions most people need: `remove_background`, `load`, `load_network`."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np

from birefnet.errors import UsageError, require
from birefnet.inference.load import load
from birefnet.weights.locate import bundled_names, default_model

if TYPE_CHECKING:
    from birefnet.imaging.values import Keep, Kind, Resolution
    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Background, Matte
    from birefnet.network.birefnet import BiRefNet
    from birefnet.network.config import NetworkConfig

__all__ = ["load", "load_network", "remove_background"]

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
        metadata: of bytes: keep the picture's resolution, EXIF (with GPS), XMP and IPTC, or
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

    def finish(item: object, matte: Matte) -> object:
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
    predictor: Predictor,
    sources: Iterable[Any],
    resolution: Resolution | None,
    finish: Callable[[object, Matte], object],
) -> Iterator[object]:
    """Results in order; remembers the sources that the predictor has read ahead."""
    waiting: list[object] = []

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


def load_network(
    name: str | os.PathLike[str] | NetworkConfig | None = None,
    *,
    config: NetworkConfig | Mapping[str, object] | None = None,
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
