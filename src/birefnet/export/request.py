"""An export: its request and its result.

Each format has one function of the same shape, `export_X(request, path) -> list[Path]`:
`onnx.export_onnx`, `openvino.export_openvino`, `torch_program.export_torch_program`. They write the
file and its metadata (`request.metadata()`); `run.export` compares the result with the network and
reports.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import UsageError, require
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import Metadata, Precision

if TYPE_CHECKING:
    from birefnet.export.parity import Parity
    from birefnet.network.birefnet import BiRefNet

Format = Literal["onnx", "openvino", "torch"]
SUFFIXES: dict[str, str] = {"onnx": ".onnx", "openvino": ".xml", "torch": ".pt2"}
_EXTRAS = {"onnx": ("onnx",), "openvino": ("torch", "openvino"), "torch": ("torch",)}


def format_of(path: Path) -> Format:
    """The format that a suffix means."""
    for format, suffix in SUFFIXES.items():
        if path.suffix.lower() == suffix:
            return format  # type: ignore[return-value]
    raise UsageError(
        f"the format of {path.name} is not clear from its suffix; give --format, or one of "
        f"{', '.join(SUFFIXES.values())}"
    )


def check_extras(format: Format, precision: str) -> None:
    """Refuse an export whose packages are not installed.

    Raises:
        MissingExtraError: names the extras.
    """
    if (format, precision) == ("openvino", "int8"):
        require("exporting to OpenVINO in int8", "nncf")
    require(f"exporting a {SUFFIXES[format]} file", *_EXTRAS[format])


@dataclass(frozen=True, eq=False)
class Request:
    """One export.

    Attributes:
        network: simplified already (`birefnet.network.simplify`), on the CPU, in fp32. It is not
            changed; `network.exportable` makes of it what is traced.
        preprocess: of the weights.
        precision: fp32, fp16 (inputs and outputs stay fp32) or int8 (post-training quantisation,
            needs `calibration`).
        size: width and height of the network's one input [px], multiples of 32; `None` keeps the
            preprocessing whole, with all its views.
        dynamic: leave batch, height and width free; done unasked where the preprocessing wants
            inputs of several sizes, see `is_dynamic`.
        standard_ops: write deformable convolution with ordinary operators.
        with_preprocessing: uint8 pixels [B, H, W, 3] of any size in, matte [B, 1, H, W] out.
        calibration: normalised batches [1, 3, h, w], for int8 and for the comparison.
        pictures: files whose masks are compared with the model's.
        opset: of ONNX; `None` for the exporter's choice.
        name, licence, source: of the weights.
    """

    network: BiRefNet
    preprocess: Preprocess
    precision: Precision = "fp32"
    size: tuple[int, int] | None = None
    dynamic: bool = False
    standard_ops: bool = False
    with_preprocessing: bool = False
    calibration: Sequence[NDArray[np.float32]] = ()
    pictures: Sequence[Path] = ()
    opset: int | None = None
    name: str = "birefnet"
    licence: str | None = None
    source: str | None = None

    def __post_init__(self) -> None:
        for side in self.input_size:
            if side < 32 or side % 32:
                raise UsageError(
                    f"the export's size is {self.input_size[0]}x{self.input_size[1]}; both sides "
                    "must be multiples of 32, such as 1024x1024"
                )
        backbone = self.network.config.backbone
        if self.is_dynamic and backbone.startswith("timm:"):
            raise UsageError(
                f"a file of every size is not possible with {backbone}, whose own code computes "
                "with the size; give one size (--size WxH) and leave --dynamic out"
            )
        if self.with_preprocessing and self.size is None and self.wants_more_views:
            raise UsageError(
                f"preprocessing inside the graph makes one view of one size, and these weights "
                f"want pictures {self.preprocess}; give one view's size (--size N), or export "
                "without --with-preprocessing"
            )
        if self.with_preprocessing and (
            self.preprocess.fit != "stretch" or self.preprocess.interpolation != "bilinear"
        ):
            raise UsageError(
                "preprocessing inside the graph stretches pictures bilinearly, and these weights "
                f"want fit {self.preprocess.fit!r}, {self.preprocess.interpolation}; export "
                "without --with-preprocessing"
            )
        if self.precision == "int8" and not len(self.calibration):
            raise UsageError(
                "int8 needs pictures to calibrate with: give a folder of some dozens like those "
                "the network will see (--calibrate FOLDER)"
            )
        if self.precision == "int8" and self.is_guided:
            raise UsageError(
                "int8 is calibrated with pictures, which say nothing of this network's guidance "
                "channel; export it in fp32 or fp16"
            )

    @property
    def input_size(self) -> tuple[int, int]:
        """Width and height of the network's (largest) input [px]."""
        if self.size is None and self.preprocess.views:
            return self.preprocess.views[0][:2]
        return self.size or (self.preprocess.width, self.preprocess.height)

    @property
    def wants_more_views(self) -> bool:
        """Whether the weights want more of a picture than one view of one size."""
        return self.preprocess.fixed_size is None or len(self.preprocess.views) > 1

    @property
    def is_dynamic(self) -> bool:
        """Whether the file takes every size: requested, or because the weights want several."""
        return self.dynamic or (self.size is None and self.preprocess.fixed_size is None)

    @property
    def is_guided(self) -> bool:
        """Whether the file has the network's guidance channel; pixels have no place for it."""
        return self.network.config.guidance_channel and not self.with_preprocessing

    @property
    def channels(self) -> int:
        """Of the network's input: 3, or 4 with guidance."""
        return 3 + self.is_guided

    @property
    def written_preprocess(self) -> Preprocess:
        """That of the file: the weights' own, or of it the one view of `size`."""
        return self.preprocess if self.size is None else self.preprocess.at(*self.size)

    def metadata(self) -> Metadata:
        """The metadata of the file."""
        import birefnet

        return Metadata(
            name=self.name,
            preprocess=self.written_preprocess,
            input="pixels" if self.with_preprocessing else "normalised",
            output="matte" if self.with_preprocessing else "logits",
            precision=self.precision,
            size=self.input_size,
            dynamic=self.is_dynamic,
            guided=self.is_guided,
            licence=self.licence,
            source=self.source,
            producer=f"birefnet {birefnet.__version__}",
        )


@dataclass(frozen=True)
class ExportResult:
    """The files of an export, and how they compare with the network.

    Attributes:
        path: the file to load.
        files: all files of it (weights beside the graph too), without the report.
        metadata: what the file says of itself.
        parity: how far its output and its mattes are from the network's.
        report: the JSON file beside it that holds all this.
        seconds: what the export took, without the comparison.
        script: runs the file with its runtime alone; see `birefnet.export.script`.
        latency: of one picture of 400 x 300 with its preparation and all views, on this CPU [ms].
        notes: sentences on how the file differs from the request, or from what the weights want,
            and on its latency.
        iou: mean intersection over union of its masks and those of the model over the pictures of
            `Request.pictures`; `None` without any.
    """

    path: Path
    files: list[Path]
    metadata: Metadata
    parity: Parity
    report: Path
    seconds: float
    script: Path
    latency: float
    notes: list[str] = field(default_factory=list)
    iou: float | None = None

    @property
    def bytes(self) -> int:
        """Size of all files together."""
        return sum(file.stat().st_size for file in self.files)
