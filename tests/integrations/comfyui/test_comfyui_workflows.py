"""Saved workflows of other packs load and run, in both forms that ComfyUI saves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fake_comfyui import ComfyUI, RefusedError
from fakes import disc

WORKFLOWS = Path(__file__).parents[3] / "examples" / "comfyui"


def workflow(name: str) -> Any:
    return json.loads((WORKFLOWS / f"{name}.json").read_text(encoding="utf-8"))


@pytest.fixture
def photo(comfyui: ComfyUI) -> np.ndarray:
    pixels = disc(48, 64, ground=64)
    comfyui.picture("photo.png", pixels)
    return pixels


def weights(comfyui: ComfyUI, place: str) -> Path:
    path = comfyui.root / "models" / place
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def alpha_of(pixels: np.ndarray) -> np.ndarray:
    """What `BrightEngine` says of it, at 64 x 64 and back, away from edges."""
    return (pixels[..., 0] > 128).astype(np.float32)


def inside(pixels: np.ndarray) -> np.ndarray:
    """Where the disc's edge is not near."""
    import cv2

    edge = cv2.morphologyEx(alpha_of(pixels), cv2.MORPH_GRADIENT, np.ones((13, 13)))
    return edge == 0


def test_birefnet_ll(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    comfyui.run(workflow("birefnet_ll"))
    assert loads == [{"source": "general", "device": "cpu", "dtype": "fp32", "engine": "auto"}]
    assert loads.engine.batches == [(1, 3, 64, 64)]  # what the weights were trained on
    (image,) = comfyui.saved
    assert image.shape == (1, 48, 64, 4)
    where = inside(photo)
    np.testing.assert_allclose(image[0, ..., 3].numpy()[where], alpha_of(photo)[where], atol=1e-3)
    subject = where & (alpha_of(photo) == 1)
    np.testing.assert_allclose(image[0].numpy()[subject][:, :3], 235 / 255, atol=2 / 255)


def test_birefnet_ll_prefers_files(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    path = weights(comfyui, "BiRefNet/General.safetensors")
    comfyui.run(workflow("birefnet_ll"))
    assert loads[0]["source"] == str(path)


def test_birefnet_ll_advanced(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    with pytest.raises(RefusedError, match=r"General\.safetensors"):
        comfyui.run(workflow("birefnet_ll_advanced"))
    weights(comfyui, "birefnet/General.safetensors")
    done = comfyui.run(workflow("birefnet_ll_advanced"))
    assert set(loads.engine.batches) == {(1, 3, 512, 512)}
    on_grey, cutout = comfyui.saved
    assert on_grey.shape == (1, 48, 64, 3)
    assert cutout.shape == (1, 48, 64, 4)
    background = inside(photo) & (alpha_of(photo) == 0)
    np.testing.assert_allclose(on_grey[0].numpy()[background], 0xD3 / 255, atol=2 / 255)
    assert float(done["3"][1].min()) == 0  # below mask_threshold
    assert float(done["4"][0].min()) > 0  # nothing is stretched


def test_birefnet_ll_blur_sizes_are_used(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    weights(comfyui, "BiRefNet/General.safetensors")
    saved = workflow("birefnet_ll_advanced")
    fusion = next(n for n in saved["nodes"] if n["type"] == "BlurFusionForegroundEstimation")
    results = []
    for sizes in ([60, 5], [9, 2]):
        fusion["widgets_values"][:2] = sizes
        results.append(comfyui.run(json.loads(json.dumps(saved)))["5"][0])
    assert not torch.equal(*results)


def test_birefnet_ll_for_programs(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    done = comfyui.run(workflow("birefnet_ll_api"))
    assert loads[0]["source"] == "hr"
    assert loads.engine.batches == [(1, 3, 768, 1024)]
    (mask,) = done["3"]
    assert ((mask == 0) | (mask > 0.5)).all()
    assert mask[0, 24, 32] > 0.99


def test_rmbg(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    path = weights(comfyui, "RMBG/BiRefNet/BiRefNet-general.safetensors")
    done = comfyui.run(workflow("rmbg"))
    assert loads[0]["source"] == str(path)
    assert loads.engine.batches == [(1, 3, 1024, 1024)]
    image, mask, mask_image = done["2"]
    assert (image.shape, mask.shape, mask_image.shape) == (
        (1, 48, 64, 3),
        (1, 48, 64),
        (1, 48, 64, 3),
    )
    background = inside(photo) & (alpha_of(photo) == 0)
    np.testing.assert_allclose(image[0].numpy()[background], 0x22 / 255, atol=2 / 255)
    assert torch.equal(mask_image[..., 1], mask)


@pytest.mark.parametrize(
    ("name", "size"),
    [("BiRefNet-HR", (2048, 2048)), ("BiRefNet_lite-2K", (1440, 2560)), ("BiRefNet_512x512", 512)],
)
def test_rmbg_sizes(comfyui: ComfyUI, loads, photo: np.ndarray, name: str, size: Any) -> None:
    saved = workflow("rmbg")
    saved["nodes"][1]["widgets_values"][0] = name
    comfyui.run(saved)
    expected = (size, size) if isinstance(size, int) else size
    assert loads.engine.batches == [(1, 3, *expected)]


def test_rmbg_mask_blur_and_offset(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    masks = []
    for values in ([0, 0], [8, 0], [0, 5]):
        saved = workflow("rmbg")
        saved["nodes"][1]["widgets_values"][1:3] = values
        masks.append(comfyui.run(saved)["2"][1][0])
    plain, blurred, grown = masks
    assert (blurred - plain).abs().max() > 0.1
    assert grown.mean() > plain.mean() * 1.2


def test_rmbg_for_programs(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    path = weights(comfyui, "RMBG/RMBG-2.0/model.safetensors")
    done = comfyui.run(workflow("rmbg_api"))
    assert loads[0]["source"] == str(path)
    image, mask, _ = done["2"]
    assert mask[0, 24, 32] < 0.01  # inverted
    assert image.shape == (1, 48, 64, 4)
    torch.testing.assert_close(image[..., 3], mask, atol=1 / 255, rtol=0)


def test_zho(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    weights(comfyui, "BiRefNet/BiRefNet-ep480.pth")
    image, mask = comfyui.run(workflow("zho"))["3"]
    assert torch.equal(image[..., 3], mask)
    np.testing.assert_allclose(image[0, ..., :3].numpy(), photo / np.float32(255), atol=1e-6)


def test_viperyl(comfyui: ComfyUI, loads, photo: np.ndarray) -> None:
    (mask,) = comfyui.run(workflow("viperyl"))["2"]
    assert mask.shape == (1, 48, 64)
    assert loads[0]["source"] == "nano"  # where its own file is not there
    path = weights(comfyui, "BiRefNet/BiRefNet-ep480.pth")
    comfyui.run(workflow("viperyl"))
    assert loads[1]["source"] == str(path)


@pytest.mark.parametrize("kind", ["BiRefNet", "BiRefNetLoadModel"])
def test_a_device_of_another_machine(
    comfyui: ComfyUI, loads, photo: np.ndarray, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """viperyl's own example was saved with cuda:0."""
    inputs = {
        "BiRefNet": {"image": ["1", 0]},
        "BiRefNetLoadModel": {"model": "nano", "precision": "auto", "engine": "auto"},
    }[kind]
    comfyui.run(
        {
            "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
            "2": {"class_type": kind, "inputs": {"device": "cuda:7", **inputs}},
        }
    )
    assert loads[0]["device"] == "cpu"
    assert "device cuda:7 is not there" in caplog.text


@pytest.mark.parametrize("name", ["comfyui_core", "comfyui_core_api"])
def test_comfyui_s_own(comfyui: ComfyUI, loads, photo: np.ndarray, name: str) -> None:
    path = weights(comfyui, "background_removal/birefnet.safetensors")
    comfyui.run(workflow(name))
    assert loads[0]["source"] == str(path)
    size = 1024 if name.endswith("api") else 64
    assert loads.engine.batches == [(1, 3, size, size)]
    (image,) = comfyui.saved
    assert image[0, 24, 32, 3] > 0.99
    assert image[0, 0, 0, 3] < 0.01


OWN = Path(__file__).parents[3] / "comfyui" / "example_workflows"


@pytest.mark.parametrize("path", sorted(OWN.glob("*.json")), ids=lambda path: path.stem)
def test_our_examples(comfyui: ComfyUI, loads, photo: np.ndarray, path: Path) -> None:
    """Every value stands where its widget is, and the workflow runs."""
    comfyui.picture("background.png", disc(80, 60))
    comfyui.picture("mask.png", np.dstack([photo, 255 - photo[..., :1]]))
    saved = json.loads(path.read_text(encoding="utf-8"))
    for node in saved["nodes"]:
        declared = comfyui.nodes[node["type"]].INPUT_TYPES()
        widgets = [
            spec
            for section in ("required", "optional")
            for spec in declared.get(section, {}).values()
            if isinstance(spec[0], list) or spec[0] in ("INT", "FLOAT", "STRING", "BOOLEAN")
        ]
        if node["type"].startswith("BiRefNet"):
            assert len(node["widgets_values"]) == len(widgets)
    comfyui.run(saved)
    assert comfyui.saved
    assert all(image.ndim == 4 and image.isfinite().all() for image in comfyui.saved)
