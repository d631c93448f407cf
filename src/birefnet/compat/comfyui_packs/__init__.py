"""Nodes by the names, inputs and outputs of other packs, for workflows that were saved with them.

Names, types and the order of inputs follow those packs as they were in 2026; saved workflows hold
values by their position, so the order is part of the interface. What the nodes compute is this
package's: batches run together, masks are not stretched to their own extremes, blur sizes are used
as given, and alpha is not multiplied into colours.
"""

from __future__ import annotations

from birefnet.compat.comfyui_packs import lldacing, rmbg, single

Pack = dict[str, tuple[type, str]]
"""Names of nodes, and for each its class and its title."""

PACKS: dict[str, Pack] = {
    "ComfyUI_BiRefNet_ll": {
        "AutoDownloadBiRefNetModel": (lldacing.AutoDownload, "AutoDownloadBiRefNetModel"),
        "LoadRembgByBiRefNetModel": (lldacing.LoadFile, "LoadRembgByBiRefNetModel"),
        "RembgByBiRefNet": (lldacing.Remove, "RembgByBiRefNet"),
        "RembgByBiRefNetAdvanced": (lldacing.RemoveAdvanced, "RembgByBiRefNetAdvanced"),
        "GetMaskByBiRefNet": (lldacing.GetMask, "GetMaskByBiRefNet"),
        "BlurFusionForegroundEstimation": (lldacing.BlurFusion, "BlurFusionForegroundEstimation"),
    },
    "ComfyUI-RMBG": {
        "BiRefNetRMBG": (rmbg.BiRefNetRMBG, "BiRefNet (RMBG)"),
        "RMBG": (rmbg.RMBG, "Remove Background (RMBG)"),
    },
    "ComfyUI-BiRefNet-ZHO": {
        "BiRefNet_ModelLoader_Zho": (single.ZhoLoader, "BiRefNet Model Loader (ZHO)"),
        "BiRefNet_Zho": (single.ZhoRemove, "BiRefNet (ZHO)"),
    },
    "viperyl/ComfyUI-BiRefNet": {"BiRefNet": (single.Viperyl, "BiRefNet Segmentation")},
    "ComfyUI": {
        "LoadBackgroundRemovalModel": (single.CoreLoader, "Load Background Removal Model"),
        "RemoveBackground": (single.CoreRemove, "Remove Background"),
    },
}
"""Pack → its nodes; the names of a pack are given all together, or not at all."""
