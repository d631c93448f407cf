"""Simulated guidance: what it looks like, and that a guided network learns from it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.network.guidance import is_guidance
from birefnet.training import freezing, optim
from birefnet.training.assemble import set_up_training
from birefnet.training.data.dataset import TrainingDataset, build_dataset
from birefnet.training.data.guides import degrade, from_levels, simulate, to_levels
from birefnet.training.data.preview import preview
from birefnet.training.data.settings import DataSettings, GuidanceSettings
from birefnet.training.recipe import LoopSettings, OptimiserSettings
from birefnet.training.recipes import get_recipe
from birefnet.training.settings import SettingsError
from birefnet.training.validation import predict_matte

ONLY = {
    kind: GuidanceSettings(
        share=1, **({"box": 0.0, "points": 0.0, "scribble": 0.0, "mask": 0.0} | {kind: 1.0})
    )
    for kind in ("box", "points", "scribble", "mask")
}


def disc(row: int, column: int, radius: int, size: tuple[int, int] = (96, 128)) -> NDArray:
    out = np.zeros(size, np.uint8)
    cv2.circle(out, (column, row), radius, 255, -1)
    return out


MEANT, OTHER = disc(48, 36, 24), disc(48, 96, 22)


@pytest.mark.parametrize("kind", ONLY)
def test_guidance_points_at_what_is_meant(kind: str) -> None:
    negative = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        guide = simulate(MEANT, OTHER, ONLY[kind], rng)
        assert guide.dtype == np.float32
        assert np.abs(guide).max() <= 1
        on, off = guide[MEANT > 0], guide[OTHER > 0]
        assert on.max() > 0.4
        assert on.mean() > off.mean() + 0.01
        negative += off.min() < -0.5
        again = simulate(MEANT, OTHER, ONLY[kind], np.random.default_rng(seed))
        assert np.array_equal(guide, again)
    assert negative == 40 if kind in ("box", "mask") else 4 < negative < 36


def test_all_parts_are_pointed_at() -> None:
    both = np.maximum(MEANT, OTHER)
    for seed in range(10):
        guide = simulate(both, np.zeros_like(both), ONLY["points"], np.random.default_rng(seed))
        assert guide[MEANT > 0].max() > 0.8
        assert guide[OTHER > 0].max() > 0.8


def test_masks_are_coarse_and_still_the_object() -> None:
    scores = []
    for seed in range(60):
        coarse = degrade(MEANT, np.random.default_rng(seed))
        assert coarse.dtype == np.float32
        a, b = coarse > 0.5, MEANT > 0
        scores.append((a & b).sum() / (a | b).sum())
    assert min(scores) > 0.25
    assert 0.6 < np.mean(scores) < 0.97
    assert len(np.unique(scores)) > 30
    tiny = disc(5, 5, 1)
    assert all(degrade(tiny, np.random.default_rng(seed)).any() for seed in range(20))


def test_nothing_is_said_of_nothing() -> None:
    empty = np.zeros((32, 32), np.uint8)
    for kind in ONLY:
        assert not simulate(empty, empty, ONLY[kind], np.random.default_rng(0)).any()


def test_levels() -> None:
    plane = np.linspace(-1, 1, 256, dtype=np.float32)[None]
    back = from_levels(torch.from_numpy(to_levels(plane))).numpy()
    assert np.abs(back - plane).max() < 0.005
    assert from_levels(torch.from_numpy(to_levels(np.zeros((1, 1), np.float32)))).item() == 0


@pytest.fixture(scope="module")
def things(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Cut-outs: discs of one colour each, and noise to put them on."""
    folder = tmp_path_factory.mktemp("things")
    rng = np.random.default_rng(4)
    for name in ("cutouts", "grounds"):
        (folder / name).mkdir()
    for number in range(24):
        pixels = np.zeros((48, 48, 4), np.uint8)
        cv2.circle(pixels, (24, 24), 20, (*rng.integers(60, 255, 3).tolist(), 255), -1)
        cv2.imwrite(str(folder / "cutouts" / f"{number}.png"), pixels)
    for number in range(3):
        noise = rng.integers(0, 60, (64, 64, 3), np.uint8)
        cv2.imwrite(str(folder / "grounds" / f"{number}.png"), cv2.blur(noise, (9, 9)))
    return folder


def dataset(folder: Path, **fields: object) -> TrainingDataset:
    settings = DataSettings(
        sources=(str(folder / "cutouts"),),
        backgrounds=(str(folder / "grounds"),),
        width=64,
        height=64,
        held_out=0.3,
        guidance=replace(GuidanceSettings(), share=0.75, others=1.0),
    )
    return build_dataset(replace(settings, **fields), seed=3)  # type: ignore[arg-type]


def test_samples_carry_guidance(things: Path) -> None:
    data = dataset(things)
    samples = [data[number] for number in range(40)]
    guides = [from_levels(sample.guide) for sample in samples if sample.guide is not None]
    assert len(guides) == 40
    said = sum(bool(guide.any()) for guide in guides)
    assert 20 < said < 38
    for sample, guide in zip(samples, guides, strict=True):
        if guide.any() and (sample.mask > 127).any():
            assert guide[sample.mask > 127].max() > 0.3
    batch = data.to_device_batch(data.batch((64, 64), range(6)), "cpu", 0)
    assert batch.image.shape == (6, 4, 64, 64)
    assert torch.equal(batch.image[2, 3:], guides[2])
    again = dataset(things)[7]
    assert torch.equal(again.image, samples[7].image)
    assert torch.equal(again.guide, samples[7].guide)  # type: ignore[arg-type]


def test_others_are_not_in_the_mask(things: Path) -> None:
    data = dataset(things, guidance=GuidanceSettings(share=1, others=1))
    parts = []
    for number in range(30):
        sample = data[number]
        if sample.name == "empty":
            continue
        bright = (sample.image.amax(0) > 90).float().mean() / max(
            1e-6, float((sample.mask > 127).float().mean())
        )
        parts.append(float(bright))
    assert np.median(parts) > 1.4  # about as much of others


def test_without_guidance_samples_are_as_before(things: Path) -> None:
    data = dataset(things, guidance=GuidanceSettings())
    assert data[0].guide is None
    assert data.batch((64, 64), [0, 1]).guide is None
    assert data.to_device_batch(data.batch((64, 64), [0]), "cpu", 0).image.shape[1] == 3
    assert data.validation_split[0].read(0).shape[2] == 4


def test_held_out_composites_are_guided(things: Path) -> None:
    data = dataset(things, guidance=GuidanceSettings(share=1, others=1))
    source = data.validation_split[0]
    pixels = source.read(0)
    assert pixels.shape == (64, 64, 5)
    assert np.array_equal(source.read(0), pixels)
    network = build_network(replace(preset("tiny"), guidance_channel=True)).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if is_guidance(name):
                parameter.normal_()
    rgb, guide = (np.ascontiguousarray(part) for part in (pixels[..., :3], pixels[..., 4]))
    device = torch.device("cpu")
    mattes = [predict_matte(network, rgb, data.preprocess, device, g) for g in (None, guide)]
    assert mattes[0].shape == (64, 64)
    assert not np.allclose(*mattes, atol=1e-6)


def test_previews_show_it(things: Path) -> None:
    rows = preview(dataset(things), 4, columns=4)
    assert rows.shape[0] == 3 * 64 + 6


def test_what_cannot_be() -> None:
    with pytest.raises(ValueError, match="all 0"):
        GuidanceSettings(box=0, points=0, scribble=0, mask=0)
    with pytest.raises(SettingsError, match="must be from 0 to 1"):
        get_recipe("guided").override(["data.guidance.share=2"])


def test_the_recipe_adds_a_channel_that_learns() -> None:
    start = set_up_training(get_recipe("guided"), name="guided")
    network = start.network
    assert network.config.guidance_channel
    read = {name: p for name, p in network.named_parameters() if is_guidance(name)}
    assert read
    assert not any(parameter.any() for parameter in read.values())
    for loop in (LoopSettings(frozen_encoder=True), LoopSettings(frozen_blocks=3)):
        freezing.freeze(network.requires_grad_(True), loop)
        learning = {name for name, p in network.named_parameters() if p.requires_grad}
        assert set(read) <= learning
        assert not any("stem.conv.weight" in name for name in learning)
    groups = optim.parameter_groups(
        network.requires_grad_(True).named_parameters(),
        replace(OptimiserSettings(), encoder_factor=0.1, guidance_factor=10),
        depths=freezing.block_depths(network.encoder.backbone),
        rate=1.0,
    )
    fast = {id(p) for group in groups if group["lr"] == 10 for p in group["params"]}
    assert fast == {id(parameter) for parameter in read.values()}
