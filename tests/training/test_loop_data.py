"""A resumed run equals an uninterrupted one with the data that users train on, too.

`test_loop` holds the same of accumulation, averaging and validation, `test_loop_processes` of
several processes and of kills; their data are discs that a function draws.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch

pytest.importorskip("accelerate")

from birefnet.training.data.dataset import build_dataset
from birefnet.training.data.settings import AugmentSettings, CompositeSettings, DataSettings
from birefnet.training.loop import Trainer
from birefnet.training.run_folder import RunFolder
from data_sets import make_backgrounds, make_cutouts, make_pairs
from discs import PLAIN, recipe, tiny
from tools.nano.train import Phase, PhasedData

STEPS, BREAK = 3, 2


def drawn_from_folders(folder: Path) -> Any:
    """Pairs and cut-outs with every change of a sample, at sizes that vary."""
    often = dict.fromkeys(("crop", "rotate", "colour", "blur", "noise", "jpeg"), 0.5)
    settings = DataSettings(
        sources=(str(make_pairs(folder / "pairs", 4)), str(make_cutouts(folder / "cutouts", 3))),
        backgrounds=(str(make_backgrounds(folder / "scenes", 2)),),
        width=64,
        height=64,
        dynamic_width=(64, 96),
        augment=AugmentSettings(**often),
        composite=CompositeSettings(photos=0.3, empty=0.1, distractors=0.5),
        cache="1M",
    )
    return build_dataset(settings, seed=3, preprocess=PLAIN)


def drawn_in_phases(folder: Path) -> Any:
    """Photos, cut-outs and thin structures, larger after the first step."""
    settings = DataSettings(
        sources=(str(make_pairs(folder / "pairs", 4)), "thin:20=50%"),
        backgrounds=(f"subjects-removed:{folder / 'pairs'}",),
        width=96,
        height=96,
        composite=CompositeSettings(distractors=0.5, distractor_count=3, signs=0.3, cut_off=0.3),
    )
    return PhasedData(settings, 3, PLAIN, (Phase(1, 64), Phase(STEPS, 96)))


@pytest.mark.parametrize(("make", "workers"), [(drawn_from_folders, 1), (drawn_in_phases, 0)])
def test_resumed_run_equals_an_uninterrupted_one(
    make: Callable[[Path], Any], workers: int, tmp_path: Path
) -> None:
    data = make(tmp_path / "data")

    def trainer(name: str, workers: int) -> Trainer:
        (tmp_path / name).mkdir(exist_ok=True)
        plan = recipe(schedule__steps=STEPS, loop__workers=workers)
        return Trainer(plan, tiny(), data, PLAIN, run=RunFolder(tmp_path / name))

    threads = cv2.getNumThreads()
    whole = trainer("whole", 0)
    whole.run()
    trainer("parts", workers).run(until=BREAK)
    resumed = trainer("parts", workers)
    torch.manual_seed(12345)  # the state of the generator must not matter
    resumed.resume()
    assert resumed.step == BREAK
    resumed.run()
    cv2.setNumThreads(threads)
    one, other = whole.state_dict(), resumed.state_dict()
    for part in ("network", "average"):
        assert all(torch.equal(one[part][name], other[part][name]) for name in one[part]), part
    moments = [state["optimiser"]["state"] for state in (one, other)]
    for parameter in moments[0]:
        for name, value in moments[0][parameter].items():
            assert torch.equal(value, moments[1][parameter][name]), (parameter, name)
