"""Inputs that several nodes have, written once: ComfyUI's types, defaults, ranges, explanations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from birefnet.integrations.comfyui import host

Inputs = dict[str, dict[str, Any]]

MODEL = "BIREFNET_MODEL"
"""Type of this package's own models; other packs use BIREFNET for things of their own."""

CATEGORY = "image/birefnet"
PRECISIONS = ["auto", "fp32", "fp16", "bf16"]
ENGINES = ["auto", "torch", "openvino", "onnx"]


Widget = tuple[Any, dict[str, Any]]
"""ComfyUI's type, or the options to choose from; and its settings."""

Widgets = Mapping[str, Widget | tuple[Any] | Callable[[], Widget | tuple[Any]]]
"""By the names of inputs; a function is called whenever ComfyUI asks, for what may change."""


class Node:
    """The interface that ComfyUI expects of all nodes."""

    CATEGORY = CATEGORY
    FUNCTION = "run"


class ChoosesDevice(Node):
    """A node whose devices are those of the machine: workflows may come from another one."""

    @classmethod
    def VALIDATE_INPUTS(cls, device: str) -> bool:
        """ComfyUI asks this instead of looking `device` up in the list."""
        return True


def inputs(required: Widgets, optional: Widgets | None = None) -> Any:
    """The class method `INPUT_TYPES` of a node with these inputs."""
    groups = {"required": required, **({"optional": optional} if optional else {})}

    def input_types(cls: type) -> Inputs:
        return {
            group: {name: widget() if callable(widget) else widget for name, widget in each.items()}
            for group, each in groups.items()
        }

    return classmethod(input_types)


def whole(default: int, low: int, high: int, tooltip: str, **more: Any) -> Widget:
    return "INT", {"default": default, "min": low, "max": high, "tooltip": tooltip, **more}


def number(default: float, low: float, high: float, step: float, tooltip: str) -> Widget:
    return "FLOAT", {"default": default, "min": low, "max": high, "step": step, "tooltip": tooltip}


def switch(default: bool, tooltip: str) -> Widget:
    return "BOOLEAN", {"default": default, "tooltip": tooltip}


def text(default: str, tooltip: str) -> Widget:
    return "STRING", {"default": default, "multiline": False, "tooltip": tooltip}


def choice(options: list[str], tooltip: str) -> Widget:
    return options, {"default": options[0], "tooltip": tooltip}


def wired(kind: str, tooltip: str) -> Widget:
    """An input that only a wire can fill."""
    return kind, {"tooltip": tooltip}


def advanced(widget: Widget) -> Widget:
    """The same, which ComfyUI's page shows only to those who unfold the node."""
    return widget[0], {**widget[1], "advanced": True}


def devices() -> list[str]:
    return ["auto", "cpu", *host.cuda_devices()]


COLOUR = text("#ffffff", "A name such as white, #rrggbb, #rrggbbaa or r,g,b.")
BATCH = whole(0, 0, 256, "Pictures that the network sees together; 0 leaves it to the engine.")
WIDTH = whole(
    0, 0, 16384, "Width that the network sees, in pixels; 0 as its weights were trained.", step=32
)
HEIGHT = whole(
    0, 0, 16384, "Height that the network sees, in pixels; 0 as its weights were trained.", step=32
)


def resolution_of(width: int, height: int, native: bool = False) -> Any:
    """The widgets' numbers as `Options.resolution`; one side that is 0 is as long as the other."""
    if native:
        return "native"
    if not width and not height:
        return None
    return width or height, height or width
