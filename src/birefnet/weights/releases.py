"""Files of the official GitHub release: weights, ONNX exports; and backbones to train from.

Sources: github.com/ZhengPeng7/BiRefNet/releases, SwinTransformer, PVT. Checksums and sizes were
published by users who pin these files.
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
from birefnet.weights.records import Checkpoint

_RELEASE = "https://github.com/ZhengPeng7/BiRefNet/releases/download/v1"
_SWIN = "https://github.com/SwinTransformer/storage/releases/download"
_PVT = "https://github.com/whai362/PVT/releases/download/v2"
_IMAGENET = "ImageNet, whose pictures are for non-commercial research"


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


_GENERAL_FP32: dict[str, Any] = {"task": "general", "precision": "fp32", "data": GENERAL}
_MATTING_FP32: dict[str, Any] = {"task": "matting", "precision": "fp32", "data": MATTING}
RELEASES = (
    _release(
        "BiRefNet-general-epoch_244.pth",
        "any object",
        **_GENERAL_FP32,
        bytes=885_082_437,
        sha256="11341a6a1c12646627e8d28da025bfec8aad027929d377cbe8fd4759636cc77c",
        scores=dis_scores(0.911, 0.875, 1069),
    ),
    _release(
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232.pth",
        "any object, small network",
        **TINY,
        **_GENERAL_FP32,
        scores=dis_scores(0.882, 0.830, 1175),
    ),
    _release(
        "BiRefNet-general-resolution_512x512-fp16-epoch_216.pth",
        "any object, at 512x512",
        task="general",
        precision="fp16",
        data=GENERAL,
        size=(512, 512),
    ),
    _release(
        "BiRefNet-massive-TR_DIS5K_TR_TEs-epoch_420.pth",
        "fine objects, trained on DIS5K with its test sets",
        task="DIS",
        precision="fp32",
        data=DIS,
        scores=dis_scores(0.907, 0.865, 1059),
    ),
    _release("BiRefNet-matting-epoch_100.pth", "soft edges", **_MATTING_FP32, scores=SCORE_MATTING),
    _release(
        "BiRefNet-portrait-epoch_150.pth",
        "people",
        task="portrait",
        precision="fp32",
        data=PORTRAIT,
        scores=SCORE_PORTRAIT,
    ),
    _release(
        "BiRefNet-DIS-epoch_590.pth", "DIS5K benchmark", task="DIS", precision="fp32", data=DIS
    ),
    _release(
        "BiRefNet-HRSOD_DHU-epoch_115.pth",
        "salient objects in large pictures",
        task="HRSOD",
        precision="fp32",
        data=HRSOD,
    ),
    _release(
        "BiRefNet-COD-epoch_125.pth",
        "camouflaged objects",
        task="COD",
        precision="fp32",
        data=COD,
        sha256="f6feaae33dc7d8f32bcb77226547ce3ff7099b772917acebf5955b3299614bb8",
    ),
    _release(
        "BiRefNet_HR-general-epoch_130.pth",
        "any object, at 2048x2048",
        **_GENERAL_FP32,
        size=(2048, 2048),
        scores=dis_scores(0.927, 0.894, 881),
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
        **TINY,
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
        **TINY,
        **_MATTING_FP32,
    ),
)

ONNX = (
    _onnx(
        "BiRefNet-general-epoch_244",
        "58f621f00f5d756097615970a88a791584600dcf7c45b18a0a6267535a1ebd3c",
        bytes=972_666_916,
        task="general",
        data=GENERAL,
    ),
    _onnx(
        "BiRefNet-general-bb_swin_v1_tiny-epoch_232",
        "5600024376f572a557870a5eb0afb1e5961636bef4e1e22132025467d0f03333",
        **TINY,
        bytes=224_005_088,
        task="general",
        data=GENERAL,
    ),
    _onnx(
        "BiRefNet-portrait-epoch_150",
        "1ba1c8ff5a7bbfadc8d8d13fb11d7be793f91f23d9d466549e37a854f6668f99",
        task="portrait",
        data=PORTRAIT,
    ),
    _onnx(
        "BiRefNet-matting-epoch_100",
        "6065d27c615ea27308f5b88598dd8db116eb07436c7a323ca40d13b2866c309e",
        task="matting",
        data=MATTING,
    ),
    _onnx(
        "BiRefNet_HR-general-epoch_130",
        "db0217e99b25e0c4f6f4dca2892ff1f7ea7aba38fb6ad84f93122a4024be536a",
        bytes=1_098_928_953,
        size=(2048, 2048),
        task="general",
        data=GENERAL,
    ),
    _onnx(
        "BiRefNet_HR-matting-epoch_135",
        "45b7d92ce0e2e75e1c8a564a9e84c87ac9da7f4315d2deeef3674864e809aef3",
        size=(2048, 2048),
        task="matting",
        data=MATTING,
    ),
    _onnx(
        "BiRefNet_lite-general-2K-epoch_232",
        "6003d2f758bdb4e4802a09e39167529bc2eef9288d5b8fa537331467cbc4759d",
        **TINY,
        size=(2560, 1440),
        task="general",
        data=GENERAL,
    ),
)

BACKBONES = (
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
