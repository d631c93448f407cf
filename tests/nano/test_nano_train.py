"""Training nano: sizes follow the phases, a run resumes, its state can be published."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from birefnet.errors import WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones.efficientnet_lite import EfficientNetLite
from birefnet.network.blocks import ReconstructionBlock
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.training.run_folder import RunError
from birefnet.weights import load_checkpoint
from birefnet.weights.locate import read_settings
from birefnet.weights.save import save_directory
from discs import PLAIN
from efficientnet_package import to_package
from tools.nano import publish, split, train
from tools.nano.train import PhasedData, parse_phase, settings_for


@pytest.fixture
def encoder(tmp_path: Path) -> Path:
    """A file of encoder weights."""
    torch.manual_seed(0)
    path = tmp_path / "encoder.pth"
    torch.save(to_package(EfficientNetLite().state_dict()), path)
    return path


def test_sizes_follow_the_phases(nano_data: Path, tmp_path: Path) -> None:
    split.split(nano_data, tmp_path / "split")
    settings = settings_for(tmp_path / "split" / "train", train.RECIPE.data)
    data = PhasedData(settings, 1, PLAIN, (parse_phase("2x64"), parse_phase("1x96")))
    assert [data.size_at(step) for step in range(3)] == [(64, 64), (64, 64), (96, 96)]
    with pytest.raises(IndexError):
        data.size_at(3)


def test_nano_trains_resumes_and_is_published(
    nano_data: Path, encoder: Path, tmp_path: Path
) -> None:
    run, parts = tmp_path / "run", tmp_path / "split"
    split.main([str(nano_data), str(parts)])
    command = [
        str(parts), str(run), "--encoder", str(encoder), "--preset", "tiny",
        "--phases", "1x64", "1x96", "--size", "64", "--workers", "0", "--threads", "1",
        "--validate-every", "2", "--device", "cpu", "--set", "schedule.batch_size=4",
        "--cache", "10M", "--set", "validation.pictures=2",
    ]  # fmt: skip
    train.main(command)
    scored = (run / "metrics.jsonl").read_text()
    assert all(f"{name}/iou" in scored for name in ("cats", "renders", "crowded", "thin", "empty"))
    with pytest.raises(RunError, match="continue it with --resume"):
        train.main(command)
    train.main([*command, "--resume"])
    publish.main(
        [
            str(run), str(tmp_path / "m"), "--preset", "tiny", "--size", "64",
            "--looks", "96m", "64", "--sharpness", "1.5",
        ]
    )  # fmt: skip
    written = read_settings(tmp_path / "m" / "config.json")
    loaded = load_checkpoint(tmp_path / "m")
    count = sum(parameter.numel() for parameter in loaded.network.parameters())
    assert (written["parameters"], written["precision"]) == (count, "float16")
    assert (loaded.name, loaded.preprocess.width) == ("nano", 64)
    assert loaded.preprocess.views == ((96, 96, True), (64, 64, False))
    mean = load_checkpoint(run / "last").network.state_dict()
    for name, tensor in loaded.network.state_dict().items():
        factor = 1.5 if name.startswith("decoder.head.") else 1
        torch.testing.assert_close(tensor, factor * mean[name], rtol=1e-3, atol=1e-4)


def test_runs_that_do_not_say_how_pictures_were_prepared_take_it_from_their_model(
    tmp_path: Path,
) -> None:
    network = build_network(preset("tiny"))
    state = {"step": 3, "average": network.state_dict()}
    save_directory(tmp_path / "run" / "last", network, Preprocess(64, 96), name="old")
    torch.save(state, tmp_path / "run" / "state.pt")
    torch.save(state, tmp_path / "alone.pt")
    publish.main([str(tmp_path / "run"), str(tmp_path / "m"), "--preset", "tiny"])
    assert load_checkpoint(tmp_path / "m").preprocess == Preprocess(64, 96)
    with pytest.raises(WeightsError, match="do not say, or differ in"):
        publish.main([str(tmp_path / "alone.pt"), str(tmp_path / "m"), "--preset", "tiny"])


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
