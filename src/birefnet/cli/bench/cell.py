"""One cell of `birefnet bench`, in a process of its own: `python -m birefnet.cli.bench.cell`."""

from __future__ import annotations

import json
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from birefnet.cli.bench.run import Cell, is_carried
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import Engine
from birefnet.inference.load import open_exported

if TYPE_CHECKING:
    from birefnet.export.request import Request
    from birefnet.network.birefnet import BiRefNet


def measure(order: dict[str, Any]) -> dict[str, Any]:
    """Run the network of a cell; what `Result` holds of it."""
    cell = Cell(**order["cell"])
    file = order.get("file") or (cell.model if cell.engine == "file" else None)
    facts: dict[str, object] = {}
    if file is None:
        engine, preprocess, facts = _loaded(cell)
    else:
        opened = open_exported(file, device=cell.device)
        engine, preprocess = opened, opened.metadata.preprocess
        if cell.engine != "file":
            facts = json.loads(Path(f"{file}.facts").read_text(encoding="utf-8"))
    width, height = _size(cell, preprocess)
    batch = np.random.default_rng(0).standard_normal((cell.batch, 3, height, width))
    pictures = batch.astype(np.float32)
    np.save(order["logits"], engine.infer(pictures))  # warms up
    rounds = []
    for _ in range(cell.rounds):
        start = time.perf_counter()
        engine.infer(pictures)
        rounds.append(1000 * (time.perf_counter() - start) / cell.batch)
    peak = _peak_mb()
    if facts and not facts.get("macs"):
        facts["macs"] = _macs(cell.model, width, height)
    return {
        **facts,
        "width": width,
        "height": height,
        "milliseconds": rounds,
        "peak_mb": peak,
    }


def prepare(order: dict[str, Any]) -> dict[str, Any]:
    """Write the file that an engine runs, and beside it what is known of the network."""
    from birefnet.export.openvino import export_openvino

    cell = Cell(**order["cell"])
    request, facts = _request(cell)
    file = Path(order["file"])
    if cell.engine == "onnx":
        from birefnet.export.onnx import export_onnx

        export_onnx(request, file)
    else:
        export_openvino(request, file)
    Path(f"{file}.facts").write_text(json.dumps(facts), encoding="utf-8")
    return {}


def _request(cell: Cell) -> tuple[Request, dict[str, object]]:
    from birefnet.export.calibration import CalibrationPictures
    from birefnet.export.parity import synthetic_batch
    from birefnet.export.request import Request
    from birefnet.network.simplify import simplify

    network, preprocess = _network(cell.model)
    facts = _facts(network)
    size = _size(cell, preprocess)
    calibration: Any = ()
    if cell.precision == "int8" and cell.calibrate:
        calibration = CalibrationPictures(Path(cell.calibrate), preprocess, size)
    elif cell.precision == "int8":
        drawn = synthetic_batch(2, size[1], size[0], preprocess.mean, preprocess.std)
        calibration = [drawn[:1], drawn[1:]]
    simplified = simplify(network, inplace=True)
    precision: Any = cell.precision
    return Request(simplified, preprocess, precision, size=size, calibration=calibration), facts


def _loaded(cell: Cell) -> tuple[Engine, Preprocess, dict[str, object]]:
    if is_carried(cell):
        return _carried(cell)
    from birefnet.network.simplify import simplify

    network, preprocess = _network(cell.model)
    facts = _facts(network)
    network = simplify(network, inplace=True)
    if cell.engine == "openvino":
        from birefnet.inference.engines.base import Metadata
        from birefnet.inference.engines.openvino_convert import convert
        from birefnet.inference.engines.openvino_engine import OpenVinoEngine

        about = Metadata(cell.model, preprocess)
        engine = OpenVinoEngine(convert(network), dtype=cell.precision, metadata=about)
        return engine, preprocess, facts
    from birefnet.inference.engines.torch_engine import TorchEngine

    return TorchEngine(network, cell.device, cell.precision), preprocess, facts


def _carried(cell: Cell) -> tuple[Engine, Preprocess, dict[str, object]]:
    from birefnet.api import load
    from birefnet.weights.obtain import weight_files

    settings = weight_files(cell.model).settings
    predictor = load(cell.model, device=cell.device, dtype=cell.precision, engine=cell.engine)
    facts: dict[str, object] = {"parameters": settings.get("parameters", 0), "macs": 0}
    return predictor.engine, predictor.preprocess, facts


def _network(name: str) -> tuple[BiRefNet, Preprocess]:
    """A network by name; an architecture gets random weights, the same each time."""
    import torch

    from birefnet.api import load_network
    from birefnet.network.config import PRESETS
    from birefnet.weights.checkpoint import load_checkpoint
    from birefnet.weights.locate import bundled_names

    if name in PRESETS and name not in bundled_names():
        torch.manual_seed(0)
        network = load_network(name)
        for key, parameter in network.named_parameters():
            if ".offset." in key or ".modulator." in key:  # trained ones are not zero
                torch.nn.init.normal_(parameter, 0, 0.02)
        return network, Preprocess()
    loaded = load_checkpoint(name)
    return loaded.network, loaded.preprocess


def _facts(network: BiRefNet) -> dict[str, object]:
    from birefnet.network.macs import count_parameters

    return {"parameters": count_parameters(network), "macs": 0}


def _macs(name: str, width: int, height: int) -> int:
    """Of the network as it was trained, before simplification; 0 where torch cannot count them."""
    if find_spec("torch") is None:
        return 0
    from birefnet.network.macs import count_macs

    return count_macs(_network(name)[0].config, (width, height))


def _size(cell: Cell, preprocess: Preprocess) -> tuple[int, int]:
    if cell.size is None:
        return preprocess.width, preprocess.height
    return cell.size, cell.size


def _peak_mb() -> float | None:
    """Largest resident memory of this process.

    Not `getrusage`: its maximum is inherited from the process that started this one.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


def main() -> None:
    """Do the task of the first argument with the order of the second."""
    task, order = sys.argv[1], json.loads(sys.argv[2])
    answer = {"measure": measure, "prepare": prepare}[task](order)
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
