"""Train nano for a fixed time, on a GPU that is lent for minutes.

    python -m tools.nano.timed SPLIT OUT --seconds 300

A first few steps tell the speed; the schedule is laid out for the steps that the time allows. OUT
gets the averaged weights and the last ones, nano_average.pt and nano_network.pt, and log.jsonl.
"""

from __future__ import annotations

import argparse
import json
import time
from collections import defaultdict
from pathlib import Path
from typing import TextIO

import torch

from birefnet.training.assemble import set_up_training
from birefnet.training.batches import batches
from birefnet.training.distributed import make_accelerator
from birefnet.training.loop import Trainer
from tools.nano.data import Phase, PhasedData, settings_for
from tools.nano.train import RECIPE

BEGAN = time.monotonic()
ENDING = 12.0  # seconds that starting the helper processes and writing take


def main() -> None:
    """Measure, train, write."""
    options = parse()
    options.out.mkdir(parents=True, exist_ok=True)
    with (options.out / "log.jsonl").open("w", encoding="utf-8") as log:
        speed = train(make(options, options.probe, 0), options, log)
        left = options.seconds - (time.monotonic() - BEGAN) - ENDING
        steps = max(10, int(0.97 * left * speed))
        print(f"{speed:.2f} steps/s of {options.batch} pictures; {steps} steps", flush=True)
        trainer = make(options, steps, 1)
        train(trainer, options, log)
    save(trainer, options.out)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("split", type=Path, help="a folder that tools.nano.split wrote, or packs")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--init", default="nano", help="weights to begin with")
    parser.add_argument("--sizes", type=int, nargs="+", default=[320, 512, 384, 640, 512])
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--rates", type=float, nargs=2, default=[1.6e-3, 2.4e-4])
    parser.add_argument("--frozen-blocks", type=int, default=3)
    parser.add_argument("--precision", default="bf16")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--probe", type=int, default=60, help="steps that tell the speed")
    parser.add_argument("--seed", type=int, default=41)
    return parser.parse_args()


def make(options: argparse.Namespace, steps: int, run: int) -> Trainer:
    """A trainer for so many steps, whose sizes follow one another."""
    decoder, encoder = options.rates
    recipe = RECIPE.override(
        {
            "network": "nano",
            "init": options.init,
            "encoder_weights": None,
            "data.width": 320,
            "data.height": 320,
            "data.cache": "8G",
            "optimiser.rate": decoder,
            "optimiser.encoder_factor": encoder / decoder,
            "schedule.steps": steps,
            "schedule.batch_size": options.batch,
            "schedule.warmup": min(60, steps // 4),
            "schedule.ema": 0.998,
            "loop.seed": options.seed + run,
            "loop.frozen_blocks": options.frozen_blocks,
            "loop.workers": options.workers,
            "loop.precision": options.precision,
        }
    )
    setup = set_up_training(recipe, name="nano")
    sizes = (options.sizes[step % len(options.sizes)] for step in range(steps))
    phases = tuple(Phase(1, size) for size in sizes)
    settings = settings_for(options.split / "train", setup.recipe.data)
    data = PhasedData(settings, options.seed + run, setup.preprocess, phases)
    accelerator = make_accelerator(setup.recipe.loop, options.device)
    return Trainer(
        setup.recipe,
        setup.network,
        data,
        setup.preprocess,
        accelerator=accelerator,
        model_info=setup.model_info,
    )


def train(trainer: Trainer, options: argparse.Namespace, log: TextIO) -> float:
    """All steps, or those that the time allows; steps a second after the first third."""
    steps = trainer.plan.steps
    stream = batches(
        trainer.data,
        trainer.plan,
        rank=0,
        first=0,
        last=steps,
        workers=options.workers,
        pinned=trainer.device.type == "cuda",
    )
    sums: dict[str, float] = defaultdict(float)
    since = time.monotonic()
    for parts in stream:
        if trainer.step == steps // 3:
            finish(trainer)
            since = time.monotonic()
        for name, value in trainer.update(parts).items():
            sums[name] += value.detach()  # type: ignore[assignment]  # read at the end alone
        if trainer.step % 100 == 0 or trainer.step == steps:
            row = {name: round(float(value), 3) for name, value in sums.items()}
            log.write(json.dumps({"step": trainer.step, **row}) + "\n")
            log.flush()
            sums.clear()
        if time.monotonic() - BEGAN > options.seconds:
            print(f"time is up at step {trainer.step} of {steps}", flush=True)
            break
    finish(trainer)
    return (trainer.step - steps // 3) / (time.monotonic() - since)


def finish(trainer: Trainer) -> None:
    """Wait for what the GPU has been told to do."""
    if trainer.device.type == "cuda":
        torch.cuda.synchronize()


def save(trainer: Trainer, out: Path) -> None:
    """Weights in half precision, statistics in float32: files that can be carried back."""
    state = trainer.state_dict()
    for name in ("average", "network"):
        small = {
            key: value.half() if value.is_floating_point() and "running" not in key else value
            for key, value in state[name].items()
        }
        torch.save({key: value.cpu() for key, value in small.items()}, out / f"nano_{name}.pt")


if __name__ == "__main__":
    main()
