"""Runs networks with OpenVINO: files of its own kind, and graphs made of a network here."""

from __future__ import annotations

import functools
import os
import threading
from collections import OrderedDict, deque
from collections.abc import Iterator
from contextlib import contextmanager
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, DeviceError, WeightsError, needs_extra
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import (
    KEY,
    MOST_CONCURRENT,
    Metadata,
    Output,
    call_in_forks,
    never_delete,
)

if TYPE_CHECKING:
    from openvino import CompiledModel, Core, InferRequest, Model, Node
    from openvino import Output as Port
    from openvino.frontend import NodeContext

COMPILED = 3  # sizes whose compiled network is kept; each holds its own copy of the weights
_HINTS = {"fp32": "f32", "bf16": "bf16", "fp16": "f16"}
# Operations behind which an output is still what it was before them, for finding the sigmoid.
_TRANSPARENT = {"Convert", "Squeeze", "Unsqueeze", "Reshape", "Clamp", "Transpose", "Result"}
_CHANNELS = {False: ("3", "?"), True: ("4",)}  # of pictures, or guided ones, in a shape's words


class UnknownModuleError(BiRefNetError):
    """A network cannot be an OpenVINO graph of any size (one with a timm backbone)."""


class OpenVinoEngine:
    """An OpenVINO graph on one device.

    The graph is compiled for each size when it is first met, since a compiled graph of fixed size
    is quicker than one of free size. Pictures run one by one: on a CPU a batch is not quicker.

    A file without this package's metadata is taken for one of the usual kind: one float input
    [B, 3, H, W], normalised by ImageNet's mean and deviation; of several outputs the last one;
    logits, unless the output comes from a sigmoid.

    Args:
        source: an .xml file with its .bin beside it, an .onnx file, or a graph in memory.
        device: auto or cpu; gpu, npu or gpu:1 where OpenVINO finds them.
        dtype: of the arithmetic, in a file of int8 beside the integers: fp32, bf16 (quicker, a
            little further off) or fp16. auto is fp32, and beside integers bf16 on processors that
            have instructions for it.
        threads: of a CPU; `None` for OpenVINO's choice, the physical cores.
        metadata: of a graph in memory or an .onnx file; an .xml file has its own.

    Raises:
        MissingExtraError: openvino is not installed.
        DeviceError: the device or precision is not there.
        WeightsError: not an OpenVINO file, or one of another kind.
    """

    def __init__(
        self,
        source: str | os.PathLike[str] | Model,
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        *,
        metadata: Metadata | None = None,
    ) -> None:
        core, self._model = _read(source)
        self._core = core
        self._label = Path(source).name if isinstance(source, (str, os.PathLike)) else "the network"
        self.metadata = metadata or _read_metadata(self._model, self._label)
        self.device = _device(device, core)
        precision = _precision(dtype, self.metadata, self.device, core, self._label)
        # Files in int8 were exported so; in those of others the operation may have more settings.
        made_here = metadata is not None or self._model.has_rt_info([KEY])
        stays = self.metadata.precision == "int8" or not made_here
        if (precision, self.device) == ("bf16", "CPU") and not stays:
            self._model = _sampled(self._model)
        self._settings: dict[str, Any] = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_PRECISION_HINT": _HINTS[precision],
        }
        if threads is not None:
            self._settings["INFERENCE_NUM_THREADS"] = threads
        shown = f"int8 and {precision}" if self.metadata.precision == "int8" else precision
        self.name = f"openvino {self.device.lower()} {shown}"
        self.batch_size = 1
        self.takes_guidance = self.metadata.guided
        self._compiled: OrderedDict[tuple[int, int], _Compiled] = OrderedDict()
        self._lock = threading.Lock()
        self._many: OpenVinoEngine | None = None  # for concurrent calls, if that is another one
        self._concurrency: int | None = None
        call_in_forks(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked process: what is compiled runs in the calling thread, but streams have lost
        their threads."""
        for kept in (self._core, self._model, *self._compiled.values()):
            never_delete(kept)
        if self._many is not None:
            for compiled in self._many._compiled.values():
                never_delete(compiled)
        self._many, self._concurrency = None, 1
        self._lock = threading.Lock()  # another thread of the parent may hold the old one

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B,1,H,W], of a normalised batch, float32 [B,3,H,W] or guided.

        Raises:
            BiRefNetError: a size that the file does not take.
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        batch = np.ascontiguousarray(self.metadata.encode(batch), dtype=np.float32)
        result = np.empty((len(batch), 1, *batch.shape[2:]), np.float32)
        try:
            with self._lock:
                compiled = self._compile(batch.shape[2], batch.shape[3])
            with compiled.request() as request:
                for picture, target in zip(batch, result, strict=True):
                    outputs = request.infer([picture[None]])
                    target[...] = outputs[len(outputs) - 1].reshape(target.shape)
        except RuntimeError as failure:
            self._explain(failure, batch.shape)
        if not np.isfinite(result).all():
            raise DeviceError(
                f"{self._label} gave NaN or infinity as {self.name}; use dtype fp32, or its "
                "weights are damaged"
            )
        return self.metadata.decode(result)

    def concurrent(self) -> tuple[OpenVinoEngine, int]:
        """On a CPU, the graph for concurrent calls, see `engines.base.concurrent`."""
        with self._lock:
            if self._concurrency is None:
                self._many, self._concurrency = self._make_concurrent()
            return self._many or self, self._concurrency

    def _make_concurrent(self) -> tuple[OpenVinoEngine | None, int]:
        threads = self._settings.get("INFERENCE_NUM_THREADS")
        cores = int(threads or os.cpu_count() or 1) if self.device == "CPU" else 1
        concurrency = min(cores, MOST_CONCURRENT)
        if concurrency == 1:
            return None, 1
        engine = copy(self)
        engine._compiled, engine._lock = OrderedDict(), threading.Lock()
        engine._settings = {
            **self._settings,
            "PERFORMANCE_HINT": "THROUGHPUT",
            "NUM_STREAMS": concurrency,
            "INFERENCE_NUM_THREADS": cores,
            # Each size has streams of its own; pinned, those of two sizes would share one core
            # and leave the others idle.
            "ENABLE_CPU_PINNING": False,
        }
        engine._concurrency = concurrency
        return engine, concurrency

    def _compile(self, height: int, width: int) -> _Compiled:
        """The graph for one picture of this size; the sizes used last are kept."""
        size = (height, width)
        if size in self._compiled:
            self._compiled.move_to_end(size)
            return self._compiled[size]
        graph = self._model
        shape = graph.inputs[0].partial_shape
        for side, fixed in zip(size, (shape[2], shape[3]), strict=True):
            if fixed.is_static and fixed.get_length() != side:
                raise BiRefNetError(
                    f"{self._label} takes {shape[3]}x{shape[2]} pixels only and got "
                    f"{width}x{height}; leave the resolution as it is, or export with --dynamic"
                )
        if shape.is_dynamic or shape[0].get_length() != 1:
            graph = graph.clone()
            graph.reshape([1, 4 if self.metadata.guided else 3, height, width])
        while len(self._compiled) >= COMPILED:
            self._compiled.popitem(last=False)
        model = self._core.compile_model(graph, self.device, self._settings)
        self._compiled[size] = _Compiled(model)
        return self._compiled[size]

    def _explain(self, failure: RuntimeError, shape: tuple[int, ...]) -> NoReturn:
        text = str(failure)
        if any(sign in text.lower() for sign in ("bad_alloc", "allocate", "out of memory")):
            raise DeviceError(
                f"{self.device} ran out of memory at {shape[3]}x{shape[2]}; use a smaller "
                "resolution or model"
            ) from failure
        raise BiRefNetError(f"OpenVINO failed on {self._label}: {_short(text)}") from failure


class _Compiled:
    """A graph for one size, and its requests that nobody is using."""

    def __init__(self, model: CompiledModel) -> None:
        self._model = model
        self._free: deque[InferRequest] = deque()

    @contextmanager
    def request(self) -> Iterator[InferRequest]:
        """One for the caller alone."""
        try:
            request = self._free.pop()
        except IndexError:
            request = self._model.create_infer_request()
        yield request
        self._free.append(request)


def has_bfloat16(device: str = "CPU") -> bool:
    """Whether OpenVINO has instructions for bfloat16 on this device."""
    return "BF16" in shared_core().get_property(device, "OPTIMIZATION_CAPABILITIES")


def shared_core() -> Core:
    """The one core of this process, which lives as long as it does.

    OpenVINO's plugin for CPUs gives the thread that loads it a stack of its own for signals, takes
    it away with the core, and then puts back the one that it found. Where cores end in another
    order than the reverse of their beginning, that is the stack of one that has ended, and the next
    signal, such as Ctrl-C, crashes the process.

    Raises:
        MissingExtraError: openvino is not installed.
    """
    with _making:
        return _make_core()


_making = threading.Lock()


@functools.cache
def _make_core() -> Core:
    with needs_extra("openvino", "the engine openvino"):
        import openvino
    # Two threads that hand over their first arrays at once wait for each other for ever: one holds
    # Python's lock, the other the one around the binding's table of numpy. So it is filled here.
    _ = openvino.Tensor(np.zeros(1, np.float32)).data
    return openvino.Core()


def _read(source: str | os.PathLike[str] | Model) -> tuple[Core, Model]:
    core = shared_core()
    if not isinstance(source, (str, os.PathLike)):
        return core, source
    path = Path(source)
    if path.suffix.lower() == ".onnx":
        _know_deform_conv()
    if path.suffix.lower() == ".xml" and not path.with_suffix(".bin").is_file():
        raise WeightsError(f"{path} has no {path.with_suffix('.bin').name} beside it")
    try:
        graph = core.read_model(str(path))
    except RuntimeError as failure:
        raise WeightsError(f"OpenVINO cannot load {path}: {_short(str(failure))}") from failure
    inputs = graph.inputs
    shape = inputs[0].partial_shape if len(inputs) == 1 else None
    channels = _CHANNELS[graph.has_rt_info([KEY]) and _read_metadata(graph, path.name).guided]
    if shape is None or shape.rank.is_dynamic or len(shape) != 4 or str(shape[1]) not in channels:
        came = ", ".join(str(one.partial_shape) for one in inputs)
        raise WeightsError(
            f"{path.name} takes {came or 'nothing'}; expected one input of pictures, "
            "[batch, 3, height, width]"
        )
    return core, graph


@functools.cache
def _know_deform_conv() -> None:
    """Teach the reader of ONNX files the deformable convolution, which it lacks."""
    from openvino.frontend.onnx import ConversionExtension

    def convert(node: NodeContext) -> list[Port]:
        x, weight, offset, _, mask = (node.get_input(number) for number in range(5))
        padding = list(node.get_attribute("pads"))[:2]
        return deformable_convolution(x, offset, mask, weight, padding).outputs()

    shared_core().add_extension(ConversionExtension("DeformConv", convert))


def deformable_convolution(
    x: Node | Port, offset: Node | Port, mask: Node | Port, weight: Node | Port, padding: list[int]
) -> Node:
    """Modulated deformable convolution, stride 1, zeros outside of the picture.

    OpenVINO takes offsets as pairs (dy, dx), taps row by row, as ours are.
    """
    import openvino.opset15 as ops

    return ops.deformable_convolution(
        x, offset, weight, [1, 1], padding, padding, [1, 1], mask=mask,
        bilinear_interpolation_pad=True,  # the picture continues with zeros
    )  # fmt: skip


def _sampled(graph: Model) -> Model:
    """The same with deformable convolutions as products, which are quicker in bfloat16."""
    from openvino.passes import ConstantFolding, Manager

    from birefnet.inference.engines.openvino_sampling import replace_deformables, separate

    graph = graph.clone()
    folding = Manager()
    folding.register_pass(ConstantFolding())
    folding.run_passes(graph)
    separate(graph)
    replace_deformables(graph)
    return graph


def _read_metadata(graph: Model, label: str) -> Metadata:
    if graph.has_rt_info([KEY]):
        return Metadata.from_json(graph.get_rt_info([KEY]).astype(str), label)
    shape = graph.inputs[0].partial_shape
    height, width = (side.get_length() if side.is_static else 1024 for side in (shape[2], shape[3]))
    return Metadata(
        name=Path(label).stem,
        preprocess=Preprocess(width=width, height=height),
        output=_what_comes_out(graph),
        size=(width, height),
        dynamic=shape[2].is_dynamic,
    )


def _what_comes_out(graph: Model) -> Output:
    """Whether a file of others gives mattes: its last output is a sigmoid's."""
    node: Node = graph.results[-1]
    while node.get_type_name() in _TRANSPARENT:
        node = node.input_value(0).get_node()
    return "matte" if node.get_type_name() == "Sigmoid" else "logits"


def _device(device: str, core: Core) -> str:
    if device == "auto":
        return "CPU"
    name = device.upper().replace(":", ".")
    here = core.available_devices
    if name not in here and name != "CPU":
        raise DeviceError(
            f"device {device!r} was asked for, but OpenVINO finds only "
            f"{', '.join(one.lower() for one in here)} here; ask for one of these, or use engine "
            "torch"
        )
    return name


def _precision(dtype: str, metadata: Metadata, device: str, core: Core, label: str) -> str:
    """The precision of the arithmetic, beside the integers of an int8 file."""
    capabilities = core.get_property(device, "OPTIMIZATION_CAPABILITIES")
    if metadata.precision == "int8" and dtype in ("auto", "int8"):
        # A quarter quicker, and no worse, see docs/performance.md.
        return "bf16" if device == "CPU" and "BF16" in capabilities else "fp32"
    if dtype == "auto":
        return "fp32"
    if dtype == metadata.precision == "fp16" and device == "CPU":
        return "fp32"  # its weights are stored in half precision; processors compute in single
    if dtype not in _HINTS:
        raise DeviceError(
            f"dtype {dtype!r} was asked for, and {label} is in {metadata.precision}; give auto, "
            "fp32 or bf16, or export it with --precision int8"
        )
    if dtype != "fp32" and dtype.upper() not in capabilities:
        raise DeviceError(
            f"{dtype} was asked for, but {device.lower()} has no instructions for it; ask for fp32"
        )
    return dtype


def _short(text: str) -> str:
    """The last line of a message that says something, without OpenVINO's file names."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    where = ("Exception from", "Check ", "While ")
    reasons = [line for line in lines if not line.startswith(where)]
    return (reasons or lines or ["no reason given"])[-1][:300]
