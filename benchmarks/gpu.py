"""Whole networks on a GPU: the released layout in eager PyTorch beside this package, in one run.

    PYTHONPATH=src python benchmarks/gpu.py [--out $OUT] [--only swin_v1_l] [--batches 1 2 4 8]

Writes `gpu.md` (Markdown tables) and `gpu.json` into --out: latency at batch 1, throughput by
batch, peak memory and the share of the card's peak arithmetic, for every backbone of the paper's
Table 7 at 1024² and Swin-L at 2048²; then deformable convolution by itself. "official" is the
released computation layer by layer, eager, with torchvision's deformable convolution if it can be
imported, else with the definition written out; "birefnet" is what `TorchEngine` runs. Both have the
same random weights; their largest difference is part of the table.

The card's peak is measured, not read from a data sheet: the best of some large matrix products in
the same precision. `--device cpu --side 64 --presets tiny` tries the script where there is no GPU.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode, register_flop_formula

from birefnet.engines.devices import dtype_name, resolve_dtype
from birefnet.engines.torch_engine import TorchEngine
from birefnet.network.deform import deformable_conv2d
from birefnet.network.simplify import simplify
from network import network_of, official_deformable, run_official

# Table 7 of the paper; the last row is the network for 2048² pictures.
CASES = [
    *(
        (name, 1024)
        for name in (
            "swin_v1_l",
            "swin_v1_b",
            "swin_v1_s",
            "swin_v1_t",
            "pvt_v2_b5",
            "pvt_v2_b2",
            "pvt_v2_b1",
            "pvt_v2_b0",
            "resnet50",
            "vgg16bn",
            "vgg16",
        )
    ),
    ("swin_v1_l", 2048),
]
KERNELS = [(7, 64, 256, 256), (7, 64, 256, 128), (3, 64, 256, 256), (1, 64, 256, 256)]


@register_flop_formula(torch.ops.birefnet.deformable_conv2d)
def _deformable_flops(
    x: Any, offset: Any, mask: Any, weight: Any, padding: int, *_: Any, **__: Any
) -> int:
    return 2 * offset[0] * offset[2] * offset[3] * weight[0] * weight[1] * weight[2] * weight[3]


def gigaflops(name: str, side: int) -> float:
    """Multiplications and additions of the released layout for one picture."""
    with torch.device("meta"):
        network, batch = network_of(name), torch.empty(1, 3, side, side)
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(batch)
    return counter.get_total_flops() / 1e9


def synchronise(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def seconds(run: Callable[[], object], device: torch.device, rounds: int) -> float:
    """Median of some rounds behind three that do not count."""
    for _ in range(3):
        run()
    times = []
    for _ in range(rounds):
        synchronise(device)
        start = time.perf_counter()
        run()
        synchronise(device)
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def peak_memory(run: Callable[[], object], device: torch.device) -> float:
    """Megabytes that torch holds at most, weights included; 0 without a GPU."""
    if device.type != "cuda":
        return 0.0
    torch.cuda.reset_peak_memory_stats(device)
    run()
    return torch.cuda.max_memory_allocated(device) / 2**20


def peak_arithmetic(device: torch.device, dtype: torch.dtype, side: int) -> float:
    """GFLOP/s of a large matrix product."""
    a = torch.randn(side, side, device=device, dtype=dtype)
    return 2 * side**3 / seconds(lambda: a @ a, device, 10) / 1e9


def release(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.empty_cache()


def measure(name: str, side: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each batch size and layout."""
    device, dtype = options.device, options.dtype
    flops, rows = gigaflops(name, side), []
    exact = network_of(name)
    batches = {size: torch.randn(size, 3, side, side) for size in options.batches}
    outputs: dict[str, Tensor] = {}
    official = network_of(name).to(device, dtype)

    def official_run(batch: Tensor) -> Callable[[], Tensor]:
        held = batch.to(device, dtype)
        return lambda: run_official(official, held)

    rows += time_batches("official", official_run, batches, flops, options)
    outputs["official"] = official_run(batches[min(batches)])().float().cpu()
    official.to("meta")  # its memory is free again
    release(device)

    engine = TorchEngine(simplify(exact, inplace=True), device, dtype, compile=options.compile)

    def our_run(batch: Tensor) -> Callable[[], Tensor]:
        held = batch.to(device, dtype)

        def run() -> Tensor:
            with torch.inference_mode():
                return engine.run(held)

        return run

    rows += time_batches("birefnet", our_run, batches, flops, options)
    outputs["birefnet"] = our_run(batches[min(batches)])().float().cpu()
    difference = (outputs["official"] - outputs["birefnet"]).abs().max()
    share = float(difference / outputs["official"].abs().max())
    for row in rows:
        row |= {"network": name, "side": side, "difference": share}
    return rows


def time_batches(
    layout: str,
    make: Callable[[Tensor], Callable[[], Tensor]],
    batches: dict[int, Tensor],
    flops: float,
    options: argparse.Namespace,
) -> list[dict[str, Any]]:
    """Rows of one layout; a batch that does not fit in memory ends them."""
    rows = []
    for size, batch in batches.items():
        try:
            run = make(batch)
            spent = seconds(run, options.device, options.rounds)
            memory = peak_memory(run, options.device)
        except torch.OutOfMemoryError:
            release(options.device)
            break
        rows.append(
            {
                "layout": layout,
                "batch": size,
                "milliseconds": 1000 * spent,
                "pictures_per_second": size / spent,
                "memory_mb": memory,
                "share_of_peak": flops * size / spent / options.peak,
            }
        )
    return rows


def measure_kernel(
    size: int, channels: int, out_channels: int, side: int, options: argparse.Namespace
) -> dict[str, Any]:
    """Milliseconds of deformable and ordinary convolution of one shape."""
    taps = size**2
    shapes = {
        "x": (1, channels, side, side),
        "offset": (1, 2 * taps, side, side),
        "mask": (1, taps, side, side),
        "weight": (out_channels, channels, size, size),
    }
    made = {
        key: torch.randn(shape).to(options.device, options.dtype) for key, shape in shapes.items()
    }
    made["x"] = made["x"].to(memory_format=torch.channels_last)
    x, weight = made["x"], made["weight"]
    runs: dict[str, Callable[[], Tensor]] = {
        "ordinary": lambda: torch.nn.functional.conv2d(x, weight, padding=size // 2),
        "birefnet": lambda: deformable_conv2d(x, made["offset"], made["mask"], weight),
        "official": lambda: official_deformable(x, made["offset"], made["mask"], weight),
    }
    row: dict[str, Any] = {
        "shape": f"{size}×{size}, {channels}→{out_channels}, {side}²",
    }
    with torch.inference_mode():
        for label, run in runs.items():
            row[label] = 1000 * seconds(run, options.device, options.rounds)
    return row


def markdown(rows: list[dict[str, Any]], kernels: list[dict[str, Any]], title: str) -> str:
    """The tables."""
    lines = [title, ""]
    lines += [
        "| network | batch | official, ms | birefnet, ms | ratio | pictures/s | memory, MB | "
        "share of peak | difference |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    pairs: dict[tuple[str, int, int], dict[str, dict[str, Any]]] = {}
    for row in rows:
        key = (row["network"], row["side"], row["batch"])
        pairs.setdefault(key, {})[row["layout"]] = row
    for (name, side, batch), pair in pairs.items():
        ours, theirs = pair.get("birefnet"), pair.get("official")
        if ours is None:
            continue
        before = f"{theirs['milliseconds']:.1f}" if theirs else "out of memory"
        ratio = f"{theirs['milliseconds'] / ours['milliseconds']:.2f}" if theirs else "–"
        memory = f"{theirs['memory_mb']:.0f} → " if theirs else ""
        lines.append(
            f"| {name}, {side}² | {batch} | {before} | {ours['milliseconds']:.1f} | {ratio} | "
            f"{ours['pictures_per_second']:.1f} | {memory}{ours['memory_mb']:.0f} | "
            f"{ours['share_of_peak']:.0%} | {ours['difference']:.1e} |"
        )
    lines += ["", "| deformable convolution | ordinary, ms | birefnet, ms | official, ms |"]
    lines += ["|---|--:|--:|--:|"]
    for row in kernels:
        times = " | ".join(f"{row[label]:.3f}" for label in ("ordinary", "birefnet", "official"))
        lines.append(f"| {row['shape']} | {times} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    """Parse the command and write both files after every case, so that a limit loses little."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path())
    parser.add_argument("--device", type=torch.device, default=torch.device("cuda"))
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("--only", default="", help="networks whose name has this")
    parser.add_argument("--presets", nargs="*", help="other networks than those of Table 7")
    parser.add_argument("--side", type=int, help="other than 1024 and 2048 px")
    parser.add_argument("--batches", type=int, nargs="*", default=[1, 2, 4, 8])
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--peak-side", type=int, default=8192, help="of the matrices")
    parser.add_argument("--compile", action="store_true", help="torch.compile our blocks")
    options = parser.parse_args()
    options.dtype = resolve_dtype(options.dtype, options.device)
    options.out.mkdir(parents=True, exist_ok=True)
    options.peak = peak_arithmetic(options.device, options.dtype, options.peak_side)
    card = torch.cuda.get_device_name(options.device) if options.device.type == "cuda" else "CPU"
    title = (
        f"{card}, {dtype_name(options.dtype)}, torch {torch.__version__}; a matrix product of "
        f"{options.peak_side}² reaches {options.peak / 1000:.1f} TFLOP/s."
    )
    print(title, flush=True)
    cases = [(name, options.side or 1024) for name in options.presets or []] or CASES
    rows: list[dict[str, Any]] = []
    kernels = [
        measure_kernel(*kernel[:3], min(kernel[3], options.side or kernel[3]), options)
        for kernel in KERNELS
    ]
    for name, side in cases:
        if options.only not in name:
            continue
        rows += measure(name, options.side or side, options)
        release(options.device)
        text = markdown(rows, kernels, title)
        (options.out / "gpu.md").write_text(text, encoding="utf-8")
        found = {"title": title, "networks": rows, "kernels": kernels}
        (options.out / "gpu.json").write_text(json.dumps(found, indent=1), encoding="utf-8")
        print("\n".join(text.splitlines()[4 : 4 + len(rows)][-len(options.batches) :]), flush=True)


if __name__ == "__main__":
    main()
