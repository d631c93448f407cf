"""The paper's Table 7 on this machine: parameters, multiplications and time of each backbone.

    python benchmarks/efficiency.py [--out docs/data/efficiency.json]

Random weights, one picture of 1024 x 1024, float32 on the CPU, in the form that `birefnet.load`
runs; the best of two or more rounds after a smaller picture has warmed things up. Smaller networks
get more rounds. `docs/tables.py` makes the table of docs/paper.md from the file.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from counts import OTHERS, PAPER, products_of_kernels

from birefnet.api import load_network
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.network.build import build_network
from birefnet.network.config import PRESETS, preset
from birefnet.network.macs import count_macs, count_parameters
from birefnet.network.simplify import simplify

SIDE = 1024
ABLATIONS = ("ablation_", "variant_")  # of the paper's encoder, counted and not timed
SECONDS = 3.0  # spent on rounds of one network, at least two rounds


def counted(name: str, side: int) -> dict[str, Any]:
    """Parameters and multiplications, with and without the kernels of deformable convolutions."""
    with torch.device("meta"):
        network = build_network(name)
    kernels, products = products_of_kernels(name, side)
    parameters, macs = count_parameters(network), count_macs(network, (side, side))
    return {
        "parameters": parameters,
        "parameters_without_kernels": parameters - kernels,
        "macs": macs,
        "macs_without_kernels": macs - products,
    }


def timed(name: str, side: int) -> dict[str, Any]:
    """Seconds for one picture, the best round, and how many there were."""
    torch.manual_seed(0)
    network = load_network(preset(name))
    engine = TorchEngine(simplify(network, inplace=True), "cpu", "fp32")
    rng = np.random.default_rng(0)
    engine.infer(rng.standard_normal((1, 3, 256, 256), dtype=np.float32))
    picture = rng.standard_normal((1, 3, side, side), dtype=np.float32)
    rounds: list[float] = []
    while len(rounds) < 2 or sum(rounds) < SECONDS:
        start = time.perf_counter()
        engine.infer(picture)
        rounds.append(time.perf_counter() - start)
    del network, engine
    gc.collect()
    return {"seconds": min(rounds), "rounds": len(rounds)}


def processor() -> str:
    """Its name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def main() -> None:
    """Print the rows as they are measured, and write them all."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, metavar="FILE", help="write it; default: print it")
    parser.add_argument("--side", type=int, default=SIDE, help="of the picture [px]")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="networks; all by default")
    arguments = parser.parse_args()
    out, side = arguments.out, arguments.side
    rows = {}
    names = tuple(arguments.only or (*PAPER, *OTHERS))
    for name in names:
        rows[name] = timed(name, side)
        print(f"{name:<10} {rows[name]['seconds']:7.2f} s", flush=True)
    for name in names:
        rows[name] |= counted(name, side)
    ablations = {
        name: counted(name, side)
        for name in PRESETS
        if name.startswith(ABLATIONS) and not arguments.only
    }
    result = {
        "size": side,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "processor": processor(),
        "torch": torch.__version__,
        "networks": rows,
        "ablations": ablations,
    }
    text = json.dumps(result, indent=1) + "\n"
    if out is None:
        print(text, end="")
    else:
        out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
