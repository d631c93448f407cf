"""Networks as files for other runtimes: ONNX, OpenVINO and torch.export programs."""

from __future__ import annotations
