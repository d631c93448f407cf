"""Export, compare, report: what `birefnet export` does."""

from __future__ import annotations

import json
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, UsageError, needs_extra

with needs_extra("torch", __name__):
    import torch

from birefnet.export.parity import Parity, compare, compare_mattes, synthetic_batch
from birefnet.export.request import (
    SUFFIXES,
    ExportResult,
    Format,
    Request,
    check_extras,
    format_of,
)
from birefnet.export.script import script, script_of
from birefnet.files import draft_folder
from birefnet.imaging.io import decode, write_atomic
from birefnet.imaging.views import View, apply_view
from birefnet.inference.load import ExportedEngine, open_exported
from birefnet.inference.predictor import Predictor
from birefnet.network.birefnet import BiRefNet

# Format → module and function, called with (request, path), which gives the files it wrote.
WRITERS = {
    "onnx": ("birefnet.export.onnx", "export_onnx"),
    "openvino": ("birefnet.export.openvino", "export_openvino"),
    "torch": ("birefnet.export.torch_program", "export_torch_program"),
}
_LARGE = 512 * 512  # pixels above which a dynamic export is compared with one picture only
_BATCHES = (1, 3)
_RUNS, _SECONDS = 5, 5.0  # of a measured latency, at most
_SLOWER = 1.1  # times the latency in fp32, beyond the noise of a measurement
_PICTURES = 16  # whose masks are compared

Progress = Callable[[int, int], object]


def export(
    request: Request,
    path: Path,
    format: Format | None = None,
    *,
    force: bool = False,
    progress: Progress = lambda done, total: None,
) -> ExportResult:
    """Write the file, run it beside the network, and save the report `PATH.json` and a script.

    Args:
        request: what to export.
        path: where to; its suffix is the format's.
        format: `None` takes it from the suffix.
        force: keep the file though it differs from the network by more than its precision allows.
        progress: called with the number of steps done and of all.

    Raises:
        BiRefNetError: no such format, or the file differs; it is removed then, the report stays.
        MissingExtraError: the format's packages are not installed.
    """
    format = format or format_of(path)
    if path.suffix.lower() != SUFFIXES[format]:
        raise UsageError(
            f"a file of format {format} ends with {SUFFIXES[format]}, and {path.name} does not"
        )
    check_extras(format, request.precision)
    path.parent.mkdir(parents=True, exist_ok=True)
    module, name = WRITERS[format]
    write: Callable[[Request, Path], list[Path]] = getattr(import_module(module), name)
    steps = 3 + (request.precision == "fp16")
    progress(0, steps)
    started = time.perf_counter()
    files = write(request, path)
    seconds = time.perf_counter() - started
    progress(1, steps)
    engine = open_exported(path, device="cpu")
    parity = check(request, engine)
    progress(2, steps)
    latency, notes = _latency(engine, request), _notes(request)
    iou = _iou(engine, request)
    progress(3, steps)
    if request.precision == "fp16":
        notes += _compare_with_fp32(request, path, write, latency)
        progress(4, steps)
    report = path.with_name(path.name + ".json")
    metadata, runner = request.metadata(), script_of(path)
    result = ExportResult(
        path, files, metadata, parity, report, seconds, runner, latency, notes, iou
    )
    write_atomic(report, json.dumps(to_dict(result), indent=2).encode())
    if parity.passed or force:
        text = script(path, format, metadata, standard_ops=request.standard_ops)
        write_atomic(runner, text.encode())
    else:
        for file in files:
            file.unlink()
        raise BiRefNetError(
            f"the exported file gives other mattes than the network (see {report}) and was "
            "removed; take a higher precision, or keep it with --force"
        )
    return result


def check(request: Request, engine: ExportedEngine) -> Parity:
    """Run the exported file on the CPU beside the network.

    Logits of batches: two sizes, one and three pictures (a file of one size at that one, a file of
    several views at the largest and smallest). Mattes of whole pictures: as a `Predictor` with the
    weights' preprocessing makes them, and one with what the file says of itself.
    """
    reference = _Reference(request.network)
    batches = (_batch(request, count, width, height) for width, height, count in _cases(request))
    gives_logits = engine.metadata.output == "logits"
    logits = compare(reference.infer, engine, batches, request.precision, gives_logits=gives_logits)
    given = Predictor(reference, request.preprocess)
    mattes = compare_mattes(
        lambda picture: given.predict(picture, resolution=request.size).alpha,
        lambda picture: Predictor(engine).predict(picture).alpha,
        _pictures(request),
    )
    return replace(logits, cases=[*logits.cases, *mattes])


def _latency(engine: ExportedEngine, request: Request) -> float:
    """Median time of a whole picture [ms], of at most five runs in about five seconds."""
    predictor, picture = Predictor(engine), _pictures(request)[0]
    times: list[float] = []
    while len(times) < _RUNS and sum(times) < _SECONDS:
        started = time.perf_counter()
        predictor.predict(picture)
        times.append(time.perf_counter() - started)
    return 1000 * statistics.median(times)


def _iou(engine: ExportedEngine, request: Request) -> float | None:
    """Mean intersection over union of the masks, at one half, of the file and of the network."""
    exported = Predictor(engine)
    network = Predictor(_Reference(request.network), request.preprocess)
    found = []
    for path in request.pictures[:: -(-len(request.pictures) // _PICTURES) or 1]:
        picture = decode(path)
        expected = network.predict(picture, resolution=request.size).alpha > 0.5
        actual = exported.predict(picture).alpha > 0.5
        union = int((expected | actual).sum())
        found.append(int((expected & actual).sum()) / union if union else 1.0)
    return statistics.fmean(found) if found else None


def _compare_with_fp32(
    request: Request, path: Path, write: Callable[[Request, Path], list[Path]], latency: float
) -> list[str]:
    """A sentence if the same file in fp32 is faster on this CPU."""
    with draft_folder(path) as folder:
        other = folder / path.name
        write(replace(request, precision="fp32"), other)
        full = _latency(open_exported(other, device="cpu"), request)
    if latency < _SLOWER * full:
        return []
    return [
        f"fp16 is slower than fp32 on this CPU ({latency:.0f} and {full:.0f} ms): take fp32 or "
        "int8 for CPUs, fp16 for GPUs."
    ]


@dataclass
class _Reference:
    """The network itself, as an `Engine`."""

    network: BiRefNet
    name: str = "torch cpu fp32"
    batch_size: int = 1

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = self.network(torch.from_numpy(batch)).numpy()
        return logits


def _pictures(request: Request) -> list[NDArray[np.uint8]]:
    """A landscape and a portrait, H x W x 3; of large inputs the landscape alone."""
    count = 1 if math.prod(request.input_size) > _LARGE else 2
    drawn = synthetic_batch(2, 300, 400, (0, 0, 0), (1 / 255, 1 / 255, 1 / 255))
    landscape, other = (np.ascontiguousarray(one.transpose(1, 2, 0)) for one in drawn.round())
    both = (landscape, np.ascontiguousarray(other.transpose(1, 0, 2)))
    return [one.astype(np.uint8) for one in both[:count]]


def _notes(request: Request) -> list[str]:
    """Sentences on how the file differs from the request, or from what the weights want."""
    if request.is_dynamic and not request.dynamic:
        return [f"The file takes every size, for its weights want pictures {request.preprocess}."]
    if request.size is not None and request.wants_more_views:
        return [
            f"The file has one view of {request.size[0]}x{request.size[1]}, as requested; "
            f"its weights want pictures {request.preprocess}, and give other mattes so."
        ]
    return []


def _cases(request: Request) -> list[tuple[int, int, int]]:
    """Width, height and batch of each comparison."""
    views = request.written_preprocess.views
    if views:
        sides = [view[:2] for view in views]
        return [(*max(sides), 1), *((*min(sides), count) for count in _BATCHES)]
    width, height = request.input_size
    if not request.is_dynamic or request.with_preprocessing:
        return [(width, height, count) for count in _BATCHES]
    cases = []
    if width * height > _LARGE:
        cases.append((width, height, 1))
        width, height = min(width, 512), min(height, 512)
    # Another size and shape; the ranges of integers hold for sizes near that of their pictures.
    across, down = (6, 5) if request.precision == "int8" else (5, 3)
    other = (max(96, width * across // 8 // 32 * 32), max(32, height * down // 8 // 32 * 32))
    sizes = [(width, height), other]
    return cases + [(*size, count) for size in sizes for count in _BATCHES]


def _batch(request: Request, count: int, width: int, height: int) -> NDArray[np.float32]:
    """Calibration pictures, shrunk to this size, where there are enough; else drawn ones."""
    shown = [request.calibration[number] for number in range(min(count, len(request.calibration)))]
    if len(shown) == count and all(
        picture.shape[2] >= height and picture.shape[3] >= width for picture in shown
    ):
        return np.concatenate([apply_view(picture, View(width, height)) for picture in shown])
    preprocess = request.preprocess
    return synthetic_batch(
        count, height, width, preprocess.mean, preprocess.std, guided=request.is_guided
    )


def to_dict(result: ExportResult) -> dict[str, object]:
    """The report, as plain values for JSON."""
    return {
        "file": result.path.name,
        "files": {file.name: file.stat().st_size for file in result.files},
        "seconds": round(result.seconds, 1),
        "metadata": json.loads(result.metadata.to_json()),
        "parity": result.parity.to_dict(),
        "latency_ms": round(result.latency, 1),
        "iou": result.iou,
        "script": result.script.name,
        "notes": result.notes,
    }
