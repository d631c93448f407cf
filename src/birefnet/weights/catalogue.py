"""Everything that is released, as data; `table.py` finds it by name.

Sources: the networks' pages on Hugging Face. Checksums and sizes were published by users who pin
these files; where a file may be replaced by its publisher, the address names the revision that the
checksum belongs to.
"""

from __future__ import annotations

from typing import Any

from birefnet.weights.notes import (
    COD,
    DIS,
    GENERAL,
    HRSOD,
    MATTING,
    PORTRAIT,
    SCORE_MATTING,
    SCORE_PORTRAIT,
    TINY,
    dis_scores,
)
from birefnet.weights.records import HUB, Checkpoint, Score
from birefnet.weights.releases import BACKBONES, ONNX, RELEASES


def _hub(name: str, repo: str, title: str, **fields: Any) -> Checkpoint:
    filename = fields.pop("filename", "model.safetensors")
    revision = fields.get("revision", "main")
    return Checkpoint(
        **{
            "name": name,
            "title": title,
            "kind": "network",
            "preset": "swin_v1_l",
            "filename": filename.rpartition("/")[2],
            "addresses": (f"{HUB}/{repo}/resolve/{revision}/{filename}",),
            "repo": repo,
            **fields,
        }
    )


def _official(name: str, suffix: str, title: str, **fields: Any) -> Checkpoint:
    return _hub(name, f"ZhengPeng7/BiRefNet{suffix}", title, **fields)


_NETWORKS = (
    _official(
        "general",
        "",
        "any object, the usual choice",
        task="general",
        precision="fp16",
        bytes=444_473_596,
        sha256="9ab37426bf4de0567af6b5d21b16151357149139362e6e8992021b8ce356a154",
        data=GENERAL,
        scores=dis_scores(0.911, 0.875, 1069),
        aliases=("heavy", "birefnet-general"),
        onnx="BiRefNet-general-epoch_244.onnx",
    ),
    _official(
        "lite",
        "_lite",
        "any object, five times smaller",
        **TINY,
        task="general",
        precision="fp32",
        revision="aa62cd87eafb9cc43056d08ef3615a14628b831d",
        sha256="4417d89795250e698c3cb0ae8df15743810065f646f48a694fdfa7ca052d0815",
        data=GENERAL,
        scores=dis_scores(0.882, 0.830, 1175),
        aliases=("light", "general-lite", "birefnet-general-lite"),
        onnx="BiRefNet-general-bb_swin_v1_tiny-epoch_232.onnx",
    ),
    _official(
        "lite-2k",
        "_lite-2K",
        "any object in wide, large pictures, small network",
        **TINY,
        task="general",
        size=(2560, 1440),
        precision="fp32",
        bytes=177_634_392,
        sha256="aa2e4a5af5eb3904694feb40f2b39ec5dd7cd9110906590cfeb982f09a46021d",
        data=GENERAL,
        aliases=("light-2k", "general-lite-2k"),
        onnx="BiRefNet_lite-general-2K-epoch_232.onnx",
    ),
    _official(
        "hr",
        "_HR",
        "any object, at 2048x2048",
        task="general",
        size=(2048, 2048),
        precision="fp16",
        bytes=444_473_596,
        data=GENERAL,
        scores=dis_scores(0.927, 0.894, 881),
        aliases=("general-hr",),
        onnx="BiRefNet_HR-general-epoch_130.onnx",
    ),
    _official(
        "general-512",
        "_512x512",
        "any object, fast, at 512x512",
        task="general",
        size=(512, 512),
        precision="fp16",
        data=GENERAL,
        aliases=("general-reso_512",),
    ),
    _official(
        "dynamic",
        "_dynamic",
        "any object, at the picture's own size",
        task="general",
        native=True,
        precision="fp16",
        revision="280306042f57b7a33854319da62fd86aaa89ec4c",
        sha256="e3d2e4884e51ff30f0cd630edc6b1e41b06b7f23a0a2a5169f7b7cb33a711c2d",
        data=GENERAL,
        aliases=("general-dynamic",),
    ),
    _official(
        "matting",
        "-matting",
        "soft edges: hair, glass, fur",
        task="matting",
        precision="fp32",
        revision="eccde0a8cbdce7ac5fecfeb06340fe7b949e85d9",
        sha256="a9875de5b1e6c8eb5fdaa8c727a82927ce442cdc87ba3abee6a77e6fa46c25bb",
        data=MATTING,
        scores=SCORE_MATTING,
        onnx="BiRefNet-matting-epoch_100.onnx",
    ),
    _official(
        "hr-matting",
        "_HR-matting",
        "soft edges, at 2048x2048",
        task="matting",
        size=(2048, 2048),
        precision="fp16",
        revision="5d6b6f8adcb5b417c871b1d84ceaae9871355b7f",
        sha256="a5a4de698739ea5e0e8bbab28e1b293dde95092b87a442d566cbc585c53cef55",
        data=MATTING,
        aliases=("matting-hr",),
        onnx="BiRefNet_HR-matting-epoch_135.onnx",
    ),
    _official(
        "lite-matting",
        "_lite-matting",
        "soft edges, small network",
        **TINY,
        task="matting",
        precision="fp16",
        revision="99c33412e3f58e1f33187abdc8c435c645243690",
        sha256="ce8bcfc045e336322c0424a5863dcfb7e9ce8fed0a5fd4d1b2b20adf12d97243",
        data=MATTING,
        aliases=("matting-lite",),
    ),
    _official(
        "dynamic-matting",
        "_dynamic-matting",
        "soft edges, at the picture's own size",
        task="matting",
        native=True,
        precision="fp16",
        data=MATTING,
        aliases=("matting-dynamic",),
    ),
    _official(
        "portrait",
        "-portrait",
        "people",
        task="portrait",
        precision="fp32",
        data=PORTRAIT,
        scores=SCORE_PORTRAIT,
        aliases=("birefnet-portrait",),
        onnx="BiRefNet-portrait-epoch_150.onnx",
    ),
    _official(
        "dis5k",
        "-DIS5K",
        "DIS5K benchmark, as in the paper",
        task="DIS",
        precision="fp32",
        data=DIS,
        aliases=("dis", "birefnet-dis"),
    ),
    _official(
        "dis5k-tr-tes",
        "-DIS5K-TR_TEs",
        "fine objects, trained on DIS5K with its test sets",
        task="DIS",
        precision="fp32",
        data=DIS,
        scores=dis_scores(0.907, 0.865, 1059),
        aliases=("massive", "birefnet-massive", "dis-tr_tes"),
    ),
    _official(
        "hrsod",
        "-HRSOD",
        "salient objects in large pictures, as in the paper",
        task="HRSOD",
        precision="fp32",
        data=HRSOD,
        aliases=("birefnet-hrsod",),
    ),
    _official(
        "cod",
        "-COD",
        "camouflaged objects, as in the paper",
        task="COD",
        precision="fp32",
        data=COD,
        aliases=("birefnet-cod",),
    ),
    _official(
        "legacy",
        "-legacy",
        "the first general network, without portraits in its training",
        task="general",
        precision="fp32",
        data="DIS5K, DUTS, HRSOD, UHRSD, HRS10K; DIS5K is released for research only",
        aliases=("general-legacy",),
    ),
    _official("lite-first", "_T", "the first small network", **TINY, task="general", data=GENERAL),
    _hub(
        "toonout",
        "joelseytre/toonout",
        "anime and cartoon characters",
        filename="birefnet_finetuned_toonout.pth",
        task="anime",
        precision="fp32",
        data="`general`, then 1,228 generated anime pictures (CC BY 4.0: name the authors); "
        + GENERAL,
        scores=(Score("ToonOut test", {"pixel accuracy": 0.995}, "arXiv 2509.06839"),),
    ),
    _hub(
        "lucida",
        "egeorcun/lucida",
        "soft edges, illustrations, text and glow",
        task="matting",
        precision="fp32",
        bytes=884_878_856,
        data="as `hr`, then ToonOut (CC BY 4.0), P3M-10k, COD10K, DIS5K and others; "
        "several of them are released for research only",
    ),
    _hub(
        "rmbg-2.0",
        "briaai/RMBG-2.0",
        "any object, for non-commercial use",
        task="general",
        precision="fp32",
        licence="CC BY-NC 4.0",
        use="non-commercial",
        data="pictures licensed by BRIA; commercial use needs an agreement with them",
        gated=True,
        aliases=("rmbg", "rmbg2", "bria-rmbg"),
    ),
    _hub(
        "comfyui",
        "Comfy-Org/BiRefNet",
        "`general` in ComfyUI's collection, the same file",
        filename="background_removal/birefnet.safetensors",
        task="general",
        precision="fp16",
        bytes=444_473_596,
        sha256="9ab37426bf4de0567af6b5d21b16151357149139362e6e8992021b8ce356a154",
        data=GENERAL,
    ),
)

ENTRIES: tuple[Checkpoint, ...] = (*_NETWORKS, *RELEASES, *ONNX, *BACKBONES)
"""Networks on Hugging Face first: on a name that several share, the first is meant."""
