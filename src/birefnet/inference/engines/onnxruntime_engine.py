"""Runs ONNX files: this package's exports, the released ones, and others of their kind."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from birefnet.errors import (
    BiRefNetError,
    DeviceError,
    UnknownDeviceError,
    WeightsError,
)
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import (
    KEY,
    Metadata,
    Output,
    Precision,
    call_in_forks,
    logits_of,
    never_delete,
)

if TYPE_CHECKING:
    from onnxruntime import InferenceSession

# The device's name → ONNX Runtime's.
PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "rocm": "ROCMExecutionProvider",
    "migraphx": "MIGraphXExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
}
_PACKAGES = {"cuda": "onnxruntime-gpu", "tensorrt": "onnxruntime-gpu"} | {
    "directml": "onnxruntime-directml",
    "openvino": "onnxruntime-openvino",
}
# Operators behind which an output is still what it was before them, for finding the sigmoid.
_TRANSPARENT = {"Identity", "Cast", "Squeeze", "Unsqueeze", "Reshape", "Clip", "Transpose"}
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
}


class OnnxEngine:
    """An ONNX file on one device.

    A file without this package's metadata is taken for one of the released kind: one float input
    [B, 3, H, W], normalised by ImageNet's mean and deviation; of several outputs the last one of
    full size; logits, unless the output comes from a sigmoid. Where the package onnx is not
    installed, an output all of whose values lie in [0, 1] is taken for a sigmoid's.

    Args:
        path: the file; weights beside it are found by their names.
        device: auto (CUDA where ONNX Runtime has it, else cpu), cpu, cuda, cuda:1, tensorrt,
            directml, coreml, openvino …
        dtype: auto, or the precision that the file has.
        threads: of a CPU; `None` for ONNX Runtime's choice, the physical cores.
        output: what a file of others gives; `None` finds it out.

    Raises:
        DeviceError: onnxruntime or the device is not there, or the file has another precision.
        WeightsError: not an ONNX file, or one of another kind.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        device: str = "auto",
        dtype: str = "auto",
        threads: int | None = None,
        output: Output | None = None,
    ) -> None:
        try:
            import onnxruntime
        except ImportError:
            raise DeviceError(
                "ONNX Runtime is missing: pip install onnxruntime, or where pip finds none of 1.25 "
                'or newer, such as on a Mac with Intel, pip install "birefnet[openvino]" and take '
                "bundled models and .xml files"
            ) from None
        self.path = Path(path)
        self.device, providers = _providers(device, onnxruntime)
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        if threads is not None:
            options.intra_op_num_threads = threads
        try:
            self.session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        except Exception as failure:
            self._refuse(failure, onnxruntime.__version__)
        actual = self.session.get_providers()[0]
        if actual != _name_of(providers[0]):
            raise DeviceError(
                f"device {device!r} was asked for, but ONNX Runtime could not start it and fell "
                f"back to {actual}: its libraries are missing or do not fit the driver; ask for "
                "device cpu, or install them"
            )
        self._input = _only_input(self.session, self.path)
        self._type = _TYPES[self._input.type]
        self.metadata = self._read_metadata(output)
        self.metadata.require(dtype, self.path.name)
        self.name = f"onnxruntime {self.device} {self.metadata.precision}"
        self.batch_size = 1 if self.device == "cpu" else 4
        self.takes_guidance = self.metadata.guided
        call_in_forks(self._after_fork)

    def _after_fork(self) -> None:
        """In a forked process: a session runs in the calling thread, but cannot join its own."""
        never_delete(self.session)

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Logits, float32 [B,1,H,W], of a normalised batch, float32 [B,3,H,W] or guided.

        Raises:
            BiRefNetError: a size that the file does not take.
            DeviceError: not enough memory, or numbers beyond what the precision can hold.
        """
        fixed = self._input.shape[0]
        step = fixed if isinstance(fixed, int) else len(batch)
        parts = [self._run(batch[first : first + step]) for first in range(0, len(batch), step)]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        self._check_size(batch)
        fixed = self._input.shape[0]
        count = len(batch)
        if isinstance(fixed, int) and count < fixed:  # the last, short part of a batch
            batch = np.concatenate([batch, np.repeat(batch[-1:], fixed - count, axis=0)])
        given = np.ascontiguousarray(self.metadata.encode(batch), dtype=self._type)
        try:
            outputs = self.session.run(None, {self._input.name: given})
        except Exception as failure:
            self._explain(failure, batch.shape)
        height, width = batch.shape[2:]
        number, result = _full_size(outputs, len(batch), height, width, self.path)
        result = result[:count]
        self.metadata.check_finite(result, self.path.name)
        if self._mattes is None:
            return logits_of(result) if result.min() >= 0 and result.max() <= 1 else result
        return logits_of(result) if number in self._mattes else result

    def _check_size(self, batch: NDArray[np.float32]) -> None:
        if self.metadata.input == "pixels":
            width, height = self.metadata.size
        else:
            height, width = self._input.shape[2:]
        for side, free in ((batch.shape[2], height), (batch.shape[3], width)):
            if isinstance(free, int) and side != free:
                raise BiRefNetError(
                    f"{self.path.name} takes {width}x{height} pixels only and got "
                    f"{batch.shape[3]}x{batch.shape[2]}; leave the resolution as it is, or export "
                    "with --dynamic"
                )

    def _read_metadata(self, output: Output | None) -> Metadata:
        entries = self.session.get_modelmeta().custom_metadata_map
        if KEY in entries:
            metadata = Metadata.from_json(entries[KEY], str(self.path))
            self._mattes: set[int] | None = {0} if metadata.output == "matte" else set()
            return metadata
        shape = self._input.shape
        if len(shape) != 4 or (shape[1] not in (3, None) and isinstance(shape[1], int)):
            raise WeightsError(
                f"the input of {self.path.name} has shape {shape}; expected a picture of three "
                "channels, [batch, 3, height, width]"
            )
        height, width = (side if isinstance(side, int) else 1024 for side in shape[2:])
        self._mattes = _mattes(self.path) if output is None else set()
        if output == "matte":
            self._mattes = set(range(len(self.session.get_outputs())))
        is_matte = len(self.session.get_outputs()) - 1 in (self._mattes or ())
        precision: Precision = "fp16" if self._type == np.float16 else "fp32"
        return Metadata(
            name=self.path.stem,
            preprocess=Preprocess(width=width, height=height),
            output="matte" if is_matte else "logits",
            precision=precision,
            size=(width, height),
            dynamic=not isinstance(shape[2], int),
        )

    def _refuse(self, failure: Exception, version: str) -> NoReturn:
        text = str(failure)
        if "DeformConv" in text and ("NOT_IMPLEMENTED" in text or "not a registered" in text):
            raise DeviceError(
                f"onnxruntime {version} has no deformable convolution on {self.device}; install "
                "onnxruntime 1.25 or newer, or where there is none another engine (pip install "
                '"birefnet[openvino]" or "birefnet[torch]"), or export with --standard-ops'
            ) from failure
        raise WeightsError(f"ONNX Runtime cannot load {self.path}: {_short(text)}") from failure

    def _explain(self, failure: Exception, shape: tuple[int, ...]) -> NoReturn:
        text = str(failure)
        if any(sign in text.lower() for sign in ("bad_alloc", "allocate", "out of memory")):
            raise DeviceError(
                f"{self.device} ran out of memory on a batch of {shape[0]} at "
                f"{shape[3]}x{shape[2]}; use a smaller batch size, resolution or model"
            ) from failure
        raise BiRefNetError(f"ONNX Runtime failed on {self.path.name}: {_short(text)}") from failure


def _providers(device: str, onnxruntime: Any) -> tuple[str, list[object]]:
    """The device's name, and what ONNX Runtime is to be asked for."""
    here = onnxruntime.get_available_providers()
    if device == "auto":
        device = "cuda" if PROVIDERS["cuda"] in here else "cpu"
    kind, _, index = device.partition(":")
    if kind not in PROVIDERS or (index and not index.isdecimal()):
        raise UnknownDeviceError(
            f"device {device!r} is unknown to ONNX Runtime; give auto, {', '.join(PROVIDERS)} or "
            "cuda:1"
        )
    provider = PROVIDERS[kind]
    if provider not in here:
        known = ", ".join(name for name, value in PROVIDERS.items() if value in here)
        package = _PACKAGES.get(kind)
        cure = f"install {package} in place of onnxruntime, or ask for" if package else "ask for"
        raise DeviceError(
            f"device {device!r} was asked for, but onnxruntime {onnxruntime.__version__} has only "
            f"{known} here; {cure} one of these"
        )
    if kind == "cpu":
        return "cpu", [provider]
    chosen = (provider, {"device_id": int(index)}) if index else provider
    # What a provider has no kernel for runs on the CPU, as ONNX Runtime means it.
    return device, [chosen, PROVIDERS["cpu"]]


def _name_of(provider: Any) -> str:
    return provider if isinstance(provider, str) else provider[0]


def _only_input(session: InferenceSession, path: Path) -> Any:
    inputs = session.get_inputs()
    if len(inputs) != 1 or inputs[0].type not in _TYPES:
        came = ", ".join(f"{one.name} ({one.type})" for one in inputs)
        raise WeightsError(
            f"{path.name} takes {came or 'nothing'}; expected one input of pictures, such as the "
            "released networks have"
        )
    return inputs[0]


def _mattes(path: Path) -> set[int] | None:
    """Which outputs of a file of others are mattes: those that come from a sigmoid.

    `None` without the package onnx, for ONNX Runtime does not show the operators of a graph.
    """
    try:
        import onnx
    except ImportError:
        return None
    graph = onnx.load(str(path), load_external_data=False).graph
    made_by = {name: node for node in graph.node for name in node.output}
    mattes = set()
    for number, output in enumerate(graph.output):
        node = made_by.get(output.name)
        while node is not None and node.op_type in _TRANSPARENT:
            node = made_by.get(node.input[0])
        if node is not None and node.op_type in ("Sigmoid", "HardSigmoid"):
            mattes.add(number)
    return mattes


def _full_size(
    outputs: list[Any], batch: int, height: int, width: int, path: Path
) -> tuple[int, NDArray[np.float32]]:
    """Of several outputs (some networks give their coarse maps too) the last of full size.

    Its number, and its values (batch, 1, height, width).
    """
    for number in reversed(range(len(outputs))):
        values = np.asarray(outputs[number])
        if values.size == batch * height * width and values.shape[-2:] == (height, width):
            shape = (batch, 1, height, width)
            return number, values.reshape(shape).astype(np.float32, copy=False)
    shapes = ", ".join(str(list(np.shape(output))) for output in outputs)
    raise WeightsError(
        f"{path.name} gave {shapes} for a batch of {batch} at {width}x{height}; expected one map "
        "of that size for each picture"
    )


def _short(text: str) -> str:
    """The first line of a message, without ONNX Runtime's codes."""
    line = text.strip().splitlines()[0] if text.strip() else "no reason given"
    return line.split(" : ")[-1].split(":", 1)[-1].strip()[:300] or line[:300]
