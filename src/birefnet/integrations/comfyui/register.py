"""The nodes that ComfyUI registers: this package's, and other packs' names where those are free.

A pack that is installed keeps its names: where one of them is taken, all of that pack are left out,
so that its loaders and its other nodes, which only understand each other, stay together; and a pack
that is loaded later replaces these stand-ins by itself. BIREFNET_COMFYUI_NAMES in the environment
changes that: `never` leaves all such names out, `always` puts them in.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Mapping

from birefnet.errors import BiRefNetError, needs_extra

with needs_extra("torch", "ComfyUI's nodes"):
    from birefnet.compat.comfyui_packs import PACKS
    from birefnet.integrations.comfyui import host, mask_nodes, nodes

from birefnet.integrations.comfyui.neighbours import own_name

OWN: dict[str, tuple[type, str]] = {
    "BiRefNetLoadModel": (nodes.LoadModel, "Load BiRefNet Model"),
    "BiRefNetRemoveBackground": (nodes.RemoveBackground, "Remove Background (BiRefNet)"),
    "BiRefNetVideoFrames": (nodes.VideoFrames, "Remove Background of Video Frames (BiRefNet)"),
    "BiRefNetObjects": (mask_nodes.Objects, "Split into Objects (BiRefNet)"),
    "BiRefNetForeground": (mask_nodes.Foreground, "Estimate Foreground (BiRefNet)"),
    "BiRefNetComposite": (mask_nodes.Composite, "Composite on Background (BiRefNet)"),
    "BiRefNetAdjustMask": (mask_nodes.AdjustMask, "Adjust Mask (BiRefNet)"),
}

NAMES_SETTING = "BIREFNET_COMFYUI_NAMES"
_CHOICES = ("auto", "always", "never")


def mappings(
    setting: str = "auto", taken: Mapping[str, object] | None = None
) -> tuple[dict[str, type], dict[str, str]]:
    """Classes and titles by the names of nodes.

    Args:
        setting: auto, always or never, see above.
        taken: names that ComfyUI knows already.

    Raises:
        BiRefNetError: another setting.
    """
    if setting not in _CHOICES:
        raise BiRefNetError(f"{NAMES_SETTING} is {setting!r}; choose one of {', '.join(_CHOICES)}")
    chosen = dict(OWN)
    for pack in PACKS.values() if setting != "never" else ():
        if setting == "always" or not set(pack) & set(taken or {}):
            chosen |= pack
    classes = {name: _guarded(node) for name, (node, _) in chosen.items()}
    return classes, {name: title for name, (_, title) in chosen.items()}


def _guarded(node: type) -> type:
    """The same node, whose work is done under this package's own name, see `neighbours`."""
    name: str = node.FUNCTION  # type: ignore[attr-defined]
    work: Callable[..., object] = getattr(node, name)

    @functools.wraps(work)
    def guarded(self: object, *arguments: object, **settings: object) -> object:
        with own_name():
            return work(self, *arguments, **settings)

    return type(node.__name__, (node,), {name: guarded, "__doc__": node.__doc__})


host.register_folders()
NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS = mappings(
    os.environ.get(NAMES_SETTING, "auto"), host.registered_nodes()
)
