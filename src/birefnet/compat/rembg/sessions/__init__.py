"""rembg's sessions: a class for each name of a network."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, ClassVar

from birefnet.api import load
from birefnet.compat.rembg.arguments import options_of
from birefnet.compat.rembg.names import CLASSES, MODELS, ONNX, OTHERS
from birefnet.compat.rembg.sessions.base import BaseSession, ClothSession, OnnxSession
from birefnet.errors import BiRefNetError, UnknownModelError, UsageError

if TYPE_CHECKING:
    from PIL import Image

    from birefnet.inference.predictor import Input, Predictor

__all__ = [
    "BaseSession",
    "OnnxSession",
    "Session",
    "sessions",
    "sessions_class",
    "sessions_names",
    "sessions_names_downloadable",
    "sessions_names_no_credentials",
]

_PROVIDERS: Mapping[str, str] = {
    "CPUExecutionProvider": "cpu",
    "OpenVINOExecutionProvider": "cpu",
    "CUDAExecutionProvider": "cuda",
    "TensorrtExecutionProvider": "cuda",
    "ROCMExecutionProvider": "cuda",
    "CoreMLExecutionProvider": "coreml",  # with torch its own device, mps
}


class Session(BaseSession):
    """A network of this package.

    Args:
        model_name: as the caller named it.
        sess_opts: of ONNX Runtime; has no effect.
        predictor: a network that is loaded already.
        **kwargs: `providers` of ONNX Runtime, by which rembg chooses the device: the first that is
            there counts; `model_path`, a file instead of the network of this name; `device`,
            `dtype` and `engine` of `birefnet.load`.

    Attributes:
        model_name: see above.
        predictor: what runs the network; also `inner_session`.

    Raises:
        BiRefNetError: no such network, or no such device.
    """

    own_name: ClassVar[str] = "birefnet"
    network: ClassVar[str]

    def __init__(
        self,
        model_name: str,
        sess_opts: object = None,
        *args: object,
        predictor: Predictor | None = None,
        **kwargs: Any,
    ) -> None:
        self.model_name = model_name
        if predictor is None:
            providers: Sequence[object] | None = kwargs.pop("providers", None)
            source = kwargs.pop("model_path", None) or self.network
            refuse(set(kwargs) - {"device", "dtype", "engine"})
            found = {} if providers is None else _device_of(providers)
            predictor = load(source, **{**found, **kwargs})
        self.predictor = self.inner_session = predictor

    @classmethod
    def name(cls, *args: object, **kwargs: object) -> str:
        return cls.own_name

    @classmethod
    def download_models(cls, *args: object, **kwargs: object) -> str:
        """The path of the weights, fetched if need be."""
        from birefnet.weights.obtain import weight_files

        return str(weight_files(cls.network).files[0])

    def predict(self, img: Input, *args: object, **kwargs: object) -> list[Image.Image]:
        """The mask of a picture, mode L, in a list of one; `kwargs` as those of `remove`."""
        from PIL import Image

        matte = options_of(kwargs).predict(self.predictor, img)
        return [Image.fromarray(matte.mask())]


def class_of(name: str) -> type[BaseSession]:
    """The class for rembg's name of a network, or for whatever `birefnet.load` takes.

    Raises:
        UnknownModelError: a network of rembg that cannot run here; the sentence names the nearest.
    """
    if name in sessions:
        return sessions[name]
    if name in OTHERS:
        raise UnknownModelError(
            f"rembg's {name} is another kind of network, which does not run here; choose another "
            f"model (nearest: {OTHERS[name]})"
        )
    return type("Session", (Session,), {"own_name": name, "network": name})


def refuse(unknown: Iterable[str]) -> None:
    """Raises `UsageError` if there is any."""
    if names := sorted(unknown):
        raise UsageError(f"a session has no argument {names[0]!r}; see birefnet.load")


sessions: dict[str, type[BaseSession]] = {
    name: type(CLASSES[name], (Session,), {"own_name": name, "network": network})
    for name, network in MODELS.items()
} | {
    name: type(
        CLASSES[name],
        (ClothSession if name == "u2net_cloth_seg" else OnnxSession,),
        {"own_name": name, "nearest": OTHERS[name], **settings},
    )
    for name, settings in ONNX.items()
}
globals().update((kind.__name__, kind) for kind in sessions.values())  # U2netSession …
sessions_names = list(sessions)
sessions_class = list(sessions.values())
sessions_names_no_credentials = sessions_names
sessions_names_downloadable = list(MODELS)


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
