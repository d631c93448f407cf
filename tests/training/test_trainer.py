"""The loop: one step at batch size 1, exact resuming, freezing, schedule, learning at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.utils.data import Dataset

from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.training.loop import Phase, Schedule, Trainer
from birefnet.training.nano import LOSS
from birefnet.training.objective import Objective
from birefnet.training.publish import publish
from birefnet.weights import load_checkpoint


class Discs(Dataset[tuple[Tensor, Tensor]]):
    """Bright discs on noise."""

    def __init__(self, size: int, seed: int) -> None:
        self.size, self.seed = size, seed

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, index))
        y, x = np.mgrid[: self.size, : self.size] / self.size
        centre, radius = rng.uniform(0.3, 0.7, 2), rng.uniform(0.15, 0.3)
        truth = np.hypot(y - centre[0], x - centre[1]) < radius
        picture = rng.integers(0, 90, (3, self.size, self.size)) + 150 * truth
        return torch.from_numpy(picture.astype(np.uint8)), torch.from_numpy(
            truth[None] * np.uint8(255)
        )


def make_trainer(schedule: Schedule) -> Trainer:
    torch.manual_seed(0)
    network = build_network(preset("tiny"))
    mean = (0.5, 0.5, 0.5)
    return Trainer(network, schedule, Objective(LOSS), Discs, mean, mean, workers=0)


def schedule(**changes) -> Schedule:
    values = {"phases": (Phase(2, 64), Phase(1, 96)), "batch_size": 2, "warmup": 2}
    return Schedule(**{**values, **changes})


def test_one_step_at_batch_size_one() -> None:
    trainer = make_trainer(schedule(batch_size=1))
    keys = set(trainer.network.state_dict())
    trainer.run(until=1)
    assert trainer.step == 1
    assert set(trainer.network.state_dict()) == keys
    assert all(torch.isfinite(p).all() for p in trainer.network.parameters())


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    whole = make_trainer(schedule())
    whole.run()
    first = make_trainer(schedule())
    first.run(until=1)
    first.save(tmp_path / "last.pt")
    second = make_trainer(schedule())
    second.resume(tmp_path / "last.pt")
    second.run()
    assert whole.step == second.step == 3
    for which in ("network", "average"):
        expected, got = (getattr(t, which).state_dict() for t in (whole, second))
        assert all(torch.equal(expected[name], got[name]) for name in expected)


def test_resuming_a_missing_run_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no checkpoint at"):
        make_trainer(schedule()).resume(tmp_path / "last.pt")


def test_frozen_parts_do_not_move() -> None:
    trainer = make_trainer(schedule(frozen_blocks=2))
    before = {name: t.clone() for name, t in trainer.network.state_dict().items()}
    trainer.run(until=1)
    after = trainer.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    backbone = "encoder.backbone."
    assert not any(name.startswith((backbone + "stem", backbone + "blocks.0.")) for name in moved)
    assert not any(name.startswith(backbone) and "running" in name for name in moved)
    assert any(name.startswith(backbone + "blocks.9.") for name in moved)
    assert any(name.startswith("decoder.") for name in moved)


def test_schedule_warms_up_and_falls() -> None:
    plan = schedule(phases=(Phase(100, 64),), warmup=10, last_factor=0.1)
    factors = [plan.factor(step) for step in range(100)]
    assert factors[0] == pytest.approx(0.1)
    assert max(factors) == pytest.approx(1.0)
    assert factors[-1] == pytest.approx(0.1, abs=0.01)
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_loss_falls_and_the_published_model_is_the_average(tmp_path: Path) -> None:
    trainer = make_trainer(schedule(phases=(Phase(12, 64),), batch_size=4, frozen_blocks=9))
    seen: list[dict[str, float]] = []
    trainer.run(every=4, report=lambda _, values: seen.append(values))
    assert len(seen) == 3
    assert seen[-1]["loss"] < 0.9 * seen[0]["loss"]
    trainer.save(tmp_path / "last.pt")
    step = publish(tmp_path / "last.pt", tmp_path / "m", preset_name="tiny", size=64, name="discs")
    assert step == 12
    loaded = load_checkpoint(tmp_path / "m")
    assert (loaded.name, loaded.preprocess.width) == ("discs", 64)
    image = torch.randn(1, 3, 64, 64)
    with torch.inference_mode():
        expected, got = trainer.average(image), loaded.network(image)
    assert float((expected - got).abs().max()) < 0.02 * float(expected.abs().max())
