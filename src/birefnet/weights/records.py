"""What is known of a released checkpoint: where it lies, how to check it, who may use it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from birefnet.imaging.geometry import Preprocess

Kind = Literal["network", "onnx", "backbone"]
Use = Literal["free", "restricted-data", "non-commercial"]
HUB = "https://huggingface.co"


@dataclass(frozen=True)
class Score:
    """One reported result: the data set, its metrics by name, and who reported it."""

    dataset: str
    values: Mapping[str, float]
    source: str

    def __str__(self) -> str:
        return f"{self.dataset}: " + ", ".join(f"{k} {v:g}" for k, v in self.values.items())


@dataclass(frozen=True)
class Checkpoint:
    """One released file.

    Attributes:
        name: what users call it, as in `birefnet.load("general")`.
        title: one line on what it is for.
        task: general, matting, portrait, DIS, HRSOD, COD, anime; or the role of an ONNX file or
            backbone.
        kind: `network` is a whole BiRefNet, `onnx` an exported one whose output is logits,
            `backbone` an encoder trained on ImageNet, for training.
        preset: name of the architecture in `birefnet.network.config.PRESETS` (of a backbone: its
            name there).
        filename: of the file at its address.
        addresses: where to fetch it, best first.
        size: width and height [pixels] of the input it was trained for.
        native: trained on pictures of many sizes, so it takes each at its own.
        bytes: exact size, where known.
        sha256: lowercase hexadecimal, where known. Some are reported by third parties, for the
            exact revision that the address names.
        precision: of the stored numbers, where known.
        licence: of the weights.
        use: `free`; `restricted-data`: the weights' licence allows commercial use, but sets they
            were trained on are released for research only; `non-commercial`: the weights themselves
            are.
        data: what it was trained on.
        scores: results that its publisher reports.
        repo: id on Hugging Face, if it lies there.
        revision: of `repo`.
        gated: the publisher asks for an account and the acceptance of terms (set HF_TOKEN).
        onnx: name of the entry that holds the same network as an ONNX file, where its own file name
            does not tell.
        aliases: other names that find it.
    """

    name: str
    title: str
    task: str
    kind: Kind
    preset: str
    filename: str
    addresses: tuple[str, ...]
    size: tuple[int, int] = (1024, 1024)
    native: bool = False
    bytes: int | None = None
    sha256: str | None = None
    precision: Literal["fp16", "fp32"] | None = None
    licence: str = "MIT"
    use: Use = "restricted-data"
    data: str = ""
    scores: tuple[Score, ...] = ()
    repo: str | None = None
    revision: str = "main"
    gated: bool = False
    onnx: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters."""
        return PARAMETERS.get(self.preset) if self.kind != "backbone" else None

    @property
    def approximate_bytes(self) -> int | None:
        """`bytes`, or what the parameters and the precision make it."""
        if self.bytes is None and self.parameters and self.precision:
            return self.parameters * (2 if self.precision == "fp16" else 4)
        return self.bytes

    @property
    def input_size(self) -> str:
        """Its input for people to read: `1024x1024`, or `native, 256-2304`."""
        if self.native:
            return "native, 256-2304"
        return f"{self.size[0]}x{self.size[1]}"

    @cached_property
    def preprocess(self) -> Preprocess:
        """How a picture becomes its input: as in training, stretched, ImageNet statistics."""
        from birefnet.imaging.geometry import Preprocess

        width, height = self.size
        return Preprocess(width=width, height=height, fit="native" if self.native else "stretch")


# Trained parameters by architecture, without buffers (a test counts them).
PARAMETERS: Mapping[str, int] = MappingProxyType(
    {"swin_v1_l": 220_176_498, "swin_v1_t": 44_313_720}
)
