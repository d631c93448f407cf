"""Every way of running a network on this CPU, beside the released layout in eager mode, in turns.

    python benchmarks/engines.py swin_v1_t --official-python OTHER_ENVIRONMENT/bin/python

"official" is the released computation layer by layer with torchvision's deformable convolution (see
`network.py`); it runs in the interpreter of --official-python, which needs torch and torchvision
(this package is found by its path). All have the same random weights and the same picture. Each
runs in a process of its own that waits for its turn; best of the rounds is kept. int8 is a file of
`birefnet export --precision int8`, given by --int8, beside float32 and beside bfloat16; or it is
calibrated on drawn pictures: its time is right, its quality says nothing.

Prints seconds, the ratio to official, the time until the first result (import of the engine,
conversion and compilation included) and the peak memory of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
KINDS = (
    "official",
    "torch fp32",
    "openvino fp32",
    "openvino bf16",
    "openvino int8",
    "openvino int8 bf16",
)


def prepare(kind: str, name: str, int8: str | None) -> Callable[[Any], Any]:
    """The network of one kind, ready to run on float32 [1, 3, S, S]."""
    import torch

    from network import network_of, run_official

    if "int8" in kind:
        from birefnet.inference.engines.openvino_engine import OpenVinoEngine

        beside = "bf16" if kind.endswith("bf16") else "fp32"
        return OpenVinoEngine(int8, dtype=beside).infer  # type: ignore[arg-type]
    network = network_of(name)
    if kind == "official":
        return lambda batch: run_official(network, torch.from_numpy(batch)).numpy()
    from birefnet.network.simplify import simplify

    network = simplify(network, inplace=True)
    if kind.startswith("torch"):
        from birefnet.inference.engines.torch_engine import TorchEngine

        return TorchEngine(network, "cpu", kind.split()[1]).infer
    from birefnet.inference.engines.base import Metadata
    from birefnet.inference.engines.openvino_convert import convert
    from birefnet.inference.engines.openvino_engine import OpenVinoEngine

    about = Metadata(name)
    return OpenVinoEngine(convert(network), dtype=kind.split()[1], metadata=about).infer


def serve(kind: str, name: str, size: int, int8: str | None) -> None:
    """Answer each line on standard input with the seconds of one forward pass."""
    start = time.perf_counter()
    import numpy as np

    run = prepare(kind, name, int8)
    batch = np.random.default_rng(0).standard_normal((1, 3, size, size)).astype(np.float32)
    run(batch)
    print(json.dumps(time.perf_counter() - start), flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        run(batch)
        seconds = time.perf_counter() - start
        peak = (
            int(Path("/proc/self/status").read_text(encoding="utf-8").split("VmHWM:")[1].split()[0])
            / 1024
        )
        print(json.dumps([seconds, peak]), flush=True)


def calibrate(name: str, size: int, path: Path) -> None:
    """An int8 file whose ranges come from drawn pictures."""
    from birefnet.export.openvino import export_openvino
    from birefnet.export.parity import synthetic_batch
    from birefnet.export.request import Request
    from birefnet.imaging.geometry import Preprocess
    from birefnet.network.simplify import simplify
    from network import network_of

    preprocess = Preprocess(size, size)
    side = min(size, 512)
    drawn = synthetic_batch(2, side, side, preprocess.mean, preprocess.std)
    request = Request(
        simplify(network_of(name), inplace=True),
        preprocess,
        "int8",
        size=(side, side),
        dynamic=True,
        calibration=[drawn[:1], drawn[1:]],
    )
    export_openvino(request, path)


def main() -> None:
    """Parse the command and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preset", nargs="?", default="swin_v1_t")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--official-python", default=sys.executable)
    parser.add_argument("--int8", help="an .xml file; made if it is not there yet, and kept")
    parser.add_argument("--kinds", default=",".join(KINDS), help="which rows, with commas")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.preset, options.size, options.int8)
        return
    with tempfile.TemporaryDirectory() as folder:
        compare(options, Path(folder))


def compare(options: argparse.Namespace, folder: Path) -> None:
    """Measure each kind in turns; what has to be made for that goes to the folder."""
    kinds = options.kinds.split(",")
    if any("int8" in kind for kind in kinds):
        path = Path(options.int8 or folder / f"{options.preset}-int8.xml")
        if not path.exists():
            calibrate(options.preset, options.size, path)
        options.int8 = str(path)
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(options.threads),
        "PYTHONPATH": f"{HERE.parent / 'src'}{os.pathsep}{HERE}",
    }
    workers, first = {}, {}
    for kind in kinds:
        python = options.official_python if kind == "official" else sys.executable
        command = [python, __file__, options.preset, "--serve", kind, "--size", str(options.size)]
        workers[kind] = subprocess.Popen(
            [*command, *(["--int8", options.int8] if options.int8 else [])],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        first[kind] = json.loads(workers[kind].stdout.readline())  # type: ignore[union-attr]
    best, peak = dict.fromkeys(kinds, float("inf")), {}
    for _ in range(options.rounds):
        for kind, worker in workers.items():
            worker.stdin.write("go\n")  # type: ignore[union-attr]
            worker.stdin.flush()  # type: ignore[union-attr]
            seconds, peak[kind] = json.loads(worker.stdout.readline())  # type: ignore[union-attr]
            best[kind] = min(best[kind], seconds)
    for worker in workers.values():
        worker.stdin.close()  # type: ignore[union-attr]
        worker.wait()
    unit = best.get("official")
    print(f"{options.preset} at {options.size}², {options.threads} threads\n")
    print("| | s | times as fast as official | first result, s | peak MB |")
    print("|---|--:|--:|--:|--:|")
    for kind in kinds:
        ratio = f"{unit / best[kind]:.1f}" if unit else "–"
        print(f"| {kind} | {best[kind]:.2f} | {ratio} | {first[kind]:.1f} | {peak[kind]:.0f} |")


if __name__ == "__main__":
    main()
