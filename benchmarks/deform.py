"""Time of deformable convolution, as a multiple of an ordinary convolution of the same shape.

    PYTHONPATH=src python benchmarks/deform.py [--threads 2] [--rounds 7] [--clock wall|cpu]

Candidates take turns and each keeps its best round, so that other work on the machine disturbs
them alike; on a busy machine measure one thread's processor time (--threads 1 --clock cpu), which
waiting does not lengthen. torchvision takes part where it is installed. Offsets are drawn with a
standard deviation of two pixels. Prints a Markdown table.
"""

from __future__ import annotations

import argparse
import functools
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from unittest import mock

import torch
import torch.nn.functional as F
from torch import Tensor

from birefnet.network.deform import choice, deformable_conv2d, deformable_conv2d_reference

try:
    from torchvision.ops import deform_conv2d as torchvision_deform_conv2d
except ImportError:
    torchvision_deform_conv2d = None


@dataclass(frozen=True)
class Case:
    """One shape; `training` adds the backward pass."""

    size: int
    channels: int
    out_channels: int
    side: int
    batch: int = 1
    training: bool = False

    def __str__(self) -> str:
        work = "forward + backward" if self.training else "forward"
        return (
            f"{self.size}×{self.size}, {self.channels}→{self.out_channels}, "
            f"{self.side}², batch {self.batch} | {work}"
        )


CASES = [
    *(Case(size, 64, 256, side) for side in (128, 64) for size in (7, 3, 1)),
    *(Case(size, 64, 256, 64, training=True) for size in (7, 3, 1)),
    *(Case(size, 32, 32, 64, 16) for size in (7, 3, 1)),
    *(Case(size, 32, 32, 64, 16, training=True) for size in (7, 3, 1)),
]
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
QUICK = [Case(3, 64, 256, 32), Case(3, 32, 32, 16, 4, training=True)]


def arguments(case: Case) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Input, offset, mask and weight of one case."""
    generator = torch.Generator().manual_seed(0)
    randn = functools.partial(torch.randn, generator=generator)
    taps = case.size**2
    grid = (case.side, case.side)
    tensors = (
        randn(case.batch, case.channels, *grid),
        2 * randn(case.batch, 2 * taps, *grid),
        2 * torch.sigmoid(randn(case.batch, taps, *grid)),
        randn(case.out_channels, case.channels, case.size, case.size) / case.size,
    )
    return tuple(tensor.requires_grad_(case.training) for tensor in tensors)  # type: ignore[return-value]


def candidates(case: Case) -> dict[str, Callable[[], Tensor]]:
    """Name of a column to the forward pass that it times; "ordinary" is the unit."""
    x, offset, mask, weight = arguments(case)
    padding = case.size // 2
    found: dict[str, Callable[[], Tensor]] = {
        "ordinary": lambda: F.conv2d(x, weight, padding=padding),
        "birefnet": lambda: deformable_conv2d(x, offset, mask, weight),
        "reference": lambda: deformable_conv2d_reference(x, offset, mask, weight),
    }
    if case.training:

        def without_numba() -> Tensor:
            return deformable_conv2d(x, offset, mask, weight)

        found["birefnet without numba"] = without_numba
    if torchvision_deform_conv2d is not None:
        found["torchvision"] = lambda: torchvision_deform_conv2d(
            x, offset, weight, mask=mask, padding=padding
        )
    return found


def run(name: str, forward: Callable[[], Tensor], case: Case, clock: Callable[[], float]) -> float:
    """Seconds of one round."""
    with ExitStack() as stack:
        if name.endswith("without numba"):
            without = mock.patch.object(choice, "numba_kernels", return_value=None)
            stack.enter_context(without)
        start = clock()
        if not case.training:
            with torch.inference_mode():
                forward()
        else:
            forward().sum().backward()
        return clock() - start


def measure(case: Case, rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Best seconds of each candidate. The slow reference runs once, after a warm-up of the rest."""
    found = candidates(case)
    best: dict[str, float] = {}
    for turn in range(rounds + 1):
        for name, forward in found.items():
            if name == "reference" and turn != 1:
                continue
            seconds = run(name, forward, case, clock)
            if turn > 0:
                best[name] = min(best.get(name, seconds), seconds)
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description="Time of deformable convolution.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=7, help="each candidate keeps its best")
    parser.add_argument("--clock", choices=CLOCKS, default="wall")
    parser.add_argument("--only", default="", help="cases whose name has this, such as '3×3, 32'")
    parser.add_argument("--quick", action="store_true", help="two small cases, to try the script")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    columns = ["birefnet", "birefnet without numba", "torchvision", "reference"]
    print(f"torch {torch.__version__}, {options.threads} threads, {options.clock} clock\n")
    heads = " | ".join(f"{name}, ×" for name in columns)
    print(f"| shape | work | ordinary, ms | {heads} |")
    print("|---|---|" + "--:|" * (len(columns) + 1))
    for case in QUICK if options.quick else CASES:
        if options.only not in str(case):
            continue
        best = measure(case, options.rounds, CLOCKS[options.clock])
        unit = best["ordinary"]
        ratios = [f"{best[name] / unit:.1f}" if name in best else "–" for name in columns]
        print(f"| {case} | {1000 * unit:.1f} | " + " | ".join(ratios) + " |", flush=True)


if __name__ == "__main__":
    main()
