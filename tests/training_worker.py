"""Training runs in a process of its own: `training_worker.py MODE FOLDER [SETTING=VALUE …]`, and
more of the same after each `+`.

MODE `gradients` writes the gradients of the first step, `run` trains to the end, a number to that
step; SIGINT and SIGTERM send themselves that signal in step 2. SIGKILL does so in step 40, on a
clock on which each step takes half a second and each save a twentieth of one.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from itertools import groupby
from pathlib import Path
from typing import Any

import torch

from birefnet.training import loop, pace
from birefnet.training.distributed import make_accelerator
from birefnet.training.loop import Trainer
from birefnet.training.run_folder import RunFolder
from birefnet.training.validation import Validator
from discs import PLAIN, Discs, recipe, tiny


class Clock:
    """Stands for `time`: steps and saves take the same on a busy machine as on an idle one."""

    now = 1000.0

    def monotonic(self) -> float:
        self.now += 0.05
        return self.now

    perf_counter = monotonic


class Slow(Discs):
    """Discs that take their time, so that a run can be killed anywhere in it."""

    sends: signal.Signals | None = None
    sends_at = 2
    clock: Clock | None = None

    def to_device_batch(self, samples: Any, device: torch.device, step: int) -> Any:
        time.sleep(0.02)
        if self.clock:
            self.clock.now += 0.5
        if self.sends and step == self.sends_at:
            os.kill(os.getpid(), self.sends)
        return super().to_device_batch(samples, device, step)


def brightness(matte: Any, truth: Any) -> dict[str, float]:
    return {"mae": float(abs(matte.astype(float) - truth).mean() / 255)}


def make_trainer(folder: Path, settings: list[str]) -> Trainer:
    """One whose result depends on nothing but the settings."""
    what = recipe(loop__save_every=2, validation__every=3).override(settings)
    folder.mkdir(parents=True, exist_ok=True)
    accelerator = make_accelerator(what.loop, "cpu", folder=str(folder))
    sets = {"held out": Discs(2, first=100)}
    validator = Validator(sets, brightness, "mae", higher_is_better=False)
    return Trainer(
        what,
        tiny(dropout=0.0),
        Slow(),
        PLAIN,
        run=RunFolder(folder),
        validator=validator,
        accelerator=accelerator,
    )


def main(mode: str, folder: Path, settings: list[str]) -> None:
    torch.set_num_threads(1)
    if mode == "SIGKILL":
        Slow.clock = loop.time = pace.time = Clock()  # type: ignore[attr-defined]
        Slow.sends, Slow.sends_at = signal.SIGKILL, 40
    trainer = make_trainer(folder, settings)
    if mode == "gradients":
        rank = trainer.accelerator.process_index
        accumulate = trainer.plan.settings.accumulate
        parts = [
            (part, trainer.data.batch((64, 64), trainer.plan.numbers(part, rank)))
            for part in range(accumulate)
        ]
        trainer.update(parts)
        gradients = {
            name: parameter.grad
            for name, parameter in trainer.learner.bare.named_parameters()
            if parameter.grad is not None
        }
        torch.save(gradients, folder / f"gradients-{rank}.pt")
        return
    run = trainer.run_folder
    assert run is not None
    run.remove_leftovers()
    if run.state.exists():
        trainer.resume()
    print("ready", flush=True)
    if mode in ("SIGINT", "SIGTERM"):
        number = trainer.data.sends = signal.Signals[mode]
        before = signal.getsignal(number)
        outcome = trainer.run()
        assert (outcome.signal, outcome.step) == (number, 3)
        assert signal.getsignal(number) is before
        return
    trainer.run(until=int(mode) if mode.isdigit() else None)


if __name__ == "__main__":
    for is_end, words in groupby(sys.argv[1:], lambda word: word == "+"):
        if not is_end:
            mode, folder, *settings = words
            main(mode, Path(folder), settings)
