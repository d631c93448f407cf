"""Networks as torch.export programs (.pt2)."""

from __future__ import annotations

import copy
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.errors import UsageError, needs_extra

with needs_extra("torch", __name__):
    import torch
    from torch import Tensor, nn

from birefnet.files import draft_folder, replace_file
from birefnet.inference.engines.base import KEY
from birefnet.network.exportable import exportable

if TYPE_CHECKING:
    from birefnet.export.request import Request


def export_torch_program(request: Request, path: Path) -> list[Path]:
    """Write `request`'s network to `path`. The batch is free, the size is not.

    `torch.export` can leave sizes free only where it proves what the network does for all of them;
    of the nested roundings of a half-scale pass it cannot, and refuses most sizes afterwards.

    Raises:
        UsageError: int8, free sizes or preprocessing, which programs do not hold.
    """
    if request.with_preprocessing:
        raise UsageError(
            "a torch.export program holds the network alone; take onnx for --with-preprocessing"
        )
    if request.is_dynamic and not request.dynamic:
        raise UsageError(
            "a torch.export program has one size, and these weights want pictures "
            f"{request.preprocess}; give one view's size (--size N), or take onnx or openvino, "
            "which keep them all"
        )
    if request.dynamic:
        raise UsageError("a torch.export program has one size; take onnx or openvino for --dynamic")
    if request.precision == "int8":
        raise UsageError(
            "a torch.export program holds fp32 or fp16; take onnx or openvino for int8"
        )
    module: nn.Module = exportable(
        request.network, fused_attention=True, standard_ops=request.standard_ops
    )
    if request.precision == "fp16":
        module = _Half(module)
    width, height = request.input_size
    example = torch.zeros(2, request.channels, height, width)
    free = {0: torch.export.Dim("batch", min=1, max=1024)}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module.eval(), (example,), dynamic_shapes=(free,), strict=False
        )
    with draft_folder(path) as folder:
        draft = folder / path.name
        torch.export.save(program, draft, extra_files={KEY: request.metadata().to_json()})
        replace_file(draft, path)
    return [path]


class _Half(nn.Module):
    """The network in half precision, with float32 inputs and outputs."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = copy.deepcopy(network).half()  # its weights are shared

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half()).float()
