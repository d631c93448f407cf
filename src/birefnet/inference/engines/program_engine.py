"""Runs torch.export programs (.pt2)."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, DeviceError, WeightsError, needs_extra

with needs_extra("torch", "running a .pt2 file"):
    import torch
    from torch import nn

# The program calls it by name.
import birefnet.network.deform  # noqa: F401
from birefnet.inference.engines.base import KEY, Metadata, call_in_forks
from birefnet.inference.engines.devices import resolve_device
from birefnet.inference.engines.torch_engine import go_on_in_fork


class ProgramEngine:
    """A torch.export program, written by `birefnet export --format torch` on one device.

    Args:
        path: the .pt2 file.
        device: auto, cpu, cuda, cuda:1, mps.
        dtype: auto, or the precision that the file has.
        threads: of the CPU, for the whole process; `None` leaves PyTorch's.

    Raises:
        WeightsError: not a torch.export program of this project.
        DeviceError: the device is not there, or the file has another precision.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
    ) -> None:
        self.path = Path(path)
        self.device = resolve_device(device)
        if threads is not None:
            torch.set_num_threads(threads)
        extra = {KEY: ""}
        try:
            program = torch.export.load(self.path, extra_files=extra)
        except Exception as failure:
            raise WeightsError(f"{self.path} is not a torch.export program: {failure}") from None
        if not extra[KEY]:
            raise WeightsError(
                f"{self.path} does not say how its pictures are prepared; write it with "
                "`birefnet export --format torch`"
            )
        self.metadata = Metadata.from_json(extra[KEY], str(self.path))
        self.metadata.require(dtype, self.path.name)
        if self.device.type != "cpu":
            from torch.export.passes import move_to_device_pass

            program = move_to_device_pass(program, str(self.device))
        self.network: nn.Module = program.module()
        self.name = f"torch.export program {self.device} {self.metadata.precision}"
        self.batch_size = 4 if self.device.type == "cuda" else 1
        self.takes_guidance = self.metadata.guided
        self._is_forked = False
        call_in_forks(self._after_fork)

    def _after_fork(self) -> None:
        self._is_forked = True

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B,1,H,W], of a normalised batch, float32 [B,3,H,W] or guided.

        Raises:
            BiRefNetError: a size that the program does not take.
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        width, height = batch.shape[3], batch.shape[2]
        images = torch.from_numpy(np.ascontiguousarray(self.metadata.encode(batch)))
        if (width, height) != self.metadata.size:
            raise BiRefNetError(
                f"{self.path.name} takes {'x'.join(map(str, self.metadata.size))} pixels and got "
                f"{width}x{height}; leave the resolution as it is, or export to ONNX with --dynamic"
            )
        if self._is_forked:
            go_on_in_fork(self.device)
        try:
            with torch.inference_mode():
                result = self.network(images.to(self.device)).float().cpu().numpy()
        except RuntimeError as failure:
            if "memory" in str(failure).lower():
                raise DeviceError(
                    f"{self.device} ran out of memory on a batch of {len(batch)} at "
                    f"{width}x{height}; use a smaller batch size or resolution"
                ) from None
            raise
        self.metadata.check_finite(result, self.path.name)
        return self.metadata.decode(result)
