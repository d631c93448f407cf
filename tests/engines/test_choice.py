"""Which engine `auto` means, and what is refused."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from birefnet.engines import choice
from birefnet.engines.choice import choose_engine
from birefnet.errors import DeviceError, MissingExtraError


@pytest.fixture
def with_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: find_spec("json"))


@pytest.fixture
def without_openvino(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "find_spec", lambda name: None)


@pytest.mark.usefixtures("with_openvino")
@pytest.mark.parametrize(
    ("device", "dtype", "expected"),
    [
        ("cpu", "auto", "openvino"),
        ("cpu", "fp32", "openvino"),
        ("cpu", "fp16", "torch"),
        ("cuda", "auto", "torch"),
        ("mps", "fp32", "torch"),
    ],
)
def test_auto(device: str, dtype: str, expected: str) -> None:
    assert choose_engine("auto", "nano", device, dtype) == expected


@pytest.mark.usefixtures("without_openvino")
def test_without_openvino() -> None:
    assert choose_engine("auto", "nano", "cpu") == "torch"
    with pytest.raises(MissingExtraError, match=r"birefnet\[openvino\]"):
        choose_engine("openvino", "nano")


@pytest.mark.usefixtures("with_openvino")
def test_a_gpu_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choice, "_has_accelerator", lambda: True)
    assert choose_engine("auto", "nano") == "torch"
    monkeypatch.setattr(choice, "_has_accelerator", lambda: False)
    assert choose_engine("auto", "nano") == "openvino"


@pytest.mark.parametrize(
    ("library", "amd", "found", "expected"),
    [
        (True, False, ["cuda:0", "cpu"], "torch"),  # /proc and /dev tell nothing under WSL2
        (True, False, ["cpu"], "openvino"),  # a driver, but no card, or a torch without CUDA
        (False, True, ["cuda:0", "cpu"], "torch"),
        (False, False, ["cuda:0", "cpu"], "openvino"),
    ],
)
@pytest.mark.usefixtures("with_openvino")
def test_torch_is_asked_where_a_driver_is(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    library: bool,
    amd: bool,
    found: list[str],
    expected: str,
) -> None:
    from birefnet.engines import devices

    def load(name: str) -> None:
        if not library:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(choice.ctypes, "CDLL", load)
    monkeypatch.setattr(choice, "_AMD", tmp_path if amd else tmp_path / "missing")
    monkeypatch.setattr(choice.sys, "platform", "linux")
    monkeypatch.setattr(devices, "available_devices", lambda: found)
    with monkeypatch.context() as without_torch:
        without_torch.delitem(sys.modules, "torch")
        assert choose_engine("auto", "nano") == expected
    assert choose_engine("auto", "nano") == ("openvino" if found == ["cpu"] else "torch")


def test_files_have_their_engine() -> None:
    assert choose_engine("auto", Path("a.onnx")) == "onnx"
    assert choose_engine("openvino", "b.xml") == "openvino"
    assert choose_engine("auto", "c.pt2") == "torch"
    with pytest.raises(DeviceError, match="runs in engine onnx, and openvino was asked for"):
        choose_engine("openvino", "a.onnx")


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DeviceError, match="give one of auto, torch, openvino, onnx"):
        choose_engine("tensorflow", "nano")
    with pytest.raises(DeviceError, match="birefnet export"):
        choose_engine("onnx", "nano")
