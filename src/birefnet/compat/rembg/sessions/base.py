"""`BaseSession`, with the constructor and the class methods of rembg's (2.0.86)."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import UnknownModelError, UsageError, WeightsError

if TYPE_CHECKING:
    import onnxruntime
    from PIL import Image

Colours = tuple[float, float, float]


class BaseSession:
    """A network in ONNX Runtime: the base of sessions that programs write themselves.

    A derived class has `name`, `download_models` (which gives the path of the ONNX file) and
    `predict`.

    Args:
        model_name: as the caller named it.
        sess_opts: of ONNX Runtime; `None` for the usual ones.
        **kwargs: `providers` of ONNX Runtime; others go to `download_models`.

    Attributes:
        model_name: see above.
        inner_session: what runs the network.
    """

    inner_session: Any

    def __init__(
        self,
        model_name: str,
        sess_opts: onnxruntime.SessionOptions | None = None,
        *args: object,
        **kwargs: object,
    ) -> None:
        import onnxruntime

        self.model_name = model_name
        providers = kwargs.pop("providers", None) or onnxruntime.get_available_providers()
        path = type(self).download_models(*args, **kwargs)
        self.inner_session = onnxruntime.InferenceSession(
            str(path), sess_options=sess_opts, providers=providers
        )

    def normalize(
        self,
        img: Image.Image,
        mean: Colours,
        std: Colours,
        size: tuple[int, int],
        *args: object,
        **kwargs: object,
    ) -> dict[str, NDArray[np.float32]]:
        """The network's input [1,3,h,w] of a picture resized to `size` (width, height).

        As in rembg, values are shares of the picture's largest one.
        """
        from PIL import Image

        pixels = np.asarray(img.convert("RGB").resize(size, Image.Resampling.LANCZOS), np.float32)
        scaled = (pixels / max(float(pixels.max()), 1e-6) - np.array(mean)) / np.array(std)
        batch = scaled.transpose(2, 0, 1)[None].astype(np.float32)
        return {self.inner_session.get_inputs()[0].name: batch}

    def predict(self, img: Image.Image, *args: object, **kwargs: object) -> list[Image.Image]:
        """The masks of a picture, mode L, of its size."""
        raise NotImplementedError

    @classmethod
    def name(cls, *args: object, **kwargs: object) -> str:
        """The name of it in `new_session`."""
        raise NotImplementedError

    @classmethod
    def download_models(cls, *args: object, **kwargs: object) -> str:
        """The path of the network's file, fetched if need be."""
        raise NotImplementedError

    @classmethod
    def is_local(cls, *args: object, **kwargs: object) -> bool:
        """Whether pictures stay on this machine: always."""
        return True

    @classmethod
    def requires_credentials(cls, *args: object, **kwargs: object) -> bool:
        """Never."""
        return False

    @classmethod
    def has_usage_cost(cls, *args: object, **kwargs: object) -> bool:
        """Never."""
        return False

    @classmethod
    def checksum_disabled(cls, *args: object, **kwargs: object) -> bool:
        """Never: MODEL_CHECKSUM_DISABLED has no effect here."""
        return False

    @classmethod
    def legacy_home(cls, *args: object, **kwargs: object) -> str:
        """Where rembg kept its files once: U2NET_HOME, or ~/.u2net."""
        default = os.path.join(os.getenv("XDG_DATA_HOME", "~"), ".u2net")
        return os.path.expanduser(os.getenv("U2NET_HOME", default))

    @classmethod
    def rembg_home(cls, *args: object, **kwargs: object) -> str:
        """Where rembg keeps its files: U2NET_HOME, REMBG_HOME, or ~/.rembg."""
        if os.getenv("U2NET_HOME"):
            return cls.legacy_home()
        data = os.getenv("XDG_DATA_HOME")
        default = os.path.join(data, "rembg") if data else os.path.join("~", ".rembg")
        return os.path.expanduser(os.getenv("REMBG_HOME", default))

    u2net_home = rembg_home

    @classmethod
    def model_dir(cls, *args: object, **kwargs: object) -> str:
        """Where rembg keeps the files of this network."""
        return os.path.join(cls.rembg_home(), "models", cls.name())

    @classmethod
    def resolve_existing(cls, fname: str, *args: object, **kwargs: object) -> str | None:
        """The path of a file in rembg's folders; None if it is not there."""
        paths = (os.path.join(folder, fname) for folder in (cls.model_dir(), cls.legacy_home()))
        return next((path for path in paths if os.path.exists(path)), None)

    @classmethod
    def validate_model_path(cls, *args: object, **kwargs: Any) -> str:
        """The caller's `model_path` as an absolute path.

        Raises:
            UsageError: it is missing.
            WeightsError: there is no such file.
        """
        if kwargs.get("model_path") is None:
            raise UsageError(f"{cls.name()} needs model_path, the path of an ONNX file")
        path = Path(kwargs["model_path"]).expanduser().absolute()
        if not path.is_file():
            raise WeightsError(f"there is no file {path}; model_path is that of an ONNX file")
        return str(path)


class OnnxSession(BaseSession):
    """A network of rembg that is no BiRefNet, from an ONNX file that the user has.

    Its output is taken as it is, between 0 and 1; rembg stretches each mask to its own extremes.
    """

    own_name: ClassVar[str]
    side: ClassVar[int] = 320
    mean: ClassVar[Colours] = (0.485, 0.456, 0.406)
    std: ClassVar[Colours] = (0.229, 0.224, 0.225)
    nearest: ClassVar[str] = "nano"

    @classmethod
    def name(cls, *args: object, **kwargs: object) -> str:
        return cls.own_name

    @classmethod
    def download_models(cls, *args: object, **kwargs: object) -> str:
        """The file among rembg's, or `model_path`; nothing is downloaded.

        Raises:
            UnknownModelError: it is not there.
        """
        if "model_path" in kwargs or cls.own_name.endswith("_custom"):
            return cls.validate_model_path(**kwargs)
        path = cls.resolve_existing(f"{cls.own_name}.onnx")
        if path is None:
            raise UnknownModelError(
                f"rembg's {cls.own_name} is another kind of network, which is not downloaded here: "
                f"put {cls.own_name}.onnx into {cls.model_dir()}, give its model_path, or choose "
                f"another model (nearest: {cls.nearest})"
            )
        return path

    def predict(self, img: Image.Image, *args: object, **kwargs: object) -> list[Image.Image]:
        """The mask of a picture, mode L, in a list of one.

        Raises:
            UsageError: any argument, such as `sam_prompt`: this network looks at nothing else.
        """
        from PIL import Image

        self._refuse(kwargs)
        share = np.clip(self._output(img)[0, 0], 0, 1)
        mask = Image.fromarray((share * 255).astype(np.uint8))
        return [mask.resize(img.size, Image.Resampling.LANCZOS)]

    def _output(self, img: Image.Image) -> NDArray[np.float32]:
        """The network's first output, [1,c,h,w]."""
        inputs = self.normalize(img, self.mean, self.std, (self.side, self.side))
        output: NDArray[np.float32] = self.inner_session.run(None, inputs)[0]
        return output

    def _refuse(self, arguments: Iterable[str]) -> None:
        if unknown := sorted(arguments):
            raise UsageError(
                f"{self.own_name} has no argument {unknown[0]!r}; leave it out, or choose a "
                "network of this package, which takes boxes, points and sam_prompt"
            )


class ClothSession(OnnxSession):
    """rembg's `u2net_cloth_seg`: a mask for each garment."""

    garments: ClassVar[Mapping[str, tuple[int, ...]]] = {
        "upper": (1,),
        "lower": (2,),
        "full": (3,),
        "attire": (1, 2, 3),
    }

    def predict(self, img: Image.Image, *args: object, **kwargs: Any) -> list[Image.Image]:
        """Masks of a picture, mode L.

        Args:
            img: the picture.
            **kwargs: `cc` or `cloth_category`: `upper`, `lower`, `full` (the body) or `attire`
                (all in one mask); without it a mask of each of the first three.

        Raises:
            UsageError: another category, or another argument.
        """
        from PIL import Image

        self._refuse(set(kwargs) - {"cc", "cloth_category"})
        category = kwargs.get("cc") or kwargs.get("cloth_category")
        if category is not None and category not in self.garments:
            raise UsageError(
                f"cloth_category is {category!r}; choose one of {', '.join(self.garments)}"
            )
        classes = self._output(img)[0].argmax(axis=0)
        masks = [
            Image.fromarray(np.isin(classes, self.garments[name]).astype(np.uint8) * 255)
            for name in ([category] if category else ["upper", "lower", "full"])
        ]
        return [mask.resize(img.size, Image.Resampling.LANCZOS) for mask in masks]
