"""A network as an OpenVINO graph, written operation by operation.

The graph serves every batch and size: sizes are read off the input inside it, and fold into
constants when it is compiled for one. Nothing is traced, so a conversion takes a second or two and
shares the weights' memory.
"""

from __future__ import annotations

from birefnet.inference.engines.openvino_graph.convert import convert

__all__ = ["convert"]
