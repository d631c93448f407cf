"""The parts of the loop: settings, schedule, freezing, rates, memory, pretrained weights."""

from __future__ import annotations

import gc
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

pytest.importorskip("accelerate")

from birefnet.errors import WeightsError
from birefnet.network.backbones import build_backbone
from birefnet.training import memory
from birefnet.training.freezing import block_depths
from birefnet.training.optim import PEAK, parameter_groups, scaled_rate, set_rates
from birefnet.training.pretrained import load_backbone
from birefnet.training.recipe import OptimiserSettings, Recipe, ScheduleSettings, load_yaml
from birefnet.training.run_folder import RunError, RunFolder
from birefnet.training.schedule import Plan
from birefnet.training.settings import SettingsError
from birefnet.training.validation import Scored, Validator
from discs import PLAIN, Discs, recipe, tiny

# Settings and recipes


def test_recipe_goes_to_yaml_and_back(tmp_path: Path) -> None:
    made = recipe(
        schedule__epochs="12", optimiser__betas="0.8, 0.9", network_overrides__dropout=0.2,
        loop__compile="yes", validation__metrics="iou,mae", schedule__steps="none",
        optimiser__rate="3e-4",
    )  # fmt: skip
    assert (made.schedule.epochs, made.schedule.steps, made.optimiser.rate) == (12, None, 3e-4)
    assert (made.optimiser.betas, made.loop.compile) == ((0.8, 0.9), True)
    made.save(tmp_path / "recipe.yaml")
    assert Recipe.from_dict(load_yaml(tmp_path / "recipe.yaml")) == made


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("schedule.epoch=3", r"no setting schedule.epoch; did you mean schedule.epochs\?"),
        ("schedule.epochs=1.5", "schedule.epochs is '1.5'; expected a whole number"),
        ("loop.precision=fp8", "expected one of auto, fp32, bf16, fp16"),
        ("optimiser.betas=1", "expected 2 values, each a number"),
        ("schedule.epochs=0", "schedule: epochs is 0; it must be at least 1"),
        ("loop.clip.a=3", "loop.clip has no parts"),
        ("loop=3", "expected a mapping"),
        ("nonsense", "give NAME=VALUE"),
        ("schedule.milestones=-20", "milestones need shape=step"),
    ],
)
def test_settings_are_refused_in_a_sentence(change: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        recipe().override([change])


def test_a_setting_in_a_nested_mapping_is_refused_under_its_whole_name() -> None:
    with pytest.raises(SettingsError, match=r"no setting data.augment.flop; did you mean"):
        recipe().override({"data": {"augment": {"flop": 1}}})


def test_a_file_that_is_no_recipe_is_refused(tmp_path: Path) -> None:
    for text, message in (("a: [", "is not valid YAML"), ("3", "holds no settings")):
        (tmp_path / "x.yaml").write_text(text)
        with pytest.raises(SettingsError, match=message):
            load_yaml(tmp_path / "x.yaml")
    with pytest.raises(SettingsError, match="cannot read"):
        load_yaml(tmp_path / "missing.yaml")


# Schedule


def plan(epoch_length: int = 10, processes: int = 1, **settings: object) -> Plan:
    return Plan(ScheduleSettings(**settings), epoch_length, processes)  # type: ignore[arg-type]


def test_cosine_warms_up_and_falls() -> None:
    made = plan(steps=100, warmup=10, last_factor=0.1)
    factors = [made.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_steps_fall_at_milestones_counted_from_either_end() -> None:
    made = plan(epochs=10, batch_size=10, shape="step", milestones=(2, -3), step_factor=0.5)
    assert [made.factor(step) for step in range(10)] == [1, 1, *[0.5] * 5, *[0.25] * 3]


@pytest.mark.parametrize(
    ("processes", "batch_size", "accumulate"), [(1, 8, 1), (2, 2, 2), (4, 1, 2)]
)
def test_every_split_of_a_step_sees_the_same_pictures_once(
    processes: int, batch_size: int, accumulate: int
) -> None:
    made = plan(20, processes, epochs=2, batch_size=batch_size, accumulate=accumulate)
    assert (made.pictures_per_step, made.steps) == (8, 5)
    for step in range(made.steps):
        parts = range(step * accumulate, (step + 1) * accumulate)
        numbers = [
            n for part in parts for rank in range(processes) for n in made.numbers(part, rank)
        ]
        assert numbers == list(range(step * 8, step * 8 + 8))
    assert [made.epoch(step) for step in range(5)] == [0, 0, 0, 1, 1]


def test_validation_follows_whole_epochs_of_fifty_steps_or_every_so_many() -> None:
    small = plan(8, epochs=200, batch_size=8)  # one step an epoch
    assert [s for s in range(201) if small.validates_after(s, None)] == [0, 50, 100, 150, 200]
    large = plan(1000, epochs=2, batch_size=10)
    assert [s for s in range(201) if large.validates_after(s, None)] == [0, 100, 200]
    assert [s for s in range(201) if large.validates_after(s, 60)] == [0, 60, 120, 180, 200]


# Freezing and rates


@pytest.mark.parametrize(
    ("name", "blocks"),
    [("swin_v1_t", 12), ("pvt_v2_b1", 8), ("resnet50", 16), ("vgg16bn", 4),
     ("efficientnet_lite0", 16)],
)  # fmt: skip
def test_blocks_of_every_backbone_are_counted_from_the_image(name: str, blocks: int) -> None:
    with torch.device("meta"):
        backbone = build_backbone(name)
    depths = block_depths(backbone)
    assert list(depths) == [n for n, _ in backbone.named_parameters()]
    assert set(depths.values()) <= set(range(blocks + 1))
    assert max(depths.values()) == blocks


def test_rates_by_depth_offsets_and_shape() -> None:
    network = tiny()
    settings = OptimiserSettings(
        rate=1.0, encoder_factor=0.1, layer_decay=0.5, offset_factor=0.2, weight_decay=0.3
    )
    depths = block_depths(network.encoder.backbone)
    wrapped = [(f"module.{n}", p) for n, p in network.named_parameters()]  # as DDP names them
    groups = parameter_groups(wrapped, settings, depths=depths, rate=1.0)
    found = {id(p): (g[PEAK], g["weight_decay"]) for g in groups for p in g["params"]}
    of = {name: found[id(p)] for name, p in network.named_parameters()}
    assert of["decoder.head.weight"] == (1.0, 0.3)
    assert of["decoder.head.bias"] == (1.0, 0.0)
    assert of["squeeze.attention.branches.1.conv.offset.weight"] == (0.2, 0.3)
    assert of["encoder.backbone.blocks.15.project.conv.weight"][0] == pytest.approx(0.1)
    assert of["encoder.backbone.stem.conv.weight"][0] == pytest.approx(0.1 * 0.5**16)
    optimiser = torch.optim.SGD(groups)
    set_rates(optimiser, 0.5)
    assert {g["lr"] for g in optimiser.param_groups} == {g[PEAK] / 2 for g in groups}


def test_rate_follows_the_batch_where_asked() -> None:
    settings = OptimiserSettings(rate=1e-4, reference_batch=4)
    assert scaled_rate(settings, 16) == 1e-4
    assert scaled_rate(replace(settings, batch_scaling="sqrt"), 16) == pytest.approx(2e-4)
    assert scaled_rate(replace(settings, batch_scaling="linear"), 16) == pytest.approx(4e-4)


# Pretrained backbones


def test_backbone_takes_torchvision_names(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build_backbone("vgg16")
    file = {f"features.{k.split('.', 1)[1]}": v for k, v in source.state_dict().items()}
    torch.save({**file, "classifier.0.weight": torch.zeros(2, 2)}, tmp_path / "vgg.pth")
    target = build_backbone("vgg16")
    assert load_backbone(target, tmp_path / "vgg.pth") == []
    for name, tensor in target.state_dict().items():
        assert torch.equal(tensor, source.state_dict()[name])


def test_backbone_takes_released_names_and_lacks_norms(tmp_path: Path) -> None:
    torch.manual_seed(1)
    source = build_backbone("pvt_v2_b0")
    state = {k: v for k, v in source.state_dict().items() if not k.startswith("norm4")}
    torch.save({"model": {**state, "head.weight": torch.zeros(2, 2)}}, tmp_path / "pvt.pth")
    target = build_backbone("pvt_v2_b0")
    assert load_backbone(target, tmp_path / "pvt.pth") == ["norm4.weight", "norm4.bias"]
    with pytest.raises(WeightsError, match="does not fit the backbone"):
        load_backbone(build_backbone("pvt_v2_b1"), tmp_path / "pvt.pth")
    with pytest.raises(WeightsError, match="there is no file"):
        load_backbone(target, tmp_path / "missing.pth")


# Memory


def test_memory_grows_with_batch_and_picture_and_shrinks_with_checkpointing() -> None:
    cpu = torch.device("cpu")
    network = tiny()
    base = memory.estimate(recipe(schedule__batch_size=2), network, cpu, "no")
    large = memory.estimate(recipe(data__width=128, data__height=128), network, cpu, "no")
    less = memory.estimate(recipe(loop__checkpoint_activations=True), network, cpu, "no")
    assert base.total(4) - base.total(2) == 2 * base.per_picture
    assert large.per_picture == pytest.approx(4 * base.per_picture, rel=0.25)
    assert less.per_picture < 0.6 * base.per_picture
    assert base.fits


def test_a_memory_estimate_keeps_nothing() -> None:
    network, device = tiny(), torch.device("cpu")
    before = sum(isinstance(one, torch.Tensor) for one in gc.get_objects())
    memory.estimate(recipe(), network, device, "no")
    gc.collect()
    after = sum(isinstance(one, torch.Tensor) for one in gc.get_objects())
    assert after <= before


def test_a_batch_that_does_not_fit_is_split() -> None:
    made = memory.Estimate(100, 50, batch_size=8, accumulate=1, available=350)
    assert not made.fits
    assert made.smaller() == (4, 2)
    assert "schedule.batch_size=4 --set schedule.accumulate=2" in made.text()
    assert "checkpoint_activations" in replace(made, available=120).text()
    assert "batch_size=1 --set schedule.accumulate=6" in memory.out_of_memory(
        recipe(schedule__batch_size=3, schedule__accumulate=2), "cuda"
    )
    assert memory.is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))


# Run folder and validation


def test_a_run_is_neither_overwritten_nor_resumed_from_nothing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="there is no run in"):
        RunFolder(tmp_path / "missing").check(resume=True)
    RunFolder(tmp_path).check(resume=False)  # empty
    (tmp_path / "recipe.yaml").write_text("")
    with pytest.raises(RunError, match="continue it with --resume"):
        RunFolder(tmp_path).check(resume=False)


def test_a_line_cut_short_is_forgotten(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    for step in (1, 2, 3):
        run.append_metrics({"step": step, "loss": 0.5})
    with run.metrics.open("a") as file:
        file.write('{"step": 4, "lo')
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    run.forget_metrics_after(2)
    assert [line["step"] for line in run.read_metrics()] == [1, 2]


def test_validation_shares_pictures_and_leaves_undefined_numbers_out() -> None:
    sets = {"a": Discs(3), "b": Discs(2, first=50)}
    numbers = iter([0.5, math.nan, 0.7, 0.1, 0.3])
    made = Validator(sets, lambda matte, truth: {"iou": next(numbers)}, "iou", True, previews=1)

    class Blank(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x[:, :1]

    cpu = torch.device("cpu")
    first, previews = made.run(Blank(), PLAIN, cpu, rank=0, processes=2)
    second, none = made.run(Blank(), PLAIN, cpu, rank=1, processes=2)
    assert (len(first), len(second), len(previews), len(none)) == (3, 2, 1, 0)
    everything = [Scored("a", i, {"iou": v}) for i, v in enumerate((0.5, math.nan, 0.7))]
    everything += [Scored("b", i, {"iou": v}) for i, v in enumerate((0.1, 0.3))]
    scores = made.summary(everything)
    assert scores == {
        "iou": pytest.approx(0.4), "a/iou": pytest.approx(0.6), "b/iou": pytest.approx(0.2)
    }  # fmt: skip
    assert made.is_better(0.5, 0.4)
    assert not made.is_better(math.nan, 0.4)
    assert made.is_better(0.1, math.nan)
