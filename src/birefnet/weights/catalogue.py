"""Everything that is released, as data; `table.py` finds it by name.

Sources: the model zoo of the official repository (github.com/ZhengPeng7/BiRefNet), its releases and
its pages on Hugging Face; the pages of the networks that others trained on the same architecture;
SwinTransformer and PVT for the backbones. Checksums and sizes were published by users who pin these
files; where a file may be replaced by its publisher, the address names the revision they belong to.
"""

from __future__ import annotations

from typing import Any

from birefnet.weights.records import HUB, Checkpoint, Score

_ZOO = "official model zoo"
_RELEASE = "https://github.com/ZhengPeng7/BiRefNet/releases/download/v1"
_SWIN = "https://github.com/SwinTransformer/storage/releases/download"
_PVT = "https://github.com/whai362/PVT/releases/download/v2"

_GENERAL = (
    "DIS5K, DUTS, HRSOD, UHRSD, HRS10K, P3M-10k and a set of humans; "
    "DIS5K and P3M-10k are released for research only"
)
_MATTING = (
    "P3M-10k, humans, AM-2k, AIM-500, Human-2k, Distinctions-646, HIM2K, PPM-100, with BG-20k; "
    "several of them are released for research only"
)
_PORTRAIT = "P3M-10k (without its portrait test set) and a set of humans; P3M-10k: research only"
_DIS = "DIS5K, released for research only"
_HRSOD = "DUTS, HRSOD, UHRSD; check their terms before commercial use"
_COD = "COD10K, CAMO; released for research only"
_IMAGENET = "ImageNet, whose pictures are for non-commercial research"


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


def _release(filename: str, title: str, **fields: Any) -> Checkpoint:
    stem = filename.rpartition(".")[0]
    return Checkpoint(
        **{
            "name": stem if filename.endswith(".pth") else filename,
            "title": title,
            "kind": "network",
            "preset": "swin_v1_l",
            "filename": filename,
            "addresses": (f"{_RELEASE}/{filename}",),
            **fields,
        }
    )


def _onnx(stem: str, sha256: str, **fields: Any) -> Checkpoint:
    # opset 17, input `input_image`, output `output_image`: logits, so a sigmoid is still to come.
    return _release(
        f"{stem}.onnx", "official ONNX export (opset 17)", kind="onnx", sha256=sha256, **fields
    )


def _backbone(name: str, address: str, licence: str, **fields: Any) -> Checkpoint:
    return Checkpoint(
        name=f"backbone-{name}",
        title=f"{name} trained on ImageNet, to start training from",
        task="backbone",
        kind="backbone",
        preset=name,
        filename=address.rpartition("/")[2],
        addresses=(address,),
        licence=licence,
        data=_IMAGENET,
        **fields,
    )


def _dis(s: float, wf: float, hce: float) -> tuple[Score, ...]:
    return (Score("DIS-VD", {"S": s, "wF": wf, "HCE": hce}, _ZOO),)


_SCORE_MATTING = (Score("TE-P3M-500-NP", {"S": 0.979, "wF": 0.988}, _ZOO),)
_SCORE_PORTRAIT = (
    Score(
        "TE-P3M-500-P",
        {"S": 0.983, "maxF": 0.996, "meanE": 0.991, "MAE": 0.006, "wF": 0.990},
        "the model's page, ZhengPeng7/BiRefNet-portrait",
    ),
)
_TINY: dict[str, Any] = {"preset": "swin_v1_t"}

_HUB_NETWORKS = (
    _official(
        "general",
        "",
        "any object, the usual choice",
        task="general",
        precision="fp16",
        bytes=444_473_596,
        sha256="9ab37426bf4de0567af6b5d21b16151357149139362e6e8992021b8ce356a154",
        data=_GENERAL,
        scores=_dis(0.911, 0.875, 1069),
        aliases=("heavy", "birefnet-general"),
    ),
    _official(
        "lite",
        "_lite",
        "any object, five times smaller",
        **_TINY,
        task="general",
        precision="fp32",
        revision="aa62cd87eafb9cc43056d08ef3615a14628b831d",
        sha256="4417d89795250e698c3cb0ae8df15743810065f646f48a694fdfa7ca052d0815",
        data=_GENERAL,
        scores=_dis(0.882, 0.830, 1175),
        aliases=("light", "general-lite", "birefnet-general-lite"),
    ),
    _official(
        "lite-2k",
        "_lite-2K",
        "any object in wide, large pictures, small network",
        **_TINY,
        task="general",
        size=(2560, 1440),
        precision="fp32",
        bytes=177_634_392,
        sha256="aa2e4a5af5eb3904694feb40f2b39ec5dd7cd9110906590cfeb982f09a46021d",
        data=_GENERAL,
        aliases=("light-2k", "general-lite-2k"),
    ),
    _official(
        "hr",
        "_HR",
        "any object, at 2048x2048",
        task="general",
        size=(2048, 2048),
        precision="fp16",
        bytes=444_473_596,
        data=_GENERAL,
        scores=_dis(0.927, 0.894, 881),
        aliases=("general-hr",),
    ),
    _official(
        "general-512",
        "_512x512",
        "any object, fast, at 512x512",
        task="general",
        size=(512, 512),
        precision="fp16",
        data=_GENERAL,
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
        data=_GENERAL,
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
        data=_MATTING,
        scores=_SCORE_MATTING,
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
        data=_MATTING,
        aliases=("matting-hr",),
    ),
    _official(
        "lite-matting",
        "_lite-matting",
        "soft edges, small network",
        **_TINY,
        task="matting",
        precision="fp16",
        revision="99c33412e3f58e1f33187abdc8c435c645243690",
        sha256="ce8bcfc045e336322c0424a5863dcfb7e9ce8fed0a5fd4d1b2b20adf12d97243",
        data=_MATTING,
        aliases=("matting-lite",),
    ),
    _official(
        "dynamic-matting",
        "_dynamic-matting",
        "soft edges, at the picture's own size",
        task="matting",
        native=True,
        precision="fp16",
        data=_MATTING,
        aliases=("matting-dynamic",),
    ),
    _official(
        "portrait",
        "-portrait",
        "people",
        task="portrait",
        precision="fp32",
        data=_PORTRAIT,
        scores=_SCORE_PORTRAIT,
        aliases=("birefnet-portrait",),
    ),
    _official(
        "dis5k",
        "-DIS5K",
        "DIS5K benchmark, as in the paper",
        task="DIS",
        precision="fp32",
        data=_DIS,
        aliases=("dis", "birefnet-dis"),
    ),
    _official(
        "dis5k-tr-tes",
        "-DIS5K-TR_TEs",
        "fine objects, trained on DIS5K with its test sets",
        task="DIS",
        precision="fp32",
        data=_DIS,
        scores=_dis(0.907, 0.865, 1059),
        aliases=("massive", "birefnet-massive", "dis-tr_tes"),
    ),
    _official(
        "hrsod",
        "-HRSOD",
        "salient objects in large pictures, as in the paper",
        task="HRSOD",
        precision="fp32",
        data=_HRSOD,
        aliases=("birefnet-hrsod",),
    ),
    _official(
        "cod",
        "-COD",
        "camouflaged objects, as in the paper",
        task="COD",
        precision="fp32",
        data=_COD,
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
    _official(
        "lite-first", "_T", "the first small network", **_TINY, task="general", data=_GENERAL
    ),
    _hub(
        "toonout",
        "joelseytre/toonout",
        "anime and cartoon characters",
        filename="birefnet_finetuned_toonout.pth",
        task="anime",
        precision="fp32",
        data="`general`, then 1,228 generated anime pictures (CC BY 4.0: name the authors); "
        + _GENERAL,
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
        data=_GENERAL,
    ),
)

_GENERAL_FP32: dict[str, Any] = {"task": "general", "precision": "fp32", "data": _GENERAL}
_MATTING_FP32: dict[str, Any] = {"task": "matting", "precision": "fp32", "data": _MATTING}
_RELEASES = (
    _release(
        "BiRefNet-general-epoch_244.pth",
        "any object",
        **_GENERAL_FP32,
        bytes=885_082_437,
        sha256="11341a6a1c12646627e8d28da025bfec8aad027929d377cbe8fd4759636cc77c",
        scores=_dis(0.911, 0.875, 1069),
    ),
    _release(
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232.pth",
        "any object, small network",
        **_TINY,
        **_GENERAL_FP32,
        scores=_dis(0.882, 0.830, 1175),
    ),
    _release(
        "BiRefNet-general-resolution_512x512-fp16-epoch_216.pth",
        "any object, at 512x512",
        task="general",
        precision="fp16",
        data=_GENERAL,
        size=(512, 512),
    ),
    _release(
        "BiRefNet-massive-TR_DIS5K_TR_TEs-epoch_420.pth",
        "fine objects, trained on DIS5K with its test sets",
        task="DIS",
        precision="fp32",
        data=_DIS,
        scores=_dis(0.907, 0.865, 1059),
    ),
    _release(
        "BiRefNet-matting-epoch_100.pth", "soft edges", **_MATTING_FP32, scores=_SCORE_MATTING
    ),
    _release(
        "BiRefNet-portrait-epoch_150.pth",
        "people",
        task="portrait",
        precision="fp32",
        data=_PORTRAIT,
        scores=_SCORE_PORTRAIT,
    ),
    _release(
        "BiRefNet-DIS-epoch_590.pth", "DIS5K benchmark", task="DIS", precision="fp32", data=_DIS
    ),
    _release(
        "BiRefNet-HRSOD_DHU-epoch_115.pth",
        "salient objects in large pictures",
        task="HRSOD",
        precision="fp32",
        data=_HRSOD,
    ),
    _release(
        "BiRefNet-COD-epoch_125.pth",
        "camouflaged objects",
        task="COD",
        precision="fp32",
        data=_COD,
        sha256="f6feaae33dc7d8f32bcb77226547ce3ff7099b772917acebf5955b3299614bb8",
    ),
    _release(
        "BiRefNet_HR-general-epoch_130.pth",
        "any object, at 2048x2048",
        **_GENERAL_FP32,
        size=(2048, 2048),
        scores=_dis(0.927, 0.894, 881),
    ),
    _release(
        "BiRefNet_HR-matting-epoch_135.pth",
        "soft edges, at 2048x2048",
        **_MATTING_FP32,
        size=(2048, 2048),
    ),
    _release(
        "BiRefNet_lite-general-2K-epoch_232.pth",
        "any object in wide, large pictures, small network",
        **_TINY,
        **_GENERAL_FP32,
        size=(2560, 1440),
    ),
    _release(
        "BiRefNet_dynamic-general-epoch_174.pth",
        "any object, at the picture's own size",
        **_GENERAL_FP32,
        native=True,
    ),
    _release(  # this name and the next are known from users' scripts only
        "BiRefNet_dynamic-matting-epoch_159.pth",
        "soft edges, at the picture's own size",
        **_MATTING_FP32,
        native=True,
    ),
    _release(
        "BiRefNet_lite-matting-epoch_110.pth",
        "soft edges, small network",
        **_TINY,
        **_MATTING_FP32,
    ),
)

_ONNX = (
    _onnx(
        "BiRefNet-general-epoch_244",
        "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
        bytes=972_666_916,
        task="general",
        data=_GENERAL,
    ),
    _onnx(
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232",
        "5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
        **_TINY,
        bytes=224_005_088,
        task="general",
        data=_GENERAL,
    ),
    _onnx(
        "BiRefNet-portrait-epoch_150",
        "1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        task="portrait",
        data=_PORTRAIT,
    ),
    _onnx(
        "BiRefNet-matting-epoch_100",
        "6065d27c615ea27308f5b88598dd8db116eb07436c7a323ca40d13b2866c309e",
        task="matting",
        data=_MATTING,
    ),
    _onnx(
        "BiRefNet_HR-general-epoch_130",
        "db0217e99b25e0c4f6f4dca2892ff1f7ea7aba38fb6ad84f93122a4024be536a",
        bytes=1_098_928_953,
        size=(2048, 2048),
        task="general",
        data=_GENERAL,
    ),
    _onnx(
        "BiRefNet_HR-matting-epoch_135",
        "45b7d92ce0e2e75e1c8a564a9e84c87ac9da7f4315d2deeef3674864e809aef3",
        size=(2048, 2048),
        task="matting",
        data=_MATTING,
    ),
    _onnx(
        "BiRefNet_lite-general-2K-epoch_232",
        "6003d2f758bdb4e4802a09e39167529bc2eef9288d5b8fa537331467cbc4759d",
        **_TINY,
        size=(2560, 1440),
        task="general",
        data=_GENERAL,
    ),
)

_BACKBONES = (
    _backbone(
        "swin_v1_l",
        f"{_SWIN}/v1.0.0/swin_large_patch4_window12_384_22kto1k.pth",
        "MIT",
        bytes=800_688_955,
        sha256="30762928cd6ee9229e24e26e200951b8fe635799b67db016ba747fa653b64db9",
    ),
    _backbone("swin_v1_b", f"{_SWIN}/v1.0.0/swin_base_patch4_window12_384_22kto1k.pth", "MIT"),
    _backbone(
        "swin_v1_s",
        f"{_SWIN}/v1.0.8/swin_small_patch4_window7_224_22kto1k_finetune.pth",
        "MIT",
        sha256="4f7acd1b78afc4d9d30bfaf1ba39f9e0260b5ee10d6539c02a2df3049c086631",
    ),
    _backbone(
        "swin_v1_t",
        f"{_SWIN}/v1.0.8/swin_tiny_patch4_window7_224_22kto1k_finetune.pth",
        "MIT",
        sha256="9b6405a1ce3c3258eb3f735b4aa1142dd0c052abcf3a092a0f4d51c2dd31ca03",
    ),
    *(
        _backbone(f"pvt_v2_{size}", f"{_PVT}/pvt_v2_{size}.pth", "Apache-2.0")
        for size in ("b0", "b1", "b2", "b5")
    ),
)

ENTRIES: tuple[Checkpoint, ...] = (*_HUB_NETWORKS, *_RELEASES, *_ONNX, *_BACKBONES)
