"""Loads the nodes of the package `birefnet` into ComfyUI; see README.md."""

from birefnet.integrations.comfyui.register import (
    NODE_CLASS_MAPPINGS,
    NODE_DISPLAY_NAME_MAPPINGS,
)

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
