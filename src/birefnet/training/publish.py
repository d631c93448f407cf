"""From a run's checkpoint to a model directory: the averaged weights in float16, and config.json.

`python -m birefnet.training.publish RUN DIRECTORY`
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch

from birefnet.imaging.geometry import Preprocess
from birefnet.network.backbones.efficientnet_lite import PIXEL_MEAN, PIXEL_STD
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.weights.save import save_directory

LICENCE = "MIT; encoder Apache-2.0; training data and credits in ATTRIBUTION.md"
SOURCE = "trained by this project, see docs/nano.md"


def publish(checkpoint: Path, directory: Path, *, preset_name: str, size: int, name: str) -> int:
    """Write the averaged weights of `checkpoint`; returns the step they are from.

    Args:
        checkpoint: state.pt of a run.
        directory: gets model.safetensors and config.json.
        preset_name: of the network.
        size: the model's default input [px].
        name: of the model.
    """
    state = torch.load(checkpoint, weights_only=True, map_location="cpu")
    network = build_network(preset(preset_name))
    network.load_state_dict(state["average"])
    save_directory(
        directory,
        network,
        Preprocess(size, size, PIXEL_MEAN, PIXEL_STD),
        name=name,
        licence=LICENCE,
        source=SOURCE,
        dtype=torch.float16,
    )
    return int(state["step"])


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, publish, say what was written."""
    parser = argparse.ArgumentParser(prog="python -m birefnet.training.publish")
    parser.add_argument("run", type=Path, help="folder of the run, or its state file")
    parser.add_argument("directory", type=Path, help="where the model goes")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--size", type=int, default=320, help="default input [px]")
    parser.add_argument("--name", default="nano")
    options = parser.parse_args(arguments)
    step = publish(
        options.run if options.run.is_file() else options.run / "state.pt",
        options.directory,
        preset_name=options.preset,
        size=options.size,
        name=options.name,
    )
    print(f"step {step} of {options.run} is in {options.directory}")


if __name__ == "__main__":
    main()
