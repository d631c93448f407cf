"""From runs to a model directory: their averaged weights in float16, config.json and the graph.

`python -m tools.nano.publish RUN [RUN…] DIRECTORY`. Runs that began with the same weights
can be averaged: each core of a busy machine then trains on samples of its own, and none waits.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from birefnet.errors import WeightsError
from birefnet.export.graph_beside import write_graph
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.views import View
from birefnet.network.blocks import ReconstructionBlock
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.weights.locate import read_settings
from birefnet.weights.save import save_directory

LICENCE = "MIT; encoder Apache-2.0; training data and credits in ATTRIBUTION.md"
SOURCE = "trained by this project, see docs/nano.md"
_WIDE = 16.0  # standard deviation of a channel


def publish(
    checkpoints: Sequence[Path],
    directory: Path,
    *,
    preset_name: str,
    name: str,
    size: int | None = None,
    views: Sequence[View] = (),
    sharpness: float = 1.0,
) -> list[int]:
    """Write the mean of the averaged weights of `checkpoints`; returns the steps they are from.

    Args:
        checkpoints: state.pt of runs.
        directory: gets model.safetensors, config.json and model.onnx.
        preset_name: of the network.
        name: of the model.
        size: the model's default input [px], if not that of the runs.
        views: inputs whose logits are averaged by default, the largest first; none: as the runs.
        sharpness: the logits are multiplied by it. A mean of views, and of weights, is softer than
            each of them; the boundary at one half stays where it is.

    Raises:
        WeightsError: the runs prepared their pictures in different ways.
    """
    states = [torch.load(path, weights_only=True, map_location="cpu") for path in checkpoints]
    preprocess = _common_preprocess(states, checkpoints)
    if size is not None:
        preprocess = preprocess.at(size, size)
    network = build_network(preset(preset_name))
    network.load_state_dict(mean([state["average"] for state in states]))
    with torch.no_grad():
        for parameter in network.get_submodule("decoder.head").parameters():
            parameter.mul_(sharpness)
        for module in network.modules():
            if isinstance(module, ReconstructionBlock):
                shrink_channels(module)
    save_directory(
        directory,
        network,
        replace(preprocess, views=tuple(views) or preprocess.views),
        name=name,
        licence=LICENCE,
        source=SOURCE,
        dtype=torch.float16,
        extra={  # `birefnet models info` reads them where there is no PyTorch
            "parameters": sum(parameter.numel() for parameter in network.parameters()),
            "precision": "float16",
        },
    )
    write_graph(directory)
    return [int(state["step"]) for state in states]


def _common_preprocess(
    states: Sequence[Mapping[str, Any]], checkpoints: Sequence[Path]
) -> Preprocess:
    """How all runs prepared their pictures, by their states or the models beside them."""
    known = [
        state.get("preprocess")
        or read_settings(path.parent / "last" / "config.json").get("preprocess")
        for state, path in zip(states, checkpoints, strict=True)
    ]
    if known[0] is None or any(one != known[0] for one in known):
        raise WeightsError(
            "the runs do not say, or differ in, how their pictures were prepared; resume them for "
            "a step so that their state says it, and average only runs that began alike"
        )
    return Preprocess.from_dict(known[0])


def shrink_channels(block: ReconstructionBlock) -> None:
    """Divide the wide channels before a BatchNorm, and its statistics, by powers of two.

    Nothing holds the size of what a BatchNorm normalises, so it grows with training, beyond what
    float16 can write of its variance. The block computes the same, but for the norm's epsilon.
    """
    norm = block.norm_in
    assert norm.running_mean is not None
    assert norm.running_var is not None
    deviation = norm.running_var.sqrt()
    factor = torch.where(deviation > _WIDE, deviation.log2().round().exp2(), 1)
    block.conv_in.weight.div_(factor[:, None, None, None])
    for values in (block.conv_in.bias, norm.running_mean):
        if values is not None:
            values.div_(factor)
    norm.running_var.div_(factor.square())


def mean(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Weights averaged over networks of one shape; counters are those of the first."""
    first = states[0]
    return {
        name: torch.stack([state[name] for state in states]).mean(dim=0)
        if value.is_floating_point()
        else value
        for name, value in first.items()
    }


def view(text: str) -> View:
    """A square view as the command writes it: `576`, or `576m` where it is mirrored."""
    side = int(text.removesuffix("m"))
    return View(side, side, text.endswith("m"))


def main(arguments: Sequence[str] | None = None) -> None:
    """Parse, publish, say what was written."""
    parser = argparse.ArgumentParser(prog="python -m tools.nano.publish")
    parser.add_argument("run", type=Path, nargs="+", help="folder of a run, or its state file")
    parser.add_argument("directory", type=Path, help="where the model goes")
    parser.add_argument("--preset", default="nano")
    parser.add_argument("--size", type=int, help="default input [px], if not that of the runs")
    parser.add_argument("--name", default="nano")
    parser.add_argument(
        "--looks",
        type=view,
        nargs="*",
        default=[],
        metavar="SIDE[m]",
        help="inputs whose logits are averaged by default, the largest first; m: mirrored",
    )
    parser.add_argument("--sharpness", type=float, default=1.0, help="factor of the logits")
    options = parser.parse_args(arguments)
    checkpoints = [run if run.is_file() else run / "state.pt" for run in options.run]
    steps = publish(
        checkpoints,
        options.directory,
        preset_name=options.preset,
        size=options.size,
        name=options.name,
        views=options.looks,
        sharpness=options.sharpness,
    )
    for run, step in zip(options.run, steps, strict=True):
        print(f"step {step} of {run} is in {options.directory}")


if __name__ == "__main__":
    main()
