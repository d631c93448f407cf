"""Engines run a network: normalised pictures in, logits out."""

from __future__ import annotations

import os

# ONNX Runtime would send reports of its use to its publisher, and its thread for them keeps forked
# processes from ending. Set before anything imports it; a user's own setting stays.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

from birefnet.inference.engines.base import Engine

__all__ = ["Engine"]
