"""The interface of an engine, the metadata of the files that engines run, and what they share.

Every exported file carries its metadata as JSON: an ONNX file under the key `birefnet`, an OpenVINO
file under `birefnet` of its runtime information, a .pt2 file as the extra file `birefnet`. Engines
read them, exports write them.
"""

from __future__ import annotations

import ctypes
import json
import os
import weakref
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import DeviceError, WeightsError
from birefnet.imaging.geometry import Preprocess

KEY = "birefnet"
VERSION = 1
# A probability of 0 or 1 has no logit; float32 tells this from 1.
_NEAREST = np.float32(1e-7)

Input = Literal["normalised", "pixels"]
Output = Literal["logits", "matte"]
Precision = Literal["fp32", "fp16", "int8"]
LONG_NAMES = {"float32": "fp32", "float16": "fp16", "half": "fp16", "bfloat16": "bf16"}
"""Of precisions, as PyTorch calls them, and ours."""


@runtime_checkable
class Engine(Protocol):
    """Runs one network on one device at one precision.

    Attributes:
        name: engine, device and precision for people to read, such as "torch cuda:0 fp16".
        batch_size: how many pictures at a time pay on this device; callers may send any number.
    """

    name: str
    batch_size: int

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits of a batch.

        Args:
            batch: float32 [B, 3, H, W], normalised by the weights' preprocessing; H and W are
                multiples of 32. Where `takes_guidance` says so, also [B, 4, H, W], whose last
                channel is that of `birefnet.network.guidance`.

        Returns:
            float32 [B, 1, H, W], finite; the sigmoid of it is the subject's probability.

        Raises:
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        ...


def takes_guidance(engine: Engine) -> bool:
    """Whether the engine's network has a guidance channel; engines that do not say have none."""
    return bool(getattr(engine, "takes_guidance", False))


# Pixels of the largest input of which several run at once on a CPU: above, they would need too much
# memory and gain little.
CONCURRENT_PIXELS = 768 * 768
MOST_CONCURRENT = 8  # calls; with more cores each has several


def concurrent(engine: Engine, pixels: int) -> tuple[Engine, int]:
    """The engine for a long run of inputs of so many pixels, and its concurrency: calls at once.

    An engine that gains from it has a method `concurrent() -> (engine, concurrency)`; the others
    are used as they are, one call at a time.
    """
    make = getattr(engine, "concurrent", None)
    if make is None or pixels > CONCURRENT_PIXELS:
        return engine, 1
    pair: tuple[Engine, int] = make()
    return pair


@dataclass(frozen=True)
class Metadata:
    """Of one exported network.

    Attributes:
        name: of the weights.
        preprocess: how a picture becomes the network's input.
        input: `normalised`: float32 [B, 3, H, W], prepared by `preprocess`; `pixels`: uint8
            [B, H, W, 3], RGB of any size, which the graph prepares itself.
        output: `logits`: float32 [B, 1, H, W], of which the sigmoid is the matte; `matte`: float32
            [B, 1, H, W] in [0, 1], the sigmoid is in the graph.
        precision: of the arithmetic inside; inputs and outputs are float32 (or pixels) always.
        size: width and height of the network's input [px] that the file was made for; the only
            one it takes unless `dynamic`.
        dynamic: batch, height and width are free (multiples of 32); otherwise the batch alone
            where the format can leave it free.
        guided: the input has a fourth channel, see `birefnet.network.guidance`; zeros say nothing.
        licence: of the weights, if known.
        source: where the weights came from.
        producer: the package and version that wrote the file.
        version: of these fields.
    """

    name: str
    preprocess: Preprocess = field(default_factory=Preprocess)
    input: Input = "normalised"
    output: Output = "logits"
    precision: Precision = "fp32"
    size: tuple[int, int] = (1024, 1024)
    dynamic: bool = False
    guided: bool = False
    licence: str | None = None
    source: str | None = None
    producer: str = ""
    version: int = VERSION

    def to_json(self) -> str:
        """One line, the inverse of `from_json`."""
        values = {**asdict(self), "preprocess": self.preprocess.to_dict(), "size": list(self.size)}
        return json.dumps(values, sort_keys=True)

    def encode(self, batch: NDArray[np.float32]) -> NDArray:
        """The input of the graph, from a batch that `preprocess` normalised, float32 [B, 3, H, W].

        For `pixels`, the normalisation is undone: uint8 [B, H, W, 3]. A network that is guided
        gets a channel of zeros where the batch has none.
        """
        if self.guided and batch.shape[1] == 3:
            return np.pad(batch, ((0, 0), (0, 1), (0, 0), (0, 0)))
        if self.input == "normalised":
            return batch
        mean, std = (np.asarray(v, np.float32) for v in (self.preprocess.mean, self.preprocess.std))
        pixels = (batch.transpose(0, 2, 3, 1) * std + mean) * np.float32(255)
        return np.clip(np.rint(pixels), 0, 255).astype(np.uint8)

    def decode(self, result: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, of what the graph gives."""
        return result if self.output == "logits" else logits_of(result)

    def require(self, dtype: str, name: str) -> None:
        """Refuse a `dtype` that the file, called `name`, was not exported in.

        Raises:
            DeviceError: it is neither `auto` nor the file's precision.
        """
        if dtype not in ("auto", self.precision):
            raise DeviceError(
                f"{name} was exported in {self.precision}, and {dtype} was asked for; export it in "
                f"{dtype}, or ask for auto"
            )

    def check_finite(self, result: NDArray[np.float32], name: str) -> None:
        """Refuse what the graph of the file called `name` gave, if it is no number.

        Raises:
            DeviceError: NaN or infinity.
        """
        if not np.isfinite(result).all():
            raise DeviceError(
                f"{name} gave NaN or infinity in {self.precision}; export it in fp32, or its "
                "weights are damaged"
            )

    @classmethod
    def from_json(cls, text: str, where: str) -> Metadata:
        """Read what `to_json` wrote; `where` names the file in messages.

        Raises:
            WeightsError: damaged, or written by a later version.
        """
        try:
            values: object = json.loads(text)
        except (json.JSONDecodeError, RecursionError):
            raise WeightsError(f"the birefnet metadata of {where} are not valid JSON") from None
        if not isinstance(values, Mapping):
            raise WeightsError(f"the birefnet metadata of {where} are not a JSON object")
        version = values.get("version", 1)
        if not isinstance(version, int) or version > VERSION:
            raise WeightsError(
                f"the metadata of {where} have version {version!r} and this birefnet understands "
                f"up to {VERSION}: upgrade it (pip install -U birefnet)"
            )
        known = {one.name for one in fields(cls)}
        given = {key: value for key, value in values.items() if key in known}
        try:
            for name, options in (
                ("input", get_args(Input)),
                ("output", get_args(Output)),
                ("precision", get_args(Precision)),
            ):
                if given.get(name, options[0]) not in options:
                    raise ValueError(f"{name} is {given[name]!r}; known are {', '.join(options)}")
            given["preprocess"] = Preprocess.from_dict(given.get("preprocess", {}))
            width, height = given.get("size", (1024, 1024))
            given["size"] = (int(width), int(height))
            return cls(**given)
        except (ValueError, TypeError, KeyError) as failure:
            raise WeightsError(f"the birefnet metadata of {where} are wrong: {failure}") from None


def logits_of(matte: NDArray[np.float32]) -> NDArray[np.float32]:
    """The inverse of the sigmoid; finite for 0 and 1 too."""
    inside = np.clip(matte, _NEAREST, 1 - _NEAREST)
    return np.log(inside / (1 - inside))


# Of a process that is forked, only the forking thread lives on: what waits for the others of a
# thread pool waits for ever.
_methods: list[weakref.WeakMethod[Callable[[], None]]] = []


def call_in_forks(method: Callable[[], None]) -> None:
    """Call a bound method in every process that is forked from this one, while its object lives."""
    _methods[:] = [known for known in _methods if known() is not None]
    _methods.append(weakref.WeakMethod(method))


def never_delete(thing: object) -> None:
    """Keep an object, and what it refers to, for as long as the process lives.

    Its destructor would join threads that the fork has not got.
    """
    ctypes.pythonapi.Py_IncRef(ctypes.py_object(thing))


def _in_child() -> None:
    for known in _methods:
        method = known()
        if method is not None:
            method()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_in_child)
