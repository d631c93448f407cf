"""rembg's names of networks, its `sessions_names`, and its defaults."""

from __future__ import annotations

from collections.abc import Mapping

RELEASE = "2.0.86"
"""Of rembg, whose interface this package has."""

FOREGROUND, BACKGROUND, ERODE = 240, 10, 10
"""The thresholds and the width of its alpha matting, unless others are given."""

MODELS: Mapping[str, str] = {
    "birefnet-general": "general",
    "birefnet-general-lite": "lite",
    "birefnet-general-fp16": "general",
    "birefnet-portrait": "portrait",
    "birefnet-dis": "dis5k",
    "birefnet-hrsod": "hrsod",
    "birefnet-cod": "cod",
    "birefnet-massive": "dis5k-tr-tes",
    "bria-rmbg": "rmbg-2.0",
}
"""rembg's names of the networks that this package runs too, and their names here."""

OTHERS: Mapping[str, str] = {
    "u2net": "general, lite or nano",
    "u2netp": "nano or lite",
    "silueta": "nano or lite",
    "isnet-general-use": "general or dis5k",
    "u2net_human_seg": "portrait",
    "isnet-anime": "toonout",
    "sam": "any, for all take sam_prompt, boxes and points",
    "u2net_cloth_seg": "none that tells garments apart",
    "u2net_custom": "any",
    "dis_custom": "any",
    "ben_custom": "any",
    "withoutbg": "general",
    "atlascloud": "general",
}
"""Its other networks, and what comes nearest here."""

_ISNET: Mapping[str, object] = {"side": 1024, "mean": (0.5, 0.5, 0.5), "std": (1.0, 1.0, 1.0)}
ONNX: Mapping[str, Mapping[str, object]] = {
    **{key: {} for key in ("u2net", "u2netp", "u2net_human_seg", "silueta", "u2net_custom")},
    **dict.fromkeys(("isnet-general-use", "dis_custom", "ben_custom"), _ISNET),
    "isnet-anime": {**_ISNET, "mean": (0.485, 0.456, 0.406)},
    "u2net_cloth_seg": {"side": 768},
}
"""Those of them that run from an ONNX file of the user's, and what their input is."""

CLASSES: Mapping[str, str] = {
    "birefnet-general": "BiRefNetSessionGeneral",
    "birefnet-general-lite": "BiRefNetSessionGeneralLite",
    "birefnet-general-fp16": "BiRefNetSessionGeneralFP16",
    "birefnet-portrait": "BiRefNetSessionPortrait",
    "birefnet-dis": "BiRefNetSessionDIS",
    "birefnet-hrsod": "BiRefNetSessionHRSOD",
    "birefnet-cod": "BiRefNetSessionCOD",
    "birefnet-massive": "BiRefNetSessionMassive",
    "bria-rmbg": "BriaRmBgSession",
    "u2net": "U2netSession",
    "u2netp": "U2netpSession",
    "u2net_human_seg": "U2netHumanSegSession",
    "u2net_custom": "U2netCustomSession",
    "u2net_cloth_seg": "Unet2ClothSession",
    "silueta": "SiluetaSession",
    "isnet-general-use": "DisSessionGeneralUse",
    "isnet-anime": "DisSession",
    "dis_custom": "DisCustomSession",
    "ben_custom": "BenCustomSession",
}
"""The names of their classes in `rembg.sessions`."""
