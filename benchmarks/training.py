"""Training: this package's loop beside a plain PyTorch loop on the released layout.

    python benchmarks/training.py nano --size 256 --batch-size 4 --threads 2

"plain" is what one writes first: the released computation with torchvision's deformable convolution
(without torchvision the definition written out), AdamW, forward, backward, step, in fp32 and the
usual memory format. "birefnet" is `Trainer` with its defaults: own deformable convolution,
channels-last, clipping, averaged weights, checks for finite gradients. Both train the same network
from the same weights on the same batches with the same losses, in a fresh process each; the loss of
the first step is compared. On a GPU, `--precision bf16` gives mixed precision to both. Peak memory
is the allocator's on a GPU, the process's on Linux otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from birefnet.imaging.geometry import Preprocess
from birefnet.network import blocks
from birefnet.network.backbones.base import DropPath
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.decoder import Decoder
from birefnet.training.data.batch import DeviceBatch
from birefnet.training.distributed import make_accelerator
from birefnet.training.loop import Trainer
from birefnet.training.loss_settings import LossSettings
from birefnet.training.objective import Objective
from birefnet.training.recipe import LoopSettings, Recipe, ScheduleSettings
from network import official_decoder, official_deformable

LOSS = LossSettings(classification=0.0)


class Noise:
    """Random pictures and truths, made once."""

    epoch_length = 1000

    def __init__(self, size: int, batch_size: int, device: torch.device) -> None:
        generator = torch.Generator().manual_seed(0)
        image = torch.randn(batch_size, 3, size, size, generator=generator)
        truth = (torch.rand(batch_size, 1, size, size, generator=generator) > 0.5).float()
        labels = torch.full((batch_size,), -1)
        self.size = size
        self.made = DeviceBatch(image.to(device), truth.to(device), labels.to(device))

    def size_at(self, step: int) -> tuple[int, int]:
        return self.size, self.size

    def batch(self, size: tuple[int, int], numbers: Sequence[int]) -> None:
        return None

    def to_device_batch(self, samples: Any, device: torch.device, step: int) -> DeviceBatch:
        return self.made


def network_of(name: str) -> BiRefNet:
    """A network with random weights whose offsets move by about a pixel, nothing dropped."""
    torch.manual_seed(0)
    network = build_network(name)
    for module in network.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
        if isinstance(module, DropPath):
            module.rate = 0.0
    for key, parameter in network.named_parameters():
        if ".offset." in key or ".modulator." in key:
            nn.init.normal_(parameter, 0, 0.02)
    return network


def plain_step(options: argparse.Namespace, device: torch.device) -> Callable[[], Tensor]:
    """One step of the plain loop, as a function."""
    network = network_of(options.preset).to(device)
    optimiser = torch.optim.AdamW(network.parameters(), lr=1e-4)
    objective = Objective(LOSS)
    batch = Noise(options.size, options.batch_size, device).made
    is_mixed = options.precision == "bf16"

    def step() -> Tensor:
        optimiser.zero_grad()
        with (
            patch.object(blocks, "deformable_conv2d", official_deformable),
            patch.object(Decoder, "forward", official_decoder),
            torch.autocast(device.type, torch.bfloat16, enabled=is_mixed),
        ):
            output = network(batch.image, supervised=True)
        loss, _ = objective(output, batch.image, batch.mask)
        loss.backward()
        optimiser.step()
        return loss.detach()

    return step


def our_step(options: argparse.Namespace, device: torch.device) -> Callable[[], Tensor]:
    """One step of `Trainer`, as a function."""
    recipe = Recipe(
        network=options.preset,
        loss=LOSS,
        schedule=ScheduleSettings(steps=10_000, batch_size=options.batch_size, ema=0.99),
        loop=LoopSettings(
            precision=options.precision,
            compile=options.compile,
            checkpoint_activations=options.checkpoint,
            frozen_encoder_norms=False,
            trackers=(),
        ),
    )
    accelerator = make_accelerator(recipe.loop, device.type)
    data = Noise(options.size, options.batch_size, device)
    trainer = Trainer(
        recipe, network_of(options.preset), data, Preprocess(), accelerator=accelerator
    )
    return lambda: trainer.update([(trainer.step, None)])["loss"]


def measure(label: str, options: argparse.Namespace) -> None:
    """Run one of the two; print its figures as JSON."""
    torch.set_num_threads(options.threads)
    device = torch.device("cuda" if torch.cuda.is_available() and not options.cpu else "cpu")
    step = {"plain": plain_step, "birefnet": our_step}[label](options, device)
    loss = float(step())
    step()  # kernels are chosen or compiled by now
    seconds = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        step()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
    if device.type == "cuda":
        peak = torch.cuda.max_memory_allocated() / 2**20
    else:  # not getrusage: its maximum is inherited from the process that started this one
        status = Path("/proc/self/status").read_text(encoding="utf-8")
        peak = int(status.split("VmHWM:")[1].split()[0]) / 1024
    print(json.dumps({"seconds": min(seconds), "peak": peak, "loss": loss}))


def main() -> None:
    """Parse the command and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preset", nargs="?", default="nano")
    parser.add_argument("--size", type=int, default=256)
    parser.add_argument("--batch-size", type=int, default=4)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--compile", action="store_true", help="torch.compile for birefnet")
    parser.add_argument("--checkpoint", action="store_true", help="checkpoint activations")
    parser.add_argument("--cpu", action="store_true", help="even where there is a GPU")
    parser.add_argument("--only", choices=("plain", "birefnet"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        measure(options.only, options)
        return
    found = {}
    for label in ("plain", "birefnet"):
        command = [sys.executable, *sys.argv, "--only", label]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            sys.exit(done.stderr)
        found[label] = json.loads(done.stdout.splitlines()[-1])
    plain, ours = found["plain"], found["birefnet"]
    pictures = options.batch_size
    print(f"{options.preset} at {options.size}², batches of {pictures}, {options.precision}")
    for label, one in found.items():
        rate = pictures / one["seconds"]
        print(
            f"{label}: {one['seconds']:.2f} s a step, {rate:.2f} pictures/s, {one['peak']:.0f} MB"
        )
    print(
        f"birefnet is {plain['seconds'] / ours['seconds']:.2f} times as fast with "
        f"{ours['peak'] / plain['peak']:.0%} of the memory; "
        f"loss of the first step {plain['loss']:.4f} and {ours['loss']:.4f}"
    )


if __name__ == "__main__":
    main()
