"""A GPU measured from end to end within a time limit: are the numbers right, then how fast.

    PYTHONPATH=src python benchmarks/gpu.py --budget 330 --output gpu.json

The most valuable comes first: the tests marked `cuda`, then whole networks (Swin-L at 1024² with
batches of 1 and 8, at 2048², then Swin-T), the training step, a folder of pictures, deformable
convolution by itself, the kernels that a pass consists of, the other backbones of the paper's
Table 7, and torch.compile. Each case is written to the file as soon as it is there; one that fails
leaves its error and the next begins. At the end of the budget the process ends, whatever it does.

"official" is the released computation layer by layer, eager, in contiguous memory, with
torchvision's deformable convolution if it can be imported, else with the definition written out.
"birefnet, eager" is what `TorchEngine` runs without CUDA graphs, "birefnet" what it runs by
default. All have the same random weights; `difference` is the largest one from the official network
in float64, as a share of the largest logit. `reserved_mb` is the most that torch held on the card,
pools of CUDA graphs included; `card_mb` is what the card had given away, to everyone, after the
passes. The card's peak is the best of some large matrix products.

The most important numbers are written beside it as tables in Markdown. `--device cpu --tiny` runs
every case with tiny sizes, where there is no GPU.
"""

from __future__ import annotations

import argparse
import copy
import gc
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

import birefnet
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.devices import dtype_name, resolve_device, resolve_dtype
from birefnet.inference.engines.graphs import GraphCache
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.inference.predictor import Predictor
from birefnet.inference.stream import Profile
from birefnet.network.birefnet import BiRefNet
from birefnet.network.deform import choice, deformable_conv2d
from birefnet.network.simplify import simplify
from network import network_of, official_deformable, run_official, torchvision

REPOSITORY = Path(__file__).parents[1]
Row = dict[str, Any]
# Network, side, batches: those of the paper's headline first.
FIRST = (
    ("swin_v1_l", 1024, (1, 8)),
    ("swin_v1_l", 2048, (1, 2)),
    ("swin_v1_t", 1024, (1, 8)),
)
REST = tuple(
    (name, 1024, (1, 8))
    for name in ("swin_v1_b", "swin_v1_s", "pvt_v2_b2", "pvt_v2_b0", "resnet50", "vgg16")
)
# Kernel, channels, output channels, side.
KERNELS = ((7, 64, 256, 256), (7, 64, 256, 128), (3, 64, 256, 256), (1, 64, 256, 256))
# Network, side, batch of a training step.
STEPS = (("swin_v1_t", 1024, 4), ("nano", 320, 16))


# Case → the columns of its table.
_WHERE = ("network", "side", "batch", "layout", "milliseconds", "pictures_per_second")
TABLES = {
    "tests": ("passed", "skipped", "failed"),
    "network": (*_WHERE, "reserved_mb", "card_mb", "share_of_peak", "difference", "error"),
    "step": (*_WHERE, "reserved_mb", "loss", "error"),
    "folder": ("network", "pictures", "seconds", "pictures_per_second", "network_share"),
    "kernel": (
        *("kernel", "channels", "out", "side", "ordinary", "birefnet", "official"),
        *("ordinary_training", "birefnet_training", "official_training"),
    ),
    "command": ("pictures", "seconds", "status"),
    "compiled": ("network", "layout", "first_seconds", "milliseconds"),
}


@dataclass
class Run:
    """What the cases share, and where their rows go."""

    device: torch.device
    dtype: torch.dtype
    tiny: bool
    budget: float
    output: Path
    start: float
    rows: list[Row] = field(default_factory=list)
    environment: Row = field(default_factory=dict)
    finished: bool = False

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self.budget - (time.perf_counter() - self.start)

    def add(self, case: str, **row: Any) -> None:
        """Keep one row: print it and write the file."""
        self.rows.append({"case": case, **row})
        shown = {key: round(v, 4) if isinstance(v, float) else v for key, v in row.items()}
        print(f"{self.budget - self.left:6.1f} s  {case}  {json.dumps(shown)[:400]}", flush=True)
        self.write()

    def write(self) -> None:
        """The file, renamed into place."""
        found = {
            "environment": self.environment,
            "budget": self.budget,
            "seconds": self.budget - self.left,
            "finished": self.finished,
            "cases": self.rows,
        }
        temporary = self.output.with_name(self.output.name + ".part")
        temporary.write_text(json.dumps(found, indent=1), encoding="utf-8")
        temporary.replace(self.output)
        self.output.with_suffix(".md").write_text(markdown(found), encoding="utf-8")

    def synchronise(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def release(self) -> None:
        """Give all memory back that nothing uses, and begin to count anew."""
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def memory(self) -> Row:
        """Megabytes since `release`; nothing without a GPU."""
        if self.device.type != "cuda":
            return {}
        free, total = torch.cuda.mem_get_info(self.device)
        return {
            "allocated_mb": torch.cuda.max_memory_allocated(self.device) / 2**20,
            "reserved_mb": torch.cuda.max_memory_reserved(self.device) / 2**20,
            "card_mb": (total - free) / 2**20,
        }

    def milliseconds(self, run: Callable[[], object], *, warm_ups: int = 5) -> float:
        """Median of at most ten rounds and three seconds, behind some that do not count."""
        for _ in range(0 if self.tiny else warm_ups):
            run()
        times: list[float] = []
        began = time.perf_counter()
        least, most = (1, 1) if self.tiny else (2, 10)
        while len(times) < least or (len(times) < most and time.perf_counter() - began < 3):
            self.synchronise()
            start = time.perf_counter()
            run()
            self.synchronise()
            times.append(time.perf_counter() - start)
        return 1000 * sorted(times)[len(times) // 2]


def markdown(found: Row) -> str:
    """What was measured, as tables."""
    environment = found["environment"]
    lines = [
        f"{environment.get('card', 'CPU')}, torch {environment.get('torch')}, "
        f"{environment.get('dtype')}; official: {environment.get('official')}; birefnet: "
        f"{environment.get('deformable')}",
    ]
    for case, columns in TABLES.items():
        rows = [row for row in found["cases"] if row["case"] == case]
        if rows:
            lines += ["", "| " + " | ".join(columns) + " |", "|" + len(columns) * " --- |"]
            lines += ["| " + " | ".join(_cell(row.get(c)) for c in columns) + " |" for row in rows]
    lines += ["", *(f"- {row['case']} {row['of']}" for row in found["cases"] if "of" in row)]
    return "\n".join(lines) + "\n"


def _cell(value: object) -> str:
    if isinstance(value, float):
        return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"
    return "" if value is None else str(value)


def describe(run: Run) -> None:
    """Fill `environment`: the machine, the versions, and the kernels in use."""
    x = torch.zeros(1, device=run.device, dtype=run.dtype)
    offset = torch.zeros(1, device=run.device)
    used = {
        "forward": choice.for_forward(x, offset),
        "derivative": choice.for_backward(x, offset),
    }
    run.environment = {
        "birefnet": birefnet.__version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "device": run.device.type,
        "dtype": dtype_name(run.dtype),
        "deformable": {way: module.__name__.split(".")[-1] for way, module in used.items()},
        "official": official_kernel(),
        "cores": os.cpu_count(),
        "tf32": torch.backends.cuda.matmul.allow_tf32,
    }
    if run.device.type == "cuda":
        properties = torch.cuda.get_device_properties(run.device)
        run.environment |= {
            "card": properties.name,
            "memory_mb": properties.total_memory / 2**20,
            "capability": list(torch.cuda.get_device_capability(run.device)),
            "cuda": torch.version.cuda,
        }
    run.write()


def official_kernel() -> str:
    """What the baseline convolves deformably with."""
    vision = torchvision()
    return f"torchvision {vision.__version__}" if vision else "the definition written out"


def run_tests(run: Run) -> None:
    """The tests marked `cuda`, in a process of their own; their output goes beside the file."""
    files = [
        str(path.relative_to(REPOSITORY))
        for path in sorted((REPOSITORY / "tests").rglob("test_*.py"))
        if "mark.cuda" in path.read_text(encoding="utf-8")
    ]
    if run.tiny:
        files = files[:1]
    log = run.output.with_suffix(".tests.log")
    command = [sys.executable, "-m", "pytest", "-m", "cuda", "-v", "--tb=short", "--durations=15"]
    command += ["-p", "no:cacheprovider", "--continue-on-collection-errors", *files]
    with log.open("w", encoding="utf-8") as file:
        try:
            status: int | str = subprocess.run(
                command,
                cwd=REPOSITORY,
                stdout=file,
                stderr=subprocess.STDOUT,
                timeout=max(10, min(120, 0.4 * run.left)),
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            status = "stopped at its limit"
    text = log.read_text(encoding="utf-8", errors="replace")
    count = {w: len(re.findall(rf"^tests/.* {w}", text, re.M)) for w in ("PASSED", "SKIPPED")}
    failed = sorted(set(re.findall(r"^(?:FAILED|ERROR) (tests/\S+)", text, re.M)))
    run.add("tests", status=status, passed=count["PASSED"], skipped=count["SKIPPED"], failed=failed)


def measure_peak(run: Run) -> None:
    """GFLOP/s of a large matrix product."""
    side = 256 if run.tiny else 8192
    a = torch.randn(side, side, device=run.device, dtype=run.dtype)
    spent = run.milliseconds(lambda: a @ a)
    run.environment["gigaflops"] = 2 * side**3 / spent / 1e6
    run.add("peak", side=side, milliseconds=spent, gigaflops=run.environment["gigaflops"])


def gigaflops(name: str, side: int) -> float | None:
    """Multiplications and additions of a network for one picture, as counted for the documents."""
    counted = json.loads((REPOSITORY / "docs" / "data" / "efficiency.json").read_text("utf-8"))
    found = counted["networks"].get(name)
    return None if found is None else 2 * found["macs"] / 1e9 * (side / counted["size"]) ** 2


def measure_network(run: Run, name: str, side: int, sizes: tuple[int, ...]) -> None:
    """Rows of one network: three layouts, each at some batch sizes."""
    with run.device:
        exact = network_of(name)
        torch.manual_seed(1)
        noise = torch.randn(max(sizes), 3, side, side)
    truth = run_official(exact.double(), noise[:1].double()).cpu()
    exact.float()
    noise = noise.to(run.dtype)
    rest = {"network": name, "side": side, "noise": noise, "sizes": sizes, "truth": truth}
    official = partial(run_official, copy.deepcopy(exact).to(run.dtype))
    exact.cpu()  # the card holds what is measured
    _measure_layout(run, "official", official, **rest)
    del official
    ours = simplify(exact, inplace=True)
    for graphs in (False, True) if run.device.type == "cuda" else (False,):
        engine = TorchEngine(copy.deepcopy(ours), run.device, run.dtype, graphs=graphs)

        def infer(batch: Tensor, engine: TorchEngine = engine) -> Tensor:
            with torch.inference_mode():
                return engine.run(batch)

        label = "birefnet" if graphs else "birefnet, eager"
        _measure_layout(run, label, infer, cache=engine.run, **rest)
        del engine, infer


def _measure_layout(
    run: Run,
    layout: str,
    infer: Callable[[Tensor], Tensor],
    *,
    network: str,
    side: int,
    noise: Tensor,
    sizes: tuple[int, ...],
    truth: Tensor,
    cache: object = None,
) -> None:
    flops, peak = gigaflops(network, side), run.environment.get("gigaflops")
    for size in sizes:
        if isinstance(cache, GraphCache):
            cache.drop()
        run.release()
        row: Row = {"layout": layout, "network": network, "side": side, "batch": size}
        try:
            batch = noise[:size]
            spent = run.milliseconds(lambda batch=batch: infer(batch))
            row |= {"milliseconds": spent, "pictures_per_second": 1000 * size / spent}
            row |= run.memory()
            if flops and peak:
                row["share_of_peak"] = flops * size / (spent / 1000) / peak
            if size == sizes[0]:
                logits = infer(batch)[:1].double().cpu()
                row["difference"] = float((logits - truth).abs().max() / truth.abs().max())
            if isinstance(cache, GraphCache):
                row["recorded"], row["replayed"] = cache.recorded, cache.replayed
        except torch.OutOfMemoryError:
            row["error"] = "out of memory"
        run.add("network", **row)


def measure_steps(run: Run, preset: str, side: int, size: int) -> None:
    """One training step in bf16, of a plain loop on the released layout and of `Trainer`."""
    from training import our_step, plain_step  # its packages may be missing

    precision = "bf16" if run.device.type == "cuda" else "fp32"
    options = argparse.Namespace(
        preset=preset, size=side, batch_size=size, precision=precision, compile=False,
        checkpoint=False,
    )  # fmt: skip
    for layout, make in (("official", plain_step), ("birefnet", our_step)):
        row: Row = {"layout": layout, "network": preset, "side": side, "batch": size}
        run.release()
        try:
            step = make(options, run.device)
            row["loss"] = float(step())
            spent = run.milliseconds(step, warm_ups=2)
            row |= {"milliseconds": spent, "pictures_per_second": 1000 * size / spent}
            row |= {"precision": precision, **run.memory()}
            del step
        except torch.OutOfMemoryError:
            row["error"] = "out of memory"
        run.add("step", **row)


def make_pictures(folder: Path, count: int, width: int, height: int) -> list[Path]:
    """JPEG files: a disc over a gradient with noise."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    ground = np.stack([x / width, y / height, (x + y) / (width + height)], axis=2) * 150
    ground += draw.normal(60, 12, ground.shape)
    ground = ground.clip(0, 255).astype(np.uint8)
    paths = []
    for index in range(count):
        centre = (int(draw.integers(width)), int(draw.integers(height)))
        picture = cv2.circle(ground.copy(), centre, height // 4, (250, 250, 250), -1)
        paths.append(folder / f"{index:04}.jpg")
        cv2.imwrite(str(paths[-1]), picture)
    return paths


def measure_folder(run: Run, network: str) -> None:
    """Whole pictures through a predictor: does the network run beside reading and restoring?"""
    count, (width, height) = (4, (96, 64)) if run.tiny else (64, (1920, 1280))
    predictor = predictor_of(run, network)
    with tempfile.TemporaryDirectory() as place:
        paths = make_pictures(Path(place), count, width, height)
        for _ in predictor.predict(iter(paths[: count // 2])):  # kernels and graphs are there then
            pass
        predictor.profile = profile = Profile()
        start = time.perf_counter()
        for _ in predictor.predict(iter(paths)):
            pass
        elapsed = time.perf_counter() - start
        stages = {name: spent.seconds for name, spent in profile.times.items()}
        run.add(
            "folder",
            network=network,
            pictures=count,
            width=width,
            height=height,
            seconds=elapsed,
            pictures_per_second=count / elapsed,
            stages=stages,
            network_share=stages["network"] / elapsed,
        )


def predictor_of(run: Run, network: str) -> Predictor:
    """`nano` with its weights; any other network with random ones, at 1024²."""
    if network == "nano":
        return birefnet.load(network, device=str(run.device), engine="torch")
    side = 64 if run.tiny else 1024
    with run.device:
        made: BiRefNet = simplify(network_of(network), inplace=True)
    return Predictor(made, Preprocess(side, side), device=str(run.device))


def measure_command(run: Run) -> None:
    """`birefnet remove` on a folder, from the start of the process to the last file."""
    count, (width, height) = (2, (96, 64)) if run.tiny else (96, (1920, 1280))
    with tempfile.TemporaryDirectory() as place:
        folder, out = Path(place) / "in", Path(place) / "out"
        folder.mkdir()
        make_pictures(folder, count, width, height)
        command = [sys.executable, "-m", "birefnet", "remove", str(folder), "-o", str(out)]
        command += ["-m", "nano", "--device", str(run.device), "--engine", "torch", "--profile"]
        start = time.perf_counter()
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=max(10, min(90, run.left - 5)),
            check=False,
        )
        row = {
            "command": " ".join(command[2:4]) + " FOLDER -m nano",
            "pictures": count,
            "width": width,
            "height": height,
            "seconds": time.perf_counter() - start,
            "status": done.returncode,
            "written": len(list(out.rglob("*.png"))),
            "said": (done.stdout + done.stderr)[-3000:],
        }
        run.add("command", **row)


def measure_kernel(run: Run, size: int, channels: int, out_channels: int, side: int) -> None:
    """Milliseconds of deformable and ordinary convolution of one shape, also with backward."""
    if run.tiny:
        channels, out_channels, side = 4, 8, 8
    shapes = {
        "x": (1, channels, side, side),
        "offset": (1, 2 * size**2, side, side),
        "mask": (1, size**2, side, side),
        "weight": (out_channels, channels, size, size),
    }
    row: Row = {"kernel": size, "channels": channels, "out": out_channels, "side": side}
    torch.manual_seed(0)
    made = {key: torch.randn(shape).to(run.device, run.dtype) for key, shape in shapes.items()}
    made["x"] = made["x"].to(memory_format=torch.channels_last)

    def call(label: str) -> Tensor:
        x, offset, mask, weight = made.values()
        if label == "ordinary":
            return torch.nn.functional.conv2d(x, weight, padding=size // 2)
        operation = deformable_conv2d if label == "birefnet" else official_deformable
        return operation(x, offset, mask, weight)

    def train(label: str) -> None:
        call(label).sum().backward()

    for label in ("ordinary", "birefnet", "official"):
        with torch.inference_mode():
            row[label] = run.milliseconds(lambda label=label: call(label))
    for tensor in made.values():
        tensor.requires_grad_()
    for label in ("ordinary", "birefnet", "official"):
        row[f"{label}_training"] = run.milliseconds(lambda label=label: train(label))
    run.add("kernel", **row)


def list_kernels(run: Run, name: str, side: int, size: int) -> None:
    """The dearest kernels of one pass without graphs."""
    with run.device:
        network = simplify(network_of(name), inplace=True)
        batch = torch.randn(size, 3, side, side).to(run.dtype)
    engine = TorchEngine(network, run.device, run.dtype, graphs=False)
    activities = [torch.profiler.ProfilerActivity.CPU]
    on_card = run.device.type == "cuda"
    if on_card:
        activities.append(torch.profiler.ProfilerActivity.CUDA)
    with torch.inference_mode():
        for _ in range(2):
            engine.network(batch)
        run.synchronise()
        with torch.profiler.profile(activities=activities) as profiler:
            engine.network(batch)
            run.synchronise()
    time_of = "self_device_time_total" if on_card else "self_cpu_time_total"
    events = [
        event
        for event in profiler.key_averages()
        if not on_card or event.device_type == torch.autograd.DeviceType.CUDA
    ]
    events.sort(key=lambda event: -getattr(event, time_of))
    total = sum(getattr(event, time_of) for event in events)
    run.add(
        "profile",
        network=name,
        side=side,
        batch=size,
        milliseconds=total / 1000,
        launches=sum(event.count for event in events),
        kernels=[
            {
                "name": event.key[:120],
                "count": event.count,
                "milliseconds": getattr(event, time_of) / 1000,
            }
            for event in events[:25]
        ],
    )


def measure_compiled(run: Run, name: str, side: int) -> None:
    """torch.compile of our blocks and of the released layout: first pass and the following ones."""
    with run.device:
        batch = torch.randn(1, 3, side, side).to(run.dtype)
        official = network_of(name).to(run.dtype)
    engine = TorchEngine(
        simplify(copy.deepcopy(official).float(), inplace=True),
        run.device,
        run.dtype,
        compile=True,
    )
    compiled = torch.compile(official)

    def ours() -> Tensor:
        with torch.inference_mode():
            return engine.run(batch)

    for layout, infer in (
        ("birefnet, compiled", ours),
        ("official, compiled", lambda: run_official(compiled, batch)),
    ):
        start = time.perf_counter()
        infer()
        run.synchronise()
        first = time.perf_counter() - start
        spent = run.milliseconds(infer)
        run.add(
            "compiled", layout=layout, network=name, side=side, batch=1, first_seconds=first,
            milliseconds=spent,
        )  # fmt: skip


def cases(run: Run) -> Iterator[tuple[str, float, Callable[[], None]]]:
    """Name, seconds that it needs on a large card, and the case itself; the most valuable first."""
    if run.tiny:
        networks, rest = (("tiny", 64, (1, 2)),), ()
        steps, folders, compiled = (("tiny", 64, 2),), ("tiny",), ()
        profiles: tuple[tuple[str, int, int], ...] = (("tiny", 64, 1),)
    else:
        networks, rest, steps, folders = FIRST, REST, STEPS, ("nano", "swin_v1_t")
        compiled = (("swin_v1_t", 1024),) if run.device.type == "cuda" else ()
        profiles = (("swin_v1_l", 1024, 1), ("swin_v1_l", 1024, 8), ("nano", 320, 1))
    yield "tests", 20, lambda: run_tests(run)
    yield "peak", 3, lambda: measure_peak(run)
    for asked in networks:
        yield "network", 12, lambda asked=asked: measure_network(run, *asked)
    for step in steps:
        yield "step", 15, lambda step=step: measure_steps(run, *step)
    for name in folders:
        yield "folder", 12, lambda name=name: measure_folder(run, name)
    for kernel in KERNELS[: 1 if run.tiny else None]:
        yield "kernel", 4, lambda kernel=kernel: measure_kernel(run, *kernel)
    for profile in profiles:
        yield "profile", 6, lambda profile=profile: list_kernels(run, *profile)
    yield "command", 20, lambda: measure_command(run)
    for asked in rest:
        yield "network", 8, lambda asked=asked: measure_network(run, *asked)
    for asked in compiled:
        yield "compiled", 45, lambda asked=asked: measure_compiled(run, *asked)


def main() -> None:
    """Parse the command, and run the cases until the budget is spent."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=Path("gpu.json"))
    parser.add_argument("--budget", type=float, default=480, help="seconds, start included")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--dtype", default="fp16")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, to try this script")
    parser.add_argument("--only", nargs="+", help="cases: tests, peak, network, step …")
    parser.add_argument("--skip", nargs="+", default=[], help="cases that are left out")
    options = parser.parse_args()
    device = resolve_device(options.device)
    dtype = resolve_dtype("fp32" if options.tiny else options.dtype, device)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    run = Run(device, dtype, options.tiny, options.budget, options.output, _STARTED)

    def stop() -> None:
        print(f"the budget of {run.budget:.0f} s is spent", flush=True)
        os._exit(0)

    watchdog = threading.Timer(max(run.left, 0), stop)
    watchdog.daemon = True
    watchdog.start()
    describe(run)
    for name, needed, case in cases(run):
        if (options.only and name not in options.only) or name in options.skip:
            continue
        if run.left < needed and not run.tiny:
            run.add("left out", of=name, left=run.left)
            continue
        try:
            with warnings.catch_warnings(record=True) as heard:
                warnings.simplefilter("always", RuntimeWarning)
                case()
            for warning in heard:
                if issubclass(warning.category, RuntimeWarning):
                    run.add("warning", of=name, text=str(warning.message))
        except Exception as error:
            text = traceback.format_exc(limit=-6)
            run.add("failed", of=name, error=f"{type(error).__name__}: {error}", trace=text)
        run.release()
    run.finished = True
    run.write()
    watchdog.cancel()


_STARTED = time.perf_counter()

if __name__ == "__main__":
    main()
