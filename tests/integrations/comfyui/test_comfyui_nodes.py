"""This package's own nodes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import torch

from birefnet.compat.comfyui_packs import PACKS
from birefnet.errors import BiRefNetError, DeviceError, ImageError, WeightsError
from birefnet.integrations.comfyui import models
from birefnet.integrations.comfyui.mask_nodes import AdjustMask, Composite, Foreground, Objects
from birefnet.integrations.comfyui.nodes import LoadModel, RemoveBackground, VideoFrames
from birefnet.integrations.comfyui.register import OWN
from birefnet.integrations.comfyui.settings import WIDGETS
from birefnet.integrations.comfyui.tensors import masks_of, picture_of
from birefnet.options import OPTIONS
from fake_comfyui import ComfyUI, StoppedError
from fakes import disc


def images(count: int = 3, **size: int) -> torch.Tensor:
    """A batch of discs, from files of 8 bits."""
    pictures = [disc(subject=235 - 10 * i, **size) for i in range(count)]
    return torch.from_numpy(np.stack(pictures).astype(np.float32) / 255)


def remove(image: torch.Tensor, output: str = "cutout", **settings: Any) -> Any:
    return RemoveBackground().run(image, output, **settings)


def test_a_batch_goes_through_the_network_together(comfyui: ComfyUI, loads) -> None:
    image, mask, report, has_subject = remove(images(5), batch_size=4)
    assert [shape[0] for shape in loads.engine.batches] == [4, 1]
    assert image.shape == (5, 48, 64, 4)
    assert mask.shape == (5, 48, 64)
    assert image.dtype == mask.dtype == torch.float32
    torch.testing.assert_close(image[..., 3], mask, atol=0.5 / 255 + 1e-6, rtol=0)
    entries = json.loads(report)
    assert len(entries) == 5
    assert all(e["confidence"] > 0.8 and not e["empty"] for e in entries)
    assert has_subject is True
    (bar,) = comfyui.bars
    assert (bar.total, bar.value) == (5, 5)


def test_nothing_there_is_said(comfyui: ComfyUI, loads) -> None:
    """A dark picture: the mask keeps its small numbers, and nothing was found."""
    _, mask, report, has_subject = remove(torch.full((1, 32, 32, 3), 0.1))
    assert has_subject is False
    assert json.loads(report)[0]["empty"]
    assert mask.max() < 0.01


def test_stop_is_obeyed(comfyui: ComfyUI, loads) -> None:
    comfyui.stop_after = 2
    with pytest.raises(StoppedError):
        remove(images(6), batch_size=1)
    assert len(loads.engine.batches) < 6


def test_sizes(comfyui: ComfyUI, loads) -> None:
    remove(images(1), width=128, height=96)
    assert loads.engine.batches[-1] == (1, 3, 96, 128)
    remove(images(1), width=128)
    assert loads.engine.batches[-1] == (1, 3, 128, 128)
    remove(images(1, height=320, width=288), native_size=True)
    assert loads.engine.batches[-1] == (1, 3, 320, 288)


def test_a_guide_for_each_picture(comfyui: ComfyUI, loads) -> None:
    """Two discs; each mask points at one of them."""
    pixels = np.concatenate([disc(64, 64), disc(64, 64)], axis=1)
    image = torch.from_numpy(pixels.astype(np.float32) / 255)[None].repeat(2, 1, 1, 1)
    guide = torch.zeros(2, 64, 128)
    guide[0, 20:44, 20:44] = 1
    guide[1, 20:44, 84:108] = 1
    _, mask, _, _ = remove(image, guide=guide)
    assert mask[0, 32, 32] > 0.9 > 0.1 > mask[0, 32, 96]
    assert mask[1, 32, 96] > 0.9 > 0.1 > mask[1, 32, 32]
    _, mask, _, _ = remove(image, boxes="0.0,0.0,0.5,1.0")
    assert mask[1, 32, 32] > 0.9 > 0.1 > mask[1, 32, 96]
    _, mask, _, _ = remove(image, points="96,32", other_points="32,32")
    assert mask[0, 32, 96] > 0.9 > 0.1 > mask[0, 32, 32]


def test_contradictions_are_refused(comfyui: ComfyUI, loads) -> None:
    with pytest.raises(BiRefNetError, match="needs a background"):
        remove(images(1), "picture")
    with pytest.raises(BiRefNetError, match="the output is cutout; choose picture"):
        remove(images(1), background=images(1))
    with pytest.raises(BiRefNetError, match="got 2 backgrounds for 3 pictures"):
        remove(images(3), "picture", background=images(2))
    with pytest.raises(BiRefNetError, match="is not a colour"):
        remove(images(1), "colour", colour="/etc/hostname")
    with pytest.raises(ImageError, match="got 2 masks for 3 pictures"):
        remove(images(3), guide=torch.ones(2, 48, 64))
    with pytest.raises(ImageError, match="NaN or infinity"):
        remove(torch.full((1, 8, 8, 3), torch.nan))
    with pytest.raises(ImageError, match="expected B x H x W x 3"):
        remove(torch.zeros(1, 3, 8, 8))


@pytest.mark.parametrize(
    "output", ["cutout", "colour", "blur", "foreground", "overlay", "trimap", "mask"]
)
def test_outputs(comfyui: ComfyUI, loads, output: str) -> None:
    image, _, _, _ = remove(images(2), output, colour="tomato")
    assert image.shape == (2, 48, 64, 4 if output == "cutout" else 3)
    if output == "colour":
        np.testing.assert_allclose(image[0, 0, 0], np.array([255, 99, 71]) / 255, atol=1e-6)


def test_pictures_behind(comfyui: ComfyUI, loads) -> None:
    behind = torch.stack([torch.full((96, 128, 3), level) for level in (0.25, 0.75)])
    image, _, _, _ = remove(images(2), "picture", background=behind)
    np.testing.assert_allclose(image[:, 0, 0, 0], (0.25, 0.75), atol=1 / 255)
    image, _, _, _ = remove(images(2), "picture", background=behind[:1])
    np.testing.assert_allclose(image[:, 0, 0, 0], 0.25, atol=1 / 255)


def test_mask_corrections(comfyui: ComfyUI, loads) -> None:
    plain = remove(images(1))[1]
    assert remove(images(1), mask_offset=4)[1].mean() > plain.mean() * 1.2
    assert (remove(images(1), mask_blur=8)[1] - plain).abs().max() > 0.1
    hard = remove(images(1), threshold=0.5)[1]
    assert set(hard.unique().tolist()) == {0.0, 1.0}


def test_pictures_keep_their_depth_and_alpha() -> None:
    exact = picture_of(images(1)[0])
    assert exact.pixels.dtype == np.uint8
    np.testing.assert_array_equal(exact.pixels, disc())
    fine = torch.full((4, 4, 3), 0.5004)
    assert picture_of(fine).pixels.dtype == np.uint16
    see_through = torch.cat([fine, torch.full((4, 4, 1), 0.25)], dim=-1)
    alpha = picture_of(see_through).alpha
    assert alpha is not None
    assert (alpha == 0.25).all()
    assert picture_of(torch.ones(4, 4, 4)).alpha is None
    assert picture_of(torch.ones(4, 4, 1)).pixels.shape == (4, 4, 3)


def test_masks_of_every_shape() -> None:
    for mask in (torch.ones(5, 7), torch.ones(1, 5, 7), torch.ones(1, 1, 5, 7)):
        assert [m.shape for m in masks_of(mask, 3)] == [(5, 7)] * 3


@pytest.mark.parametrize("device", ["xpu:0", "privateuseone:0"])
def test_devices_of_others_are_the_cpu_s_work(
    comfyui: ComfyUI, loads, device: str, caplog: pytest.LogCaptureFixture
) -> None:
    comfyui.device = device
    LoadModel().run("nano", "auto", "auto", "auto")
    assert loads[0]["device"] == "cpu"
    assert loads[0]["dtype"] == "auto"
    assert comfyui.freed == []
    assert f"ComfyUI computes on {device}" in caplog.text


def test_memory_is_made_and_asked_for_again(comfyui: ComfyUI, loads) -> None:
    path = comfyui.root / "models" / "BiRefNet" / "big.safetensors"
    path.parent.mkdir()
    path.write_bytes(bytes(1000))
    comfyui.device = "cuda:0"
    comfyui.half = False
    (model, _) = LoadModel().run("big.safetensors", "auto", "auto", "auto")
    assert comfyui.freed == [(2000, "cuda:0")]
    assert loads[0] == {
        "source": str(path),
        "device": "cuda:0",
        "dtype": "fp32",
        "engine": "auto",
    }
    real = loads.engine.infer
    failures = [DeviceError("cuda:0 ran out of memory on a batch of 1 at 64x64")]

    def infer(batch: np.ndarray) -> np.ndarray:
        if loads.engine.batches and failures:
            raise failures.pop()
        return real(batch)

    loads.engine.infer = infer
    assert remove(images(3), model=model, batch_size=1)[1].shape == (3, 48, 64)
    assert comfyui.unloaded == 1
    failures.extend([DeviceError("out of memory")] * 2)
    with pytest.raises(DeviceError):
        remove(images(3), model=model, batch_size=1)


def test_loading(comfyui: ComfyUI, loads) -> None:
    offered = LoadModel.INPUT_TYPES()["required"]["model"][0]
    assert offered[0] == "nano"
    assert {"general", "lite", "hr"} <= set(offered)
    for place in ("BiRefNet/mine.pth", "RMBG/BiRefNet/BiRefNet-HR.safetensors", "BiRefNet/x.onnx"):
        path = comfyui.root / "models" / place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (comfyui.root / "models/BiRefNet/swin_large_patch4_window12_384_22kto1k.pth").touch()
    (comfyui.root / "models/BiRefNet/config.json").touch()
    choices = LoadModel.INPUT_TYPES()["required"]["model"][0]
    assert set(choices) - set(offered) == {"mine.pth", "BiRefNet/BiRefNet-HR.safetensors", "x.onnx"}
    first, again = (LoadModel().run("mine.pth", "cpu", "bf16", "torch")[0] for _ in range(2))
    assert first is again
    assert loads == [
        {
            "source": str(comfyui.root / "models/BiRefNet/mine.pth"),
            "device": "cpu",
            "dtype": "bf16",
            "engine": "torch",
        }
    ]
    with pytest.raises(WeightsError, match=r"there is no network 'other\.pth' in .*BiRefNet"):
        models.find("other.pth")
    with pytest.raises(WeightsError):
        models.find("../../secret.pth")


def test_our_model_in_comfyui_s_own_node(comfyui: ComfyUI, loads) -> None:
    """Its RemoveBackground calls `encode_image(image, image_size=…)` of what the loader gave."""
    _, model = LoadModel().run("nano", "auto", "auto", "auto")
    mask = model.encode_image(images(2), image_size=96)
    assert mask.shape == (2, 48, 64)
    assert loads.engine.batches[-1][2:] == (96, 96)


def test_a_model_of_another_pack_is_refused(comfyui: ComfyUI, loads) -> None:
    from birefnet.compat.comfyui_packs.lldacing import Remove

    with pytest.raises(BiRefNetError, match="loaded by another pack's node"):
        Remove().run((torch.nn.Identity(), "v1"), images(1))


def test_video_frames(comfyui: ComfyUI, loads) -> None:
    """A matte that wavers for a frame is mended by its neighbours; without that it stays."""
    frames = images(1).repeat(7, 1, 1, 1)
    frames[:, 18:30, 26:38] = 0.54
    frames[3, 18:30, 26:38] = 0.5  # hardly another colour, and quite another matte
    steady = VideoFrames().run(frames, "cutout", True, batch_size=3)
    plain = VideoFrames().run(frames, "cutout", False, batch_size=3)
    assert [shape[0] for shape in loads.engine.batches] == [3, 3, 1, 3, 3, 1]
    assert steady[0].shape == (7, 48, 64, 4)
    assert steady[1].shape == (7, 48, 64)
    torch.testing.assert_close(steady[1][0], plain[1][0], atol=0.05, rtol=0)
    torch.testing.assert_close(plain[0][..., 3], plain[1], atol=0.5 / 255 + 1e-6, rtol=0)
    assert plain[1][3, 24, 32] < 0.6 < 0.7 < steady[1][3, 24, 32]
    behind, _ = VideoFrames().run(frames, "picture", True, background=images(1))
    assert behind.shape == (7, 48, 64, 3)
    (first, *_) = comfyui.bars
    assert first.value == first.total == 7


def test_foreground(comfyui: ComfyUI) -> None:
    """Half red over half blue: the estimate takes the blue out."""
    image = torch.zeros(1, 32, 32, 3)
    alpha = torch.linspace(0, 1, 32).expand(1, 32, 32)
    image[..., 0], image[..., 2] = alpha, 1 - alpha
    (colours,) = Foreground().run(image, alpha, 0, 0)
    assert colours.shape == (1, 32, 32, 3)
    assert colours[0, 16, 20, 0] > image[0, 16, 20, 0] + 0.1
    (other,) = Foreground().run(image, alpha, 8, 2)
    assert not torch.equal(colours, other)
    with pytest.raises(ImageError, match="must agree"):  # LoadImage's mask where there is none
        Foreground().run(image, torch.zeros(1, 64, 64), 0, 0)


@pytest.mark.parametrize("background", ["colour", "picture", "blur", "transparent"])
def test_composite(comfyui: ComfyUI, background: str) -> None:
    image = images(2)
    mask = (image[..., 0] > 0.5).float()
    settings = (background, True, "#00ff00", 4.0, "fill")
    if background == "picture":
        with pytest.raises(BiRefNetError, match="connect one"):
            Composite().run(image, mask, *settings)
    (out,) = Composite().run(image, mask, *settings, picture=torch.full((1, 9, 9, 3), 0.5))
    assert out.shape == (2, 48, 64, 4 if background == "transparent" else 3)
    torch.testing.assert_close(out[:, 24, 32, :3], image[:, 24, 32], atol=0.01, rtol=0)
    if background == "colour":
        assert out[0, 0, 0].tolist() == [0, 1, 0]


def test_adjust_mask(comfyui: ComfyUI) -> None:
    mask = torch.zeros(2, 32, 32)
    mask[:, 8:24, 8:24] = 1
    (grown,) = AdjustMask().run(mask, 3, 0, 0, False)
    assert grown[0, 16, 5] == 1
    assert mask[0, 16, 5] == 0  # the input is left alone
    (inverted,) = AdjustMask().run(mask, 0, 0, 0, True)
    assert torch.equal(inverted, 1 - mask)
    (soft,) = AdjustMask().run(mask, 0, 4, 0, False)
    assert 0 < soft[0, 16, 8] < 1


def test_without_comfyui() -> None:
    """The nodes are plain classes: a script can use them with the bundled network."""
    model, _ = LoadModel().run("nano", "cpu", "auto", "torch")
    image, mask, _, _ = remove(images(1), model=model, width=64)
    assert image.shape == (1, 48, 64, 4)
    assert models.files() == {}
    assert 0 <= mask.min() <= mask.max() <= 1


def test_every_option_has_a_widget() -> None:
    """What `Options` learns, the node must learn too."""
    declared = RemoveBackground.INPUT_TYPES()
    inputs = {**declared["required"], **declared["optional"]}
    others = {"kind": "output", "resolution": "width", "refine": "refine_foreground"}
    lacking = {name for name in OPTIONS if others.get(name, name) not in inputs}
    # Nothing is encoded here, and objects have a node of their own.
    assert lacking == {"format", "quality", "keep_profile", "metadata", "objects", "min_object"}
    assert all(len(widget[1]["tooltip"]) > 10 for widget in WIDGETS.values())


def test_crop_of_a_batch(comfyui: ComfyUI, loads) -> None:
    """All are cut alike, to what the subjects take up together."""
    batch = images(2)
    batch[1] = torch.roll(batch[1], 12, dims=1)
    image, mask, _, _ = remove(batch, crop=True)
    assert image.shape[:3] == mask.shape
    _, height, width = mask.shape
    assert 28 <= height <= 40
    assert 40 <= width <= 52
    image, _, _, _ = remove(batch[:1], crop=True, crop_margin="10%", aspect="square")
    assert image.shape[1] == image.shape[2] < 48
    empty = torch.full((1, 32, 32, 3), 0.1)
    assert remove(empty, crop=True)[0].shape == (1, 32, 32, 4)


def test_matting_and_shadow(comfyui: ComfyUI, loads) -> None:
    plain = remove(images(1))
    assert not torch.equal(remove(images(1), matting="guided", band=6)[1], plain[1])
    with_shadow = remove(images(1), shadow="drop", shadow_strength=0.8)
    assert torch.equal(with_shadow[1], plain[1])
    assert (with_shadow[0][..., 3] - plain[0][..., 3]).max() > 0.1
    with pytest.raises(BiRefNetError, match="does not go with kind"):
        remove(images(1), "mask", shadow="drop")


def test_objects(comfyui: ComfyUI) -> None:
    pixels = np.concatenate([disc(64, 64), disc(32, 32).repeat(2, axis=0)], axis=1)
    image = torch.from_numpy(pixels.astype(np.float32) / 255)[None]
    mask = (image[..., 0] > 0.5).float()
    cutouts, masks, count = Objects().run(image, mask, "0.1%", True, "0", "", True)
    assert count == len(cutouts) == len(masks) == 2
    assert cutouts[0].shape[1] > 35
    assert cutouts[1].shape[2] < 25
    assert all(
        c.shape[3] == 4 and c.shape[:3] == m.shape for c, m in zip(cutouts, masks, strict=True)
    )
    cutouts, _, _ = Objects().run(image, mask, "20%", False, "0", "", False)
    assert [c.shape for c in cutouts] == [(1, 64, 96, 4)]


NODES = {
    f"{pack}: {name}": kind
    for pack, nodes in {**PACKS, "own": OWN}.items()
    for name, (kind, _) in nodes.items()
    if any(f"'{wire}'" in str(kind.INPUT_TYPES()["required"]) for wire in ("IMAGE", "MASK"))
}


@pytest.mark.parametrize("name", NODES)
def test_an_empty_batch_is_told(name: str, comfyui: ComfyUI, loads) -> None:
    """As nodes that filter pictures give it; other packs' nodes end in an error of PyTorch."""
    node = NODES[name]
    network, _ = LoadModel().run("nano", "auto", "auto", "auto")
    wires = {"IMAGE": torch.zeros(0, 8, 8, 3), "MASK": torch.zeros(0, 8, 8)}
    given: dict[str, Any] = {}
    for key, (kind, *settings) in node.INPUT_TYPES()["required"].items():
        if isinstance(kind, list):
            given[key] = kind[0]
        elif settings and "default" in settings[0]:
            given[key] = settings[0]["default"]
        else:
            given[key] = wires.get(kind, network)
    with pytest.raises(ImageError, match=r"the (IMAGE|MASK) is empty"):
        node().run(**given)
