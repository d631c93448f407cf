"""The work of `birefnet bench`: one fresh process per cell, one table of all."""

from __future__ import annotations

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from birefnet.errors import MissingExtraError, UnknownDeviceError, require
from birefnet.terminal import console
from birefnet.weights.locate import is_bundled

ENGINES = ("torch", "openvino", "onnx")
# That an engine needs for weights, and for a graph that the package carries.
EXTRAS = {"torch": ("torch",), "openvino": ("torch", "openvino"), "onnx": ("onnx",)}
CARRIED: dict[str, tuple[str, ...]] = {"openvino": ("openvino",), "onnx": ()}
PRECISIONS = ("fp32", "fp16", "bf16", "int8")
# What an engine can compute in; fp16 is for GPUs.
HAS = {
    "torch": ("fp32", "fp16", "bf16"),
    "openvino": ("fp32", "bf16", "int8"),
    "onnx": ("fp32", "int8"),
}
HEADS = (
    "model", "engine", "precision", "size", "ms", "± ms", "pictures/s", "peak MB",
    "parameters", "GMACs", "difference",
)  # fmt: skip


@dataclass(frozen=True)
class Cell:
    """The measurement of one process; `size` is a side [px], None as trained."""

    model: str
    engine: str
    precision: str
    size: int | None = None
    batch: int = 1
    rounds: int = 5
    device: str = "cpu"
    calibrate: str | None = None


@dataclass(frozen=True)
class Result:
    """The numbers of a cell, or why there are none.

    Attributes:
        cell: what.
        width, height: of the network's input [px].
        milliseconds: of each round, per picture.
        peak_mb: largest resident memory of the process (Linux), weights and libraries included.
        parameters: of the network; 0 where the file does not tell.
        macs: of one picture; 0 where the file does not tell.
        difference: of the matte to torch in fp32, the largest; None where that was not measured.
        missing: why there are no numbers; empty otherwise.
    """

    cell: Cell
    width: int = 0
    height: int = 0
    milliseconds: tuple[float, ...] = ()
    peak_mb: float | None = None
    parameters: int = 0
    macs: int = 0
    difference: float | None = None
    missing: str = ""

    @property
    def median(self) -> float:
        """Milliseconds of a picture."""
        return statistics.median(self.milliseconds)

    @property
    def spread(self) -> float:
        """Half the range of the rounds [ms]."""
        return (max(self.milliseconds) - min(self.milliseconds)) / 2


def plan(
    models: Sequence[str],
    engines: Sequence[str],
    precisions: Sequence[str],
    sizes: Sequence[str] | None,
    *,
    batch: int = 1,
    rounds: int = 5,
    device: str = "cpu",
    calibrate: Path | None = None,
) -> list[Cell]:
    """All cells, torch in fp32 first for each model and size.

    Raises:
        ValueError: an unknown engine or precision, or a side that is not a multiple of 32.
        UsageError: an unknown model or device.
    """
    from birefnet.network.config import PRESETS
    from birefnet.weights.locate import locate

    exported = {
        model for model in models if model not in PRESETS and locate(model).exported is not None
    }
    if not re.fullmatch(r"cpu|mps|cuda(:\d+)?", device):
        raise UnknownDeviceError(f"device {device!r} is unknown; give cpu, cuda, cuda:1 or mps")
    for kind, given, choices in (
        ("engine", engines, ENGINES),
        ("precision", precisions, PRECISIONS),
    ):
        for name in given:
            if name not in choices:
                raise ValueError(f"{kind} {name!r} is unknown; choose of {', '.join(choices)}")
    sides: list[int | None] = [None]
    if sizes is not None:
        if not all(side.isdecimal() and int(side) > 0 and int(side) % 32 == 0 for side in sizes):
            raise ValueError(f"sizes are {','.join(sizes)}; give multiples of 32 such as 512,1024")
        sides = [int(side) for side in sizes]
    cells = []
    for model in models:
        for side in sides:
            cell = Cell(model, "file", "own", side, batch, rounds, device)
            if model in exported:  # has its own engine and precision
                cells.append(cell)
                continue
            folder = None if calibrate is None else str(calibrate)
            cells += [
                replace(cell, engine=engine, precision=precision, calibrate=folder)
                for engine in sorted(engines, key=ENGINES.index)
                for precision in sorted(precisions, key=PRECISIONS.index)
            ]
    return cells


def run(
    cells: Sequence[Cell],
    progress: Callable[[int, int, str], object] = lambda done, total, cell: None,
) -> list[Result]:
    """Measure one cell after the other.

    `progress` is called before each, with how many are done, of how many, and its name.
    """
    results: list[Result] = []
    references: dict[tuple[str, int | None], Path] = {}
    with tempfile.TemporaryDirectory(prefix="birefnet-bench-") as folder:
        for number, cell in enumerate(cells):
            result = Result(cell, missing=_unavailable(cell))
            if not result.missing:
                progress(number, len(cells), f"{cell.model}, {cell.engine} {cell.precision}")
                logits = Path(folder) / f"{number}.npy"
                result = _measure(cell, Path(folder), logits)
                key = (cell.model, cell.size)
                if (cell.engine, cell.precision) == ("torch", "fp32") and not result.missing:
                    references[key] = logits
                if key in references and logits.exists():
                    result = replace(result, difference=_difference(logits, references[key]))
            results.append(result)
    return results


def _unavailable(cell: Cell) -> str:
    if cell.engine == "file":
        return ""
    try:
        require(cell.engine, *(CARRIED if is_carried(cell) else EXTRAS)[cell.engine])
    except MissingExtraError as error:
        return f"not installed: {str(error).partition(': ')[2]}"
    if cell.precision not in HAS[cell.engine]:
        return f"no {cell.precision} in this engine"
    if cell.device != "cpu" and cell.engine != "torch":
        return f"measured on the CPU only, not on {cell.device}"
    return ""


def is_carried(cell: Cell) -> bool:
    """Whether the package carries a graph for this engine and precision."""
    return cell.engine != "torch" and cell.precision != "int8" and is_bundled(cell.model)


def _measure(cell: Cell, folder: Path, logits: Path) -> Result:
    """Run the cell in a fresh process, prepared by another one where a file must be made first."""
    order: dict[str, object] = {"cell": asdict(cell), "logits": str(logits)}
    try:
        is_int8 = (cell.engine, cell.precision) == ("openvino", "int8")
        if (cell.engine == "onnx" or is_int8) and not is_carried(cell):
            suffix = "onnx" if cell.engine == "onnx" else "xml"
            stem = f"{abs(hash((cell.model, cell.size, cell.calibrate)))}-{cell.precision}"
            file = folder / f"{stem}.{suffix}"
            if not file.exists():
                _process("prepare", {**order, "file": str(file)})
            order["file"] = str(file)
        return Result(cell, **_process("measure", order))
    except RuntimeError as failure:
        return Result(cell, missing=str(failure))


def _process(task: str, order: dict[str, object]) -> dict[str, Any]:
    """The answer of `birefnet.cli.bench.cell` to an order.

    Raises:
        RuntimeError: it failed; the message is the last line it wrote.
    """
    source = str(Path(__file__).parents[3])
    path = os.pathsep.join(filter(None, [source, os.environ.get("PYTHONPATH")]))
    done = subprocess.run(
        [sys.executable, "-m", "birefnet.cli.bench.cell", task, json.dumps(order)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": path},
        check=False,
    )
    if done.returncode != 0:
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        reason = lines[-1] if lines else "it was ended: not enough memory?"
        raise RuntimeError(reason.partition("Error: ")[2] or reason)
    answer: dict[str, object] = json.loads(done.stdout.splitlines()[-1])
    return answer


def _difference(logits: Path, reference: Path) -> float:
    """Of two mattes, the largest."""
    first, second = (1 / (1 + np.exp(-np.load(path))) for path in (logits, reference))
    return float(np.abs(first - second).max())


def row(result: Result) -> list[str]:
    """The cells of the table, in the order of `HEADS`."""
    cell = result.cell
    size = f"{result.width}x{result.height}" if result.width else str(cell.size or "")
    start = [cell.model, cell.engine, cell.precision, size]
    if result.missing:
        return [*start, result.missing, *[""] * (len(HEADS) - 5)]
    return [
        *start,
        f"{result.median:.0f}",
        f"{result.spread:.0f}",
        f"{1000 / result.median:.2f}",
        "" if result.peak_mb is None else f"{result.peak_mb:.0f}",
        f"{result.parameters / 1e6:.1f} M" if result.parameters else "",
        f"{result.macs / 1e9:.1f}" if result.macs else "",
        "" if result.difference is None else f"{result.difference:.1e}",
    ]


def to_json(results: Sequence[Result]) -> str:
    """A list of what was measured."""
    values = [{**asdict(result.cell), **asdict(result)} for result in results]
    for value in values:
        del value["cell"]
    return json.dumps(values, indent=2)


def to_markdown(results: Sequence[Result]) -> str:
    """The table as Markdown."""
    lines = [HEADS, ["---"] * 4 + ["--:"] * (len(HEADS) - 4), *map(row, results)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def print_table(results: Sequence[Result]) -> None:
    """The table on standard output."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD)
    for number, head in enumerate(HEADS):
        table.add_column(head, justify="left" if number < 4 else "right", overflow="fold")
    for result in results:
        table.add_row(*map(escape, row(result)))
    console().print(table)
