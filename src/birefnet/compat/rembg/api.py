"""rembg's Python interface, offered by `birefnet.compat.rembg`.

Signatures and meanings: https://github.com/danielgatis/rembg (2.0, read November 2026). What
differs on purpose is in docs/drop_in.md: mattes are never stretched to their own minimum and
maximum, and the old background's colour is always taken out of the edges.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import lru_cache
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from birefnet.api import load
from birefnet.compat.rembg.marks import MARKS, guidance_of
from birefnet.errors import BiRefNetError, UnknownModelError, UsageError
from birefnet.imaging.encoding import encode
from birefnet.imaging.picture import to_uint8
from birefnet.options import Options
from birefnet.weights.locate import default_model

if TYPE_CHECKING:
    from PIL import Image

    from birefnet.inference.predictor import Predictor
    from birefnet.matte import Matte

__all__ = ["BaseSession", "Session", "download_models", "new_session", "remove", "sessions_names"]

MODELS: Mapping[str, str] = {
    "birefnet-general": "general",
    "birefnet-general-lite": "lite",
    "birefnet-general-fp16": "general",
    "birefnet-portrait": "portrait",
    "birefnet-dis": "dis5k",
    "birefnet-hrsod": "hrsod",
    "birefnet-cod": "cod",
    "birefnet-massive": "dis5k-tr-tes",
    "bria-rmbg": "rmbg-2.0",
}
"""rembg's names of the networks that this package runs too, and their names here."""

# rembg's other networks are of other kinds; what comes nearest here is named, never taken unasked.
_OTHERS: Mapping[str, str] = {
    "u2net": "general, lite or nano",
    "u2netp": "nano or lite",
    "silueta": "nano or lite",
    "isnet-general-use": "general or dis5k",
    "u2net_human_seg": "portrait",
    "isnet-anime": "toonout",
    "sam": "any, for all take sam_prompt, boxes and points",
    "u2net_cloth_seg": "none that tells clothes apart",
    "u2net_custom": "the path of a BiRefNet's weights",
    "dis_custom": "the path of a BiRefNet's weights",
    "ben_custom": "the path of a BiRefNet's weights",
    "withoutbg": "general",
    "atlascloud": "general",
}
sessions_names: list[str] = list(MODELS)

_PROVIDERS: Mapping[str, str] = {
    "CPUExecutionProvider": "cpu",
    "OpenVINOExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "ROCMExecutionProvider": "cuda",
    "CoreMLExecutionProvider": "coreml",  # with torch its own device, mps
}
_FOREGROUND, _BACKGROUND, _ERODE = 240, 10, 10
# Options of this package that `remove` takes besides rembg's arguments.
_OWN = {field.name for field in fields(Options)} - {
    *("kind", "background", "batch_size", "format", "quality", "keep_profile", "metadata"),
    *("objects", "min_object"),
}


class Session:
    """A loaded network, as rembg's sessions are.

    Attributes:
        model_name: as the caller named it.
        predictor: what runs it; rembg calls it `inner_session`.
    """

    def __init__(self, model_name: str, predictor: Predictor) -> None:
        self.model_name = model_name
        self.predictor = predictor

    @property
    def inner_session(self) -> Predictor:
        return self.predictor

    def name(self) -> str:
        """The name that the caller gave."""
        return self.model_name

    def predict(self, img: Any, *args: Any, **kwargs: Any) -> list[Image.Image]:
        """The mask of a picture, mode L, in a list of one."""
        from PIL import Image

        matte = _options(kwargs).predict(self.predictor, img)
        return [Image.fromarray(matte.mask())]


BaseSession = Session


def new_session(
    model_name: str | None = None,
    providers: Sequence[Any] | None = None,
    sess_opts: Any = None,
    *args: Any,
    **kwargs: Any,
) -> Session:
    """Load a network.

    Args:
        model_name: one of `sessions_names`, or whatever `birefnet.load` takes; `None` for
            BIREFNET_MODEL or the bundled `nano`.
        providers: of ONNX Runtime, by which rembg chooses the device; the first that is there
            counts. `None` for the best device.
        sess_opts: of ONNX Runtime; has no effect, and a warning says so.
        **kwargs: `device`, `dtype` and `engine` of `birefnet.load`.

    Raises:
        BiRefNetError: a network of another kind, no such network, or no such device.
    """
    if sess_opts is not None:
        warnings.warn("sess_opts has no effect: birefnet sets its engines up itself", stacklevel=2)
    settings: dict[str, Any] = {
        key: kwargs.pop(key) for key in ("device", "dtype", "engine") if key in kwargs
    }
    _refuse(kwargs)
    if providers is not None:
        settings = {**_device_of(providers), **settings}
    name = model_name or default_model()
    return Session(name, load(resolve_name(name), **settings))


def resolve_name(name: str) -> str:
    """rembg's name of a network → this package's; names and paths of this package stay.

    Raises:
        WeightsError: a network that is not a BiRefNet; the sentence names what comes nearest.
    """
    if name in MODELS:
        return MODELS[name]
    if name in _OTHERS:
        raise UnknownModelError(
            f"rembg's {name} is another kind of network, which does not run here; choose another "
            f"model (nearest: {_OTHERS[name]})"
        )
    return name


def remove(
    data: Any,
    alpha_matting: bool = False,
    alpha_matting_foreground_threshold: int = _FOREGROUND,
    alpha_matting_background_threshold: int = _BACKGROUND,
    alpha_matting_erode_size: int = _ERODE,
    session: Session | None = None,
    only_mask: bool = False,
    post_process_mask: bool = False,
    decontaminate: bool = False,
    vitmatte: bool = False,
    vitmatte_model: str | None = None,
    bgcolor: Sequence[int] | None = None,
    force_return_bytes: bool = False,
    *args: Any,
    **kwargs: Any,
) -> Any:
    """Cut the subject out of a picture.

    Args:
        data: bytes of a file, a Pillow image, an array H x W (x 3 or 4), a path or an open binary
            file.
        alpha_matting: find alpha anew inside a band along the edge, see `Matte.matted`.
        alpha_matting_foreground_threshold, alpha_matting_background_threshold: have no effect (a
            warning says so): certain is what the network is sure of by 95 %.
        alpha_matting_erode_size: width of that band [px].
        session: see `new_session`; `None` for the default network, which is loaded once.
        only_mask: the mask instead of the cut-out.
        post_process_mask: remove specks from the mask, smooth it and make it all or nothing.
        decontaminate: has no effect, for the old background's colour is always taken out.
        vitmatte, vitmatte_model: refused; ViTMatte is not part of this package.
        bgcolor: R, G, B, A from 0 to 255 behind the subject.
        force_return_bytes: return bytes whatever came.
        **kwargs: `putalpha=True` keeps the picture's own colours; `alpha_matting_method` is one of
            `birefnet.imaging.matting.METHODS`; others are fields of `birefnet.options.Options`,
            such as `resolution`, `passes`, `crop`. The object is chosen by `boxes`,
            `points` and `not_points` (lists of numbers), or by `sam_prompt` as to rembg's session
            `sam`, whatever the network.

    Returns:
        Bytes of a PNG for bytes, paths and files; a Pillow image, RGBA (L with `only_mask`), for
        one; an array, H x W x 4 (H x W) uint8, for an array.

    Raises:
        BiRefNetError: the picture cannot be read, or an argument is unknown or makes no sense.
    """
    if args:
        raise TypeError("remove takes its further arguments by name")
    if vitmatte or vitmatte_model is not None:
        raise UsageError(
            "vitmatte is not part of this package; use alpha_matting=True, or a matting model"
        )
    kwargs.pop("model_name", None)
    own_colours = bool(kwargs.pop("putalpha", False))
    method = kwargs.pop("alpha_matting_method", "guided")
    choices: dict[str, Any] = {"kind": "mask" if only_mask else "cutout", "refine": not own_colours}
    if alpha_matting:
        given = (alpha_matting_foreground_threshold, alpha_matting_background_threshold)
        if given != (_FOREGROUND, _BACKGROUND):
            warnings.warn("thresholds of alpha matting have no effect", stacklevel=2)
        # rembg erodes both certain sides by a square: each retreats by half of it.
        choices |= {"matting": method, "band": max(1.0, alpha_matting_erode_size / 2)}
    if bgcolor is not None and not only_mask:
        choices["background"] = _colour(bgcolor)
    options = _options(kwargs, **choices)

    predictor = _default(default_model()) if session is None else session.predictor
    matte = options.predict(predictor, data)
    if post_process_mask:
        matte = post_processed(matte)
    rendered = to_uint8(options.render(options.finish(matte)))
    if not only_mask and rendered.shape[2] == 3:
        rendered = np.dstack([rendered, np.full(rendered.shape[:2], 255, np.uint8)])
    return _returned(rendered, data, force_return_bytes)


def post_processed(matte: Matte) -> Matte:
    """As rembg's `post_process_mask`: an opening by one pixel, a Gaussian of two, a threshold."""
    opened = matte.adjusted(offset=-1).adjusted(offset=1)
    return opened.adjusted(blur=4, threshold=127 / 255)


def download_models(*names: str) -> list[str]:
    """Fetch weights ahead of their use; returns where they are.

    Raises:
        BiRefNetError: no such network, none named, or no way to it.
    """
    from birefnet.weights.obtain import weight_files

    if not names:
        raise UsageError(f"name the models to fetch, of {', '.join(sessions_names)}")
    return [str(weight_files(resolve_name(name)).files[0]) for name in names]


def _options(given: Mapping[str, Any], **choices: Any) -> Options:
    _refuse(key for key in given if key not in {*_OWN, *MARKS})
    marks = {key: given[key] for key in MARKS if key in given}
    others = {key: value for key, value in given.items() if key not in MARKS}
    return Options(**{**choices, **(guidance_of(marks) if marks else {}), **others}).prepared()


def _refuse(names: Any) -> None:
    unknown = sorted(names)
    if unknown:
        raise UsageError(
            f"there is no argument {unknown[0]!r} here; besides rembg's there are "
            f"{', '.join(sorted({*_OWN, *MARKS}))}"
        )


def _colour(bgcolor: Sequence[int]) -> tuple[int, ...]:
    colour = tuple(int(value) for value in bgcolor)
    if len(colour) != 4 or not all(0 <= value <= 255 for value in colour):
        raise UsageError(f"bgcolor is {tuple(bgcolor)}; give R, G, B, A from 0 to 255")
    return colour


def _returned(rendered: NDArray[np.uint8], data: Any, force_bytes: bool) -> Any:
    from PIL import Image

    if isinstance(data, np.ndarray) and not force_bytes:
        return rendered
    if isinstance(data, Image.Image) and not force_bytes:
        return Image.fromarray(rendered)
    return encode(rendered, format="png")


def _device_of(providers: Sequence[Any]) -> dict[str, str]:
    names = [item if isinstance(item, str) else item[0] for item in providers]
    unknown = [name for name in names if name not in _PROVIDERS]
    if unknown:
        raise UsageError(
            f"there is no provider {unknown[0]!r} here; choose one of {', '.join(_PROVIDERS)}"
        )
    there = _devices()
    for name in names:
        device = _PROVIDERS[name]
        if device == "coreml" and find_spec("torch"):
            device = "mps"
        if device in there:
            is_openvino = name.startswith("OpenVINO")
            return {"device": device, **({"engine": "openvino"} if is_openvino else {})}
    raise BiRefNetError(
        f"none of {', '.join(names)} is there; this machine has {', '.join(sorted(there))}"
    )


def _devices() -> set[str]:
    """Kinds of devices: those of torch, or without it those of ONNX Runtime."""
    if find_spec("torch"):
        from birefnet.inference.engines.devices import available_devices

        return {device.partition(":")[0] for device in available_devices()}
    from onnxruntime import get_available_providers

    return {_PROVIDERS.get(name, "cpu") for name in get_available_providers()}


@lru_cache(maxsize=1)
def _default(name: str) -> Predictor:
    return load(resolve_name(name))
