"""Networks as ONNX files.

The tracing exporter of PyTorch is used rather than the newer one on `torch.export`: it records the
arithmetic on sizes as operations, so that batch, height and width are free in any combination and
the graph is there in seconds. `torch.export` proves facts about symbolic sizes instead, which took
minutes here, and refuses sizes that its proofs do not cover.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birefnet.errors import UsageError, needs_extra, require

with needs_extra("torch", __name__):
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

from birefnet.export import graph
from birefnet.export.parity import synthetic_batch
from birefnet.files import draft_folder, replace_file
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import KEY
from birefnet.network.exportable import exportable

if TYPE_CHECKING:
    from onnx import ModelProto

    from birefnet.export.request import Request

DEFAULT_OPSET = 20
OPSETS = range(19, 21)  # DeformConv is from 19 on, the tracing exporter goes up to 20
STANDARD_OPSETS = range(17, 21)  # LayerNormalization is from 17 on
ANTIALIAS_OPSET = 18
# The names of the released ONNX files, so that what reads those reads these.
INPUT, OUTPUT = "input_image", "output_image"


def export_onnx(request: Request, path: Path) -> list[Path]:
    """Write `request`'s network to `path`; returns it, and the file of weights if there is one.

    Raises:
        MissingExtraError: onnx is not installed.
        BiRefNetError: an opset that cannot hold the network.
    """
    require("exporting to ONNX", "onnx")
    import onnx

    opset = _opset(request)
    with draft_folder(path) as folder:
        traced = folder / "traced.onnx"
        trace(request, traced, opset)
        is_fixed = not request.is_dynamic and not request.with_preprocessing
        model = graph.tidy(traced, _examples(request)[0] if is_fixed else None)
    if request.standard_ops and is_fixed:
        graph.to_short_indices(model)
    if request.precision == "fp16":
        from birefnet.export.half import to_half

        model = to_half(model, _examples(request))
    elif request.precision == "int8":
        from birefnet.export.int8_onnx import quantise

        model = quantise(model, request.calibration)
    describe(model, request)
    if model.ByteSize() < graph.LARGEST_FILE:
        onnx.checker.check_model(model)
    return save(model, path)


def _opset(request: Request) -> int:
    opset = request.opset or DEFAULT_OPSET
    allowed = STANDARD_OPSETS if request.standard_ops else OPSETS
    if opset not in allowed:
        cure = "" if request.standard_ops or opset > allowed[-1] else ", or add --standard-ops"
        raise UsageError(f"opset {opset} was requested; take {allowed[0]} to {allowed[-1]}{cure}")
    if request.with_preprocessing and opset < ANTIALIAS_OPSET:
        raise UsageError(
            f"preprocessing inside the graph needs opset {ANTIALIAS_OPSET} or later (antialiased "
            f"resizing), and {opset} was requested"
        )
    return opset


def trace(request: Request, path: Path, opset: int) -> None:
    """Write the graph of `request`'s network as PyTorch records it."""
    module: nn.Module = exportable(request.network, standard_ops=request.standard_ops)
    example: Tensor
    if request.with_preprocessing:
        module = PixelsToMatte(module, request.preprocess, request.input_size)
        example = torch.zeros(2, 96, 64, 3, dtype=torch.uint8)
        names, free = ("pixels", "matte"), {0: "batch", 1: "height", 2: "width"}
    else:
        # Whatever the size, the trace is the same; a small one that differs in all sides is quick.
        width, height = (160, 96) if request.is_dynamic else request.input_size
        example = torch.zeros(2 if request.is_dynamic else 1, request.channels, height, width)
        names, free = (INPUT, OUTPUT), {0: "batch"}
        if request.is_dynamic:
            free |= {2: "height", 3: "width"}
    out = {(axis if axis == 0 else axis + 1): name for axis, name in free.items()}
    axes = {names[0]: free, names[1]: out if request.with_preprocessing else free}
    # Before 2.5 there was no other exporter, and no word for it.
    options: dict[str, Any] = {}
    if "dynamo" in inspect.signature(torch.onnx.export).parameters:
        options["dynamo"] = False
    with _operators(), warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that values are constants, as intended
        torch.onnx.export(
            module.eval(),
            (example,),
            str(path),
            opset_version=opset,
            input_names=[names[0]],
            output_names=[names[1]],
            dynamic_axes=axes,
            **options,
        )


@contextmanager
def _operators() -> Iterator[None]:
    """Teach the exporter the operators that it lacks, for a while."""
    from torch.onnx import register_custom_op_symbolic, symbolic_helper

    try:
        from torch.onnx import unregister_custom_op_symbolic
    except ImportError:
        from torch.onnx.utils import unregister_custom_op_symbolic

    @symbolic_helper.parse_args("v", "v", "v", "v", "i")
    def deformable(graph: Any, x: Any, offset: Any, mask: Any, weight: Any, padding: int) -> Any:
        # The offsets' order is the same: (dy, dx) of each tap, taps row by row.
        side = weight.type().sizes()[2]
        none = graph.op("Constant", value_t=torch.zeros(weight.type().sizes()[0]))
        return graph.op(
            "DeformConv", x, weight, offset, none, mask,
            kernel_shape_i=[side, side], pads_i=[padding] * 4, strides_i=[1, 1], dilations_i=[1, 1],
        )  # fmt: skip

    def antialiased(graph: Any, x: Any, size: Any, align_corners: Any, *scales: Any) -> Any:
        shape = graph.op("Slice", graph.op("Shape", x), _integers(graph, 0), _integers(graph, 2))
        sizes = graph.op("Concat", shape, graph.op("Cast", size, to_i=7), axis_i=0)
        empty = graph.op("Constant", value_t=torch.zeros(0))
        return graph.op(
            "Resize", x, empty, empty, sizes,
            antialias_i=1, mode_s="linear", coordinate_transformation_mode_s="half_pixel",
        )  # fmt: skip

    table: dict[str, tuple[Any, int]] = {
        "birefnet::deformable_conv2d": (deformable, OPSETS[0]),
        "aten::_upsample_bilinear2d_aa": (antialiased, ANTIALIAS_OPSET),
    }
    for name, (symbolic, opset) in table.items():
        register_custom_op_symbolic(name, symbolic, opset)
    try:
        yield
    finally:
        for name, (_, opset) in table.items():
            unregister_custom_op_symbolic(name, opset)


def _integers(graph: Any, *values: int) -> Any:
    return graph.op("Constant", value_t=torch.tensor(values))


def describe(model: ModelProto, request: Request) -> None:
    """Put the metadata where every reader of ONNX files finds them."""
    import birefnet

    metadata = request.metadata()
    model.producer_name, model.producer_version = "birefnet", birefnet.__version__
    if request.with_preprocessing:
        what = "uint8 pixels [batch, height, width, 3], RGB -> matte in [0, 1]"
    else:
        shape = f"[batch, {request.channels}, height, width]"
        guided = " with guidance from -1 to 1" if request.is_guided else ""
        what = f"normalised pictures{guided} {shape} -> logits; their sigmoid is the matte"
    model.doc_string = f"{request.name}: {what}"
    entries = {
        KEY: metadata.to_json(),
        "output": metadata.output,
        "activation": "none" if metadata.output == "matte" else "sigmoid",
        "mean": str(list(request.preprocess.mean)),
        "std": str(list(request.preprocess.std)),
    }
    if request.licence:
        entries["licence"] = request.licence
    del model.metadata_props[:]
    for key, value in entries.items():
        entry = model.metadata_props.add()
        entry.key, entry.value = key, value


def save(model: ModelProto, path: Path) -> list[Path]:
    """Write `model`, in one file if it may be; each file appears whole or not at all."""
    import onnx

    beside = path.with_name(path.name + ".data")
    with draft_folder(path) as folder:
        draft = folder / path.name
        if model.ByteSize() < graph.LARGEST_FILE:
            onnx.save(model, str(draft))
            beside.unlink(missing_ok=True)
        else:
            onnx.save(
                model,
                str(draft),
                save_as_external_data=True,
                all_tensors_to_one_file=True,
                location=beside.name,
                size_threshold=1024,
            )
            replace_file(folder / beside.name, beside)
        replace_file(draft, path)
    return [path, beside] if beside.exists() else [path]


def _examples(request: Request) -> list[dict[str, np.ndarray]]:
    """Inputs of the graph for finding out how large its numbers grow."""
    mean, std = request.preprocess.mean, request.preprocess.std
    width, height = (256, 256) if request.is_dynamic else request.input_size
    batch = synthetic_batch(1, height, width, mean, std, guided=request.is_guided)
    if not request.with_preprocessing:
        return [{INPUT: batch}]
    pixels = (batch.transpose(0, 2, 3, 1) * np.array(std) + np.array(mean)) * 255
    return [{"pixels": np.clip(pixels.round(), 0, 255).astype(np.uint8)}]


class PixelsToMatte(nn.Module):
    """Preparation, network and sigmoid in one: pixels in, matte out.

    Args:
        network: normalised batch (B, 3, h, w) → logits (B, 1, h, w).
        preprocess: its mean and deviation.
        size: width and height of the network's input [px].
    """

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, preprocess: Preprocess, size: tuple[int, int]) -> None:
        super().__init__()
        self.network = network
        self.size = (size[1], size[0])
        mean, std = torch.tensor(preprocess.mean), torch.tensor(preprocess.std)
        self.register_buffer("scale", (1 / (255 * std)).view(1, 3, 1, 1))
        self.register_buffer("shift", (-mean / std).view(1, 3, 1, 1))

    def forward(self, pixels: Tensor) -> Tensor:
        """pixels: uint8 (B, H, W, 3), RGB, any size → matte, float32 (B, 1, H, W) in [0, 1]."""
        height, width = pixels.shape[1], pixels.shape[2]
        image = pixels.permute(0, 3, 1, 2).float()
        image = F.interpolate(
            image, self.size, mode="bilinear", align_corners=False, antialias=True
        )
        matte = torch.sigmoid(self.network(image * self.scale + self.shift))
        matte = F.interpolate(
            matte, (height, width), mode="bilinear", align_corners=False, antialias=True
        )
        return matte.clamp(0, 1)
