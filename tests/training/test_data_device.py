"""Finishing samples on the device gives what the workers would have given."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from birefnet.imaging.geometry import Preprocess
from birefnet.training.data import jpeg
from birefnet.training.data.dataset import build_dataset
from birefnet.training.data.device import blur, finish_batch, warp
from birefnet.training.data.render import blur as blur_picture
from birefnet.training.data.render import warp as warp_picture
from birefnet.training.data.settings import AugmentSettings, CompositeSettings, DataSettings
from data_sets import make_backgrounds, make_cutouts, make_pairs, photo
from fake_mps import fake_mps

CLEAN = AugmentSettings(
    flip_vertical=0.3, crop=0.5, scale=0.5, rotate=0.6, colour=0.8, hue=20, grey=0.1, blur=0.4
)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> DataSettings:
    root = tmp_path_factory.mktemp("data")
    return DataSettings(
        sources=(str(make_pairs(root / "photos", 6)), str(make_cutouts(root / "cutouts", 8))),
        backgrounds=(str(make_backgrounds(root / "scenes", 3)),),
        width=96,
        height=64,
        augment=CLEAN,
        composite=CompositeSettings(photos=0.3, empty=0.1, objects=3, distractors=0.4, soften=0.5),
    )


def both(settings: DataSettings, count: int = 32) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Picture and truth in [0, 1], by the workers and by the device."""
    found = []
    for on_device in (False, True):
        data = build_dataset(replace(settings, on_device=on_device), seed=11)
        batch = data.to_device_batch(data.batch((64, 96), range(count)), "cpu", 5)
        found.append((_levels(batch.image), batch.truth))
    return found


def _levels(image: torch.Tensor) -> torch.Tensor:
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (Preprocess().mean, Preprocess().std))
    return image * std + mean


def test_both_ways_give_the_same_samples(settings: DataSettings) -> None:
    (image, truth), (other, other_truth) = both(settings)
    assert image.shape == other.shape == (32, 3, 64, 96)
    assert 0 <= other.min() <= other.max() <= 1 + 1e-6
    by_sample = (image - other).abs().mean(dim=(1, 2, 3))
    assert by_sample.median() < 0.004  # a level of 255
    assert by_sample.max() < 0.03
    assert (truth - other_truth).abs().mean(dim=(1, 2, 3)).max() < 0.01


def test_noise_has_the_same_strength(settings: DataSettings) -> None:
    noisy = replace(settings, augment=replace(CLEAN, blur=0, noise=1, noise_level=0.08))
    quiet = replace(settings, augment=replace(CLEAN, blur=0, noise=0, noise_level=0.08))
    spreads = []
    for (image, _), (clean, _) in zip(both(noisy), both(quiet), strict=True):
        inner = (clean > 0.25) & (clean < 0.75)
        spreads.append([float((i - c)[m].std()) for i, c, m in zip(image, clean, inner, strict=True)
                        if m.sum() > 500])  # fmt: skip
    assert spreads[0] == pytest.approx(spreads[1], rel=0.12)


def test_a_batch_is_a_function_of_seed_and_step(settings: DataSettings) -> None:
    noisy = replace(settings, on_device=True, augment=replace(CLEAN, noise=1, pepper=1))
    data = build_dataset(noisy, seed=1)
    batch = data.batch((64, 96), range(4))
    one = data.to_device_batch(batch, "cpu", 3)
    assert torch.equal(one.image, data.to_device_batch(batch, "cpu", 3).image)
    assert not torch.equal(one.image, data.to_device_batch(batch, "cpu", 4).image)
    samples = [data[number] for number in range(4)]
    assert torch.equal(one.image, data.to_device_batch(samples, "cpu", 3).image)


def test_finishing_leaves_the_batch_as_it_was(settings: DataSettings) -> None:
    data = build_dataset(replace(settings, on_device=True), seed=1)
    batch = data.batch((64, 96), range(8))
    before = batch.image.clone()
    data.to_device_batch(batch, "cpu", 0)
    assert torch.equal(batch.image, before)


def test_batches_are_normalised_as_the_weights_ask(settings: DataSettings) -> None:
    preprocess = Preprocess(64, 64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.5))
    data = build_dataset(settings, seed=1, preprocess=preprocess)
    batch = data.batch((64, 96), range(3))
    image = data.to_device_batch(batch, "cpu", 0).image
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in (preprocess.mean, preprocess.std))
    torch.testing.assert_close(image * std + mean, batch.image / 255, atol=1e-6, rtol=0)
    assert image.dtype == torch.float32
    assert data.to_device_batch(batch, "cpu", 0).labels.tolist() == [-1] * 3


def test_nothing_to_do_is_a_plain_conversion() -> None:
    image = torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8)
    truth = torch.randint(0, 256, (2, 1, 32, 32), dtype=torch.uint8)
    x, t = finish_batch(image, truth, None, seed=(0,), binary=False)
    assert torch.equal(x, image / 255)
    assert torch.equal(t, truth / 255)


@pytest.mark.parametrize("sigma", [0.5, 1.7, 2.9, 7.0])
def test_blur_is_the_picture_s(sigma: float) -> None:
    rgb = photo(0, 96, 128)[0]
    expected = blur_picture(rgb, sigma).astype(np.float32)
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    found = blur(x, sigma)[0].permute(1, 2, 0).numpy()
    assert np.abs(found - expected).mean() < 1
    assert np.abs(found - expected).max() < 12


def test_warp_is_the_picture_s_at_its_borders_too() -> None:
    rgb = photo(3, 48, 64)[0]
    theta = np.array([[1.3, -0.4, 0.1], [0.3, 1.2, -0.2]])
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float()
    for reflect, border in ((True, cv2.BORDER_REFLECT), (False, cv2.BORDER_CONSTANT)):
        expected = warp_picture(rgb, theta, 48, 64, border=border).astype(np.float32)
        found = warp(x, torch.from_numpy(theta)[None], reflect=reflect)[0].permute(1, 2, 0).numpy()
        assert np.abs(found - expected).max() < 8  # OpenCV counts in 32nds of a pixel
        assert np.abs(found - expected).mean() < 0.7


@pytest.mark.parametrize("quality", [15, 50, 90])
def test_jpeg_looks_like_the_codec_s(quality: int) -> None:
    rgb = photo(5, 96, 128)[0]
    data = cv2.imencode(".jpg", rgb[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])[1]
    coded = cv2.imdecode(data, cv2.IMREAD_COLOR)[..., ::-1].astype(np.float32)
    x = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 255
    found = jpeg.compress(x, torch.tensor([float(quality)]))[0].permute(1, 2, 0).numpy() * 255
    loss, difference = np.abs(coded - rgb).mean(), np.abs(found - coded).mean()
    assert difference < 0.5 * loss + 0.4
    assert np.abs(found - rgb).mean() == pytest.approx(loss, rel=0.2, abs=0.3)


@pytest.mark.cuda
def test_a_gpu_gives_what_the_cpu_gives(settings: DataSettings) -> None:
    data = build_dataset(replace(settings, on_device=True), seed=11)
    batch = data.batch((64, 96), range(16))
    here, there = (data.to_device_batch(batch, device, 0) for device in ("cpu", "cuda"))
    torch.testing.assert_close(here.image, there.image.cpu(), atol=0.02, rtol=0)
    torch.testing.assert_close(here.truth, there.truth.cpu(), atol=1e-3, rtol=0)


def test_an_apple_gpu_gives_what_the_cpu_gives(settings: DataSettings) -> None:
    noisy = replace(CLEAN, noise=0.5, pepper=0.5, jpeg=0.5, blur=1.0)
    data = build_dataset(replace(settings, on_device=True, augment=noisy), seed=11)
    batch = data.batch((64, 96), range(16))
    here = data.to_device_batch(batch, "cpu", 0)
    with fake_mps() as device:
        there = data.to_device_batch(batch, device, 0)
        assert there.image.device == there.truth.device == device
        torch.testing.assert_close(here.image, there.image.cpu(), atol=1e-4, rtol=0)
        torch.testing.assert_close(here.truth, there.truth.cpu(), atol=1e-4, rtol=0)


@pytest.mark.parametrize("sides", [(64, 96), (61, 89), (3, 200)])
def test_large_blurs_and_borders_need_nothing_that_apple_lacks(sides: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, theta = torch.rand(1, 3, *sides), torch.tensor([[[1.3, -0.4, 0.1], [0.3, 1.2, -0.2]]])
    expected = blur(x, 9.0), warp(x, theta, reflect=True), warp(x, theta, reflect=False)
    with fake_mps() as device:
        x, theta = x.to(device), theta.to(device)
        found = blur(x, 9.0), warp(x, theta, reflect=True), warp(x, theta, reflect=False)
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours.elem, theirs)
