"""What runs a network: normalised pictures in, logits out."""

from __future__ import annotations

from birefnet.engines.base import Engine

__all__ = ["Engine"]
