"""The loop: exact resuming, one picture at a time, accumulation, freezing, keeping the best."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")

import birefnet
from birefnet.errors import BiRefNetError, DeviceError
from birefnet.training.data.batch import DeviceBatch
from birefnet.training.loop import Trainer, TrainingError
from birefnet.training.run_folder import RunError, RunFolder
from birefnet.training.validation import Validator
from discs import PLAIN, Discs, recipe, tiny


def metrics(matte: Any, truth: Any) -> dict[str, float]:
    p, t = matte > 127, truth > 127
    error = np.abs(matte.astype(float) - truth.astype(float)).mean() / 255
    return {"iou": float((p & t).sum() / max(1, (p | t).sum())), "mae": float(error)}


def validator(**changes: Any) -> Validator:
    values: dict[str, Any] = {"best_by": "mae", "higher_is_better": False}
    values |= {"metrics": metrics, "sets": {"held out": Discs(3, first=100)}}
    return Validator(**{**values, **changes})


def trainer(folder: Path | None = None, data: Any = None, **changes: Any) -> Trainer:
    run = None
    if folder is not None:
        folder.mkdir(exist_ok=True)
        run = RunFolder(folder)
    watch = validator(previews=1) if folder else None
    return Trainer(
        recipe(**changes), tiny(), data or Discs(sizes=(64, 96)), PLAIN, run=run, validator=watch
    )


def same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[k], other[k]) for k in one)


def test_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path: Path) -> None:
    """With accumulation, averaging, sizes that change, a break inside an epoch, validations."""
    changes = {
        "schedule__accumulate": 2,
        "schedule__batch_size": 1,
        "schedule__steps": 6,
        "validation__every": 2,
        "loop__save_every": 4,
    }
    whole = trainer(tmp_path / "whole", **changes)
    whole.run()
    trainer(tmp_path / "parts", **changes).run(until=3)
    resumed = trainer(tmp_path / "parts", **changes)
    torch.manual_seed(12345)  # the state of the generator must not matter
    resumed.resume()
    assert resumed.step == 3
    resumed.run()
    one, other = whole.state_dict(), resumed.state_dict()
    assert same(one["network"], other["network"])
    assert same(one["average"], other["average"])
    moments = [s["optimiser"]["state"] for s in (one, other)]
    assert all(same(moments[0][i], moments[1][i]) for i in moments[0])
    assert {k: one[k] for k in ("step", "best", "best_step", "baseline")} == {
        k: other[k] for k in ("step", "best", "best_step", "baseline")
    }
    for name in ("last", "best"):
        files = [tmp_path / part / name / "model.safetensors" for part in ("whole", "parts")]
        assert files[0].read_bytes()[-4096:] == files[1].read_bytes()[-4096:]
    timed = ("pictures_per_second", "memory")
    logs = [
        [
            {k: v for k, v in line.items() if k not in timed}
            for line in RunFolder(tmp_path / part).read_metrics()
            if "validation/mae" in line
        ]
        for part in ("whole", "parts")
    ]
    assert logs[0] == logs[1]
    assert [line["step"] for line in logs[0]] == [0, 2, 4, 6]


def test_one_step_with_one_picture() -> None:
    made = trainer(schedule__batch_size=1, schedule__steps=1)
    keys = set(made.learner.bare.state_dict())
    assert made.run().step == 1
    assert set(made.learner.bare.state_dict()) == keys
    assert all(torch.isfinite(p).all() for p in made.learner.bare.parameters())


def gradients(batch_size: int, accumulate: int) -> dict[str, torch.Tensor]:
    """Of the first step: no clipping, no dropout, BatchNorms frozen."""
    made = Trainer(
        recipe(
            schedule__batch_size=batch_size,
            schedule__accumulate=accumulate,
            loop__batch_norm="frozen",
            loop__clip=0,
        ),
        tiny(dropout=0.0),
        Discs(),
        PLAIN,
    )
    numbers = [made.plan.numbers(part, 0) for part in range(accumulate)]
    made.update([(part, made.data.batch((64, 64), n)) for part, n in enumerate(numbers)])
    return {n: p.grad for n, p in made.learner.bare.named_parameters() if p.grad is not None}


def test_accumulated_gradient_is_that_of_the_whole_batch() -> None:
    whole, parts = gradients(4, 1), gradients(1, 4)
    assert whole.keys() == parts.keys()
    for name in whole:
        scale = whole[name].abs().max()
        assert (whole[name] - parts[name]).abs().max() <= 1e-4 * scale + 1e-7, name


def test_frozen_parts_do_not_move() -> None:
    made = trainer(loop__frozen_blocks=2, loop__frozen_encoder_norms=True, schedule__steps=1)
    before = {name: t.clone() for name, t in made.learner.bare.state_dict().items()}
    made.run()
    after = made.learner.bare.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    backbone = "encoder.backbone."
    still = tuple(backbone + part for part in ("stem", "blocks.0.", "blocks.1."))
    assert not any(name.startswith(still) for name in moved)
    assert not any(name.startswith(backbone) and ".norm." in name for name in moved)
    assert any(name.startswith(backbone + "blocks.9.") for name in moved)
    assert any(name.startswith("decoder.") and "running_mean" in name for name in moved)


def test_frozen_encoder_does_not_move_at_all() -> None:
    made = trainer(loop__frozen_encoder=True, schedule__steps=1)
    before = {
        name: t.clone() for name, t in made.learner.bare.encoder.backbone.state_dict().items()
    }
    made.run()
    assert same(before, dict(made.learner.bare.encoder.backbone.state_dict()))


def test_checkpointing_activations_changes_nothing_but_memory() -> None:
    plain, checkpointed = (
        trainer(schedule__steps=2, loop__checkpoint_activations=on) for on in (False, True)
    )
    for made in (plain, checkpointed):
        made.run()
    one, other = plain.learner.bare.state_dict(), checkpointed.learner.bare.state_dict()
    for name in one:
        torch.testing.assert_close(one[name], other[name], rtol=1e-4, atol=1e-6)


def test_bf16_trains_on_a_cpu_and_fp16_is_refused() -> None:
    made = trainer(loop__precision="bf16", schedule__steps=2)
    made.run()
    assert all(torch.isfinite(p).all() for p in made.learner.bare.parameters())
    assert next(made.learner.bare.parameters()).dtype == torch.float32
    with pytest.raises(DeviceError, match="fp16, which CPUs do not train in"):
        trainer(loop__precision="fp16")


def test_best_is_the_start_where_nothing_beats_it(tmp_path: Path) -> None:
    made = trainer(tmp_path / "run", validation__every=1, schedule__steps=2, schedule__ema=0)
    falling = iter(range(100, 0, -1))
    made.validator = validator(
        metrics=lambda matte, truth: {"iou": next(falling) / 100},
        best_by="iou",
        higher_is_better=True,
    )
    start = {name: t.clone(memory_format=torch.contiguous_format)
             for name, t in made.learner.bare.state_dict().items()}  # fmt: skip
    outcome = made.run()
    assert (outcome.best_step, outcome.best) == (0, outcome.baseline)
    kept = birefnet.load_network(tmp_path / "run" / "best").state_dict()
    assert same(start, dict(kept))
    last = birefnet.load_network(tmp_path / "run" / "last").state_dict()
    assert not same(dict(kept), dict(last))


def test_loss_falls_and_best_and_last_are_models(tmp_path: Path) -> None:
    made = trainer(
        tmp_path / "run", data=Discs(), optimiser__rate=2e-3, schedule__steps=12,
        schedule__batch_size=4, schedule__ema=0.5, validation__every=6,
    )  # fmt: skip
    outcome = made.run()
    lines = [line["loss"] for line in made.run_folder.read_metrics() if "loss" in line]
    assert len(lines) == 6
    assert lines[-1] < 0.9 * lines[0]
    assert outcome.best < outcome.baseline
    assert outcome.best_step in (6, 12)
    predictor = birefnet.load(tmp_path / "run" / "best")
    assert (predictor.preprocess.width, predictor.preprocess.mean) == (64, (0.5, 0.5, 0.5))
    matte = predictor.predict(Discs().read(100)[..., :3])
    assert matte.alpha.shape == (64, 64)
    names = {path.name for path in (tmp_path / "run" / "previews").iterdir()}
    assert names == {f"step-{step:07d}.png" for step in (0, 6, 12)}


def test_a_gradient_that_is_not_finite_stops_before_it_is_used(tmp_path: Path) -> None:
    class Broken(Discs):
        def to_device_batch(self, samples: Any, device: torch.device, step: int) -> DeviceBatch:
            image, *rest = super().to_device_batch(samples, device, step)
            return DeviceBatch(image * float("nan") if step == 3 else image, *rest)

    made = trainer(tmp_path / "run", Broken(), loop__save_every=1)
    with pytest.raises(TrainingError, match=r"step 3 is not finite.*optimiser.rate=5e-05"):
        made.run()
    state = made.run_folder.load_state()
    assert state["step"] == 3
    assert all(torch.isfinite(t).all() for t in state["network"].values())


def test_a_picture_that_cannot_be_read_is_said_in_a_sentence() -> None:
    class Unreadable(Discs):
        def batch(self, size: Any, numbers: Any) -> Any:
            raise BiRefNetError("a.png is damaged; remove it")

    with pytest.raises(BiRefNetError, match=r"a\.png is damaged"):
        trainer(data=Unreadable()).run()


def test_resuming_asks_for_the_network_and_parts_of_the_run(tmp_path: Path) -> None:
    trainer(tmp_path / "run", schedule__steps=1).run()
    other = trainer(tmp_path / "run", loop__frozen_encoder=True)
    with pytest.raises(TrainingError, match="does not fit this recipe"):
        other.resume()
    (tmp_path / "run" / "state.pt").write_bytes(b"damaged")
    with pytest.raises(RunError, match="cannot be read"):
        trainer(tmp_path / "run").resume()


def test_adversarial_training_resumes_exactly(tmp_path: Path) -> None:
    changes = {"loss__adversarial": 1.0, "schedule__steps": 4}
    whole = trainer(tmp_path / "whole", **changes)
    whole.run()
    trainer(tmp_path / "parts", **changes).run(until=1)
    resumed = trainer(tmp_path / "parts", **changes)
    resumed.resume()
    resumed.run()
    one, other = whole.state_dict(), resumed.state_dict()
    assert same(one["network"], other["network"])
    assert same(one["adversary"]["discriminator"], other["adversary"]["discriminator"])
