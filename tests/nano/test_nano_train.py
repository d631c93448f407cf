"""nano's own recipe: its stream follows the phases, a run resumes, its state can be published."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from birefnet.network.backbones.efficientnet_lite import EfficientNetLite, to_package
from birefnet.network.blocks import ReconstructionBlock
from birefnet.training.run_folder import RunError
from birefnet.weights import load_checkpoint
from discs import PLAIN, disc
from tools.nano import pack, publish, train
from tools.nano.data import Phase, PhasedMix


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Photos of discs, backgrounds, and a file of encoder weights."""
    root = tmp_path / "data"
    for part in ("photos/cats/im", "photos/cats/gt", "backgrounds", "cutouts/renders"):
        (root / part).mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(24):
        pixels = disc(number)
        cv2.imwrite(str(root / f"photos/cats/im/{number}.png"), pixels[..., 2::-1])
        cv2.imwrite(str(root / f"photos/cats/gt/{number}.png"), pixels[..., 3])
        cv2.imwrite(str(root / f"cutouts/renders/r{number}.png"), pixels[..., (2, 1, 0, 3)])
        ground = rng.integers(0, 255, (64, 64, 3), np.uint8)
        cv2.imwrite(str(root / f"backgrounds/b{number}.png"), ground)
    torch.manual_seed(0)
    state = to_package(EfficientNetLite().state_dict())
    torch.save(state, tmp_path / "encoder.pth")
    return root


def test_sizes_follow_the_phases(tmp_path: Path) -> None:
    stream = PhasedMix(tmp_path, (Phase(2, 64), Phase(1, 96)), 1, PLAIN)
    assert stream.steps == 3
    assert [stream.size_at(step) for step in range(3)] == [(64, 64), (64, 64), (96, 96)]
    with pytest.raises(IndexError):
        stream.size_at(3)


def test_nano_trains_resumes_and_is_published(root: Path, tmp_path: Path) -> None:
    run, packed = tmp_path / "run", tmp_path / "pack.zip"
    pack.main([str(root), str(packed)])
    command = [
        str(packed), str(run), "--encoder", str(tmp_path / "encoder.pth"), "--preset", "tiny",
        "--phases", "1x64", "1x96", "--size", "64", "--workers", "0", "--threads", "1",
        "--validate-every", "2", "--device", "cpu", "--set", "schedule.batch_size=4",
    ]  # fmt: skip
    train.main(command)
    with pytest.raises(RunError, match="continue it with --resume"):
        train.main(command)
    train.main([*command, "--resume"])
    publish.main(
        [
            str(run), str(tmp_path / "m"), "--preset", "tiny", "--size", "64",
            "--looks", "96m", "64", "--sharpness", "1.5",
        ]
    )  # fmt: skip
    loaded = load_checkpoint(tmp_path / "m")
    assert (loaded.name, loaded.preprocess.width) == ("nano", 64)
    assert loaded.preprocess.views == ((96, 96, True), (64, 64, False))
    mean = load_checkpoint(run / "last").network.state_dict()
    for name, tensor in loaded.network.state_dict().items():
        factor = 1.5 if name.startswith("decoder.head.") else 1
        torch.testing.assert_close(tensor, factor * mean[name], rtol=1e-3, atol=1e-4)


def test_weights_of_several_runs_are_averaged() -> None:
    one = {"weight": torch.tensor([1.0, 2.0]), "count": torch.tensor(3)}
    other = {"weight": torch.tensor([3.0, 6.0]), "count": torch.tensor(7)}
    averaged = publish.mean([one, other])
    torch.testing.assert_close(averaged["weight"], torch.tensor([2.0, 4.0]))
    assert averaged["count"] == 3


def test_wide_channels_are_written_smaller_and_compute_the_same() -> None:
    torch.manual_seed(0)
    block = ReconstructionBlock(5, 7, 4, torch.nn.Identity()).eval()
    with torch.no_grad():
        block.conv_in.weight[1] *= 3e4
        block.norm_in.running_mean[1] = 1234
        block.norm_in.running_var[1] = 3e8
        x = torch.randn(2, 5, 8, 8)
        before = block(x)
        publish.shrink_channels(block)
        torch.testing.assert_close(block(x), before, rtol=1e-4, atol=1e-5)
    assert block.norm_in.running_var.max() < 4
    assert block.norm_in.running_var[0] == 1
