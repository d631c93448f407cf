"""Networks as files for other runtimes: ONNX, OpenVINO and torch.export packages."""

from __future__ import annotations
