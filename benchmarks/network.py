"""Whole networks: time and memory, simplified, beside the released layout in eager mode.

    python benchmarks/network.py swin_v1_t --size 1024 --threads 2

"official" is the released computation layer by layer (BatchNorm, separate offset and modulation
convolutions, full-size head), with torchvision's deformable convolution if it can be imported,
otherwise with the plain definition in PyTorch. "birefnet" is what `birefnet.load` runs. Both have
the same random weights; the largest difference of their outputs is printed. Each is timed in turns
in this process; peak memory is that of a fresh process each
(Linux only), weights and libraries included.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from unittest.mock import patch

import torch
from torch import Tensor, nn

from birefnet.network import blocks
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.network.cpu_optimised import cpu_optimised
from birefnet.network.decoder import Decoder, DecoderOutput, run_stages
from birefnet.network.deform import deformable_conv2d_reference
from birefnet.network.simplify import simplify


def official_deformable(
    x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor, bias: Tensor | None = None
) -> Tensor:
    """What the released code calls; without torchvision the definition written out."""
    vision = torchvision()
    if vision is None:
        return deformable_conv2d_reference(x, offset, mask, weight, bias)
    padding = weight.shape[-1] // 2
    return vision.ops.deform_conv2d(x, offset, weight, bias, padding=padding, mask=mask)


@functools.cache
def torchvision() -> ModuleType | None:
    """The package; `None` where it is missing or does not fit this torch."""
    try:
        module = importlib.import_module("torchvision")
        importlib.import_module("torchvision.ops")
    except (ImportError, RuntimeError):
        return None
    return module


def official_decoder(
    self: Decoder,
    squeezed: Tensor,
    maps: Sequence[Tensor],
    image: Tensor,
    *,
    supervised: bool = False,
) -> DecoderOutput:
    """`Decoder.forward` with the released head: all channels are enlarged, then projected."""
    features, coarse, gradients = run_stages(self.stages, squeezed, maps, image, supervised)
    features = blocks.resize_like(features, image)
    if self.head_reference is not None:
        features = torch.cat([features, self.head_reference(image)], dim=1)
    return DecoderOutput([*coarse, self.head(features)], gradients)


def network_of(name: str) -> BiRefNet:
    """A network with random weights whose offsets move by about a pixel."""
    torch.manual_seed(0)
    network = build_network(preset(name)).eval()
    for key, parameter in network.named_parameters():
        if ".offset." in key or ".modulator." in key:
            nn.init.normal_(parameter, 0, 0.02)
    return network


def run_official(network: BiRefNet, batch: Tensor) -> Tensor:
    """One forward pass of the released layout."""
    with (
        patch.object(blocks, "deformable_conv2d", official_deformable),
        patch.object(Decoder, "forward", official_decoder),
        torch.inference_mode(),
    ):
        return network(batch)


def run_ours(network: BiRefNet, batch: Tensor) -> Tensor:
    """One forward pass of the simplified network."""
    with torch.inference_mode():
        return network(batch)


def measure(name: str, size: int, rounds: int) -> None:
    """Print time and largest difference of both."""
    official = network_of(name)
    ours = cpu_optimised(simplify(official)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    batch = torch.randn(1, 3, size, size)
    best = {"official": float("inf"), "birefnet": float("inf")}
    outputs = {}
    for _ in range(rounds):
        for label, run, network in (
            ("official", run_official, official),
            ("birefnet", run_ours, ours),
        ):
            start = time.perf_counter()
            outputs[label] = run(network, batch)
            best[label] = min(best[label], time.perf_counter() - start)
    difference = (outputs["official"] - outputs["birefnet"]).abs().max()
    scale = outputs["official"].abs().max()
    parameters = sum(p.numel() for p in official.parameters()) / 1e6
    ratio = best["official"] / best["birefnet"]
    print(f"{name} at {size}², {parameters:.0f} M parameters, {torch.get_num_threads()} threads")
    print(
        f"official {best['official']:.2f} s, birefnet {best['birefnet']:.2f} s: {ratio:.1f} times"
    )
    print(f"largest difference {difference / scale:.1e} of the largest logit")


def peak(name: str, size: int, label: str) -> None:
    """Run one of the two once and print this process's peak memory [MB]."""
    network = network_of(name)
    if label == "birefnet":
        network = cpu_optimised(simplify(network, inplace=True)).to(
            memory_format=torch.channels_last
        )  # type: ignore[call-overload]
    batch = torch.randn(1, 3, size, size)
    (run_ours if label == "birefnet" else run_official)(network, batch)
    # Not getrusage: its maximum is inherited from the process that started this one.
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    print(int(status.split("VmHWM:")[1].split()[0]) / 1024)


def main() -> None:
    """Parse the command and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("preset", nargs="?", default="swin_v1_t")
    parser.add_argument("--size", type=int, default=1024)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--peak", choices=("official", "birefnet"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    if options.peak:
        peak(options.preset, options.size, options.peak)
        return
    measure(options.preset, options.size, options.rounds)
    peaks = {}
    for label in ("official", "birefnet"):
        command = [sys.executable, *sys.argv, "--peak", label]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks[label] = float(done.stdout)
    share = peaks["birefnet"] / peaks["official"]
    print(
        f"peak memory: official {peaks['official']:.0f} MB, birefnet {peaks['birefnet']:.0f} MB "
        f"({share:.0%})"
    )


if __name__ == "__main__":
    main()
