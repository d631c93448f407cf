"""A network learns eight pictures by heart: the loop, the losses and the data fit together."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("accelerate")

from birefnet.training.loop import Outcome, Trainer
from birefnet.training.run_folder import RunFolder
from birefnet.training.validation import Validator
from discs import PLAIN, Discs, recipe, tiny


def overfit(folder: Path, steps: int, **changes: object) -> Outcome:
    """Train `tiny` from random weights on eight discs at 64 x 64, and validate on the same."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Discs(8)

    def iou(matte: np.ndarray, truth: np.ndarray) -> dict[str, float]:
        p, t = matte > 127, truth > 127
        return {"iou": float((p & t).sum() / max(1, (p | t).sum()))}

    what = recipe(
        schedule__steps=steps, schedule__batch_size=4, schedule__warmup=10,
        schedule__ema=0.95, optimiser__rate=4e-3, optimiser__encoder_factor=0.5,
        loop__save_every=1000, validation__every=max(1, steps // 2),
        network_overrides__dropout=0.0, loop__clip=5, **changes,
    )  # fmt: skip
    validator = Validator({"eight": data}, iou, "iou", True)
    folder.mkdir()
    trainer = Trainer(
        what, tiny(dropout=0.0), data, PLAIN, run=RunFolder(folder), validator=validator
    )
    return trainer.run()


def test_thirty_steps_find_most_of_eight_pictures(tmp_path: Path) -> None:
    outcome = overfit(tmp_path / "run", 30)
    assert outcome.best is not None
    assert outcome.best > 0.8


@pytest.mark.slow
def test_eight_pictures_are_learnt_by_heart(tmp_path: Path) -> None:
    outcome = overfit(tmp_path / "run", 200)
    assert outcome.best is not None
    assert outcome.best >= 0.97
