"""Networks as packages of torch.export (.pt2)."""

from __future__ import annotations

import os
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from birefnet.engines.metadata import KEY
from birefnet.errors import BiRefNetError
from birefnet.export.adapt import PixelsToMatte, traceable

if TYPE_CHECKING:
    from birefnet.export.request import Request


def export_package(request: Request, path: Path) -> list[Path]:
    """Write `request`'s network to `path`.

    The batch is free. With `dynamic`, height and width are too (multiples of 64, at least 128):
    `torch.export` then proves the arithmetic on sizes, which takes minutes.

    Raises:
        BiRefNetError: int8, which packages do not hold.
    """
    if request.precision == "int8":
        raise BiRefNetError("a torch package holds fp32 or fp16; take onnx or openvino for int8")
    module: nn.Module = traceable(
        request.network, fused_attention=True, standard_ops=request.standard_ops
    )
    if request.precision == "fp16":
        module = _Half(module)
    batch = torch.export.Dim("batch", min=1, max=1024)
    width, height = request.input_size
    free: dict[int, Any] = {0: batch}
    if request.with_preprocessing:
        module = PixelsToMatte(module, request.preprocess, request.input_size)
        example = torch.zeros(2, 96, 160, 3, dtype=torch.uint8)
        free |= {1: torch.export.Dim("height", min=2, max=2**15)}
        free |= {2: torch.export.Dim("width", min=2, max=2**15)}
    elif request.dynamic:
        example = torch.zeros(2, 3, 320, 448)
        free |= {2: 64 * torch.export.Dim("rows", min=2, max=256)}
        free |= {3: 64 * torch.export.Dim("columns", min=2, max=256)}
    else:
        example = torch.zeros(2, 3, height, width)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.export.export(
            module.eval(), (example,), dynamic_shapes=(free,), strict=False
        )
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=".birefnet-export-") as folder:
        draft = Path(folder) / path.name
        torch.export.save(program, draft, extra_files={KEY: request.metadata().to_json()})
        os.replace(draft, path)
    return [path]


class _Half(nn.Module):
    """The network in half precision between doors of float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x.half()).float()
