"""Which engine `auto` means, and what is refused."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from birefnet.errors import DeviceError, MissingExtraError, UnknownModelError
from birefnet.inference import load as loading
from birefnet.inference.load import choose_engine

INSTALLED = {
    "core": set(),
    "torch": {"torch"},
    "openvino": {"openvino"},
    "both": {"torch", "openvino"},
}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    def only(packages: str) -> None:
        monkeypatch.setattr(loading, "_is_there", lambda name: name in INSTALLED[packages])

    return only


@pytest.fixture
def with_openvino(install: Callable[[str], None]) -> None:
    install("both")


BUNDLED, PUBLISHED, WEIGHTS = "nano", "general", "mine.safetensors"


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of the name; what is in it does not matter."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / WEIGHTS).touch()


MISSING = "missing"


@pytest.mark.parametrize(
    ("installed", "model", "device", "dtype", "expected"),
    [
        ("core", BUNDLED, "auto", "auto", "onnx"),
        ("core", BUNDLED, "cpu", "fp32", "onnx"),
        ("core", BUNDLED, "cpu", "bf16", MISSING),
        ("core", BUNDLED, "mps", "auto", MISSING),
        ("core", BUNDLED, "directml", "auto", "onnx"),
        ("core", PUBLISHED, "auto", "auto", "onnx"),
        ("core", PUBLISHED, "coreml", "auto", "onnx"),
        ("core", WEIGHTS, "auto", "auto", MISSING),
        ("core", "dynamic", "auto", "auto", MISSING),
        ("torch", BUNDLED, "cpu", "auto", "onnx"),
        ("torch", BUNDLED, "cpu", "bf16", "torch"),
        ("torch", BUNDLED, "cuda", "auto", "torch"),
        ("torch", PUBLISHED, "cpu", "auto", "torch"),
        ("torch", WEIGHTS, "cpu", "auto", "torch"),
        ("openvino", BUNDLED, "auto", "auto", "openvino"),
        ("openvino", PUBLISHED, "auto", "auto", "onnx"),
        ("openvino", WEIGHTS, "auto", "auto", MISSING),
        ("both", BUNDLED, "cpu", "auto", "openvino"),
        ("both", BUNDLED, "cpu", "fp32", "openvino"),
        ("both", BUNDLED, "cpu", "fp16", "torch"),
        ("both", BUNDLED, "mps", "fp32", "torch"),
        ("both", BUNDLED, "coreml", "auto", "onnx"),
        ("both", WEIGHTS, "cpu", "auto", "openvino"),
    ],
)
def test_auto(
    install: Callable[[str], None],
    installed: str,
    model: str,
    device: str,
    dtype: str,
    expected: str,
) -> None:
    install(installed)
    if expected == MISSING:
        with pytest.raises(MissingExtraError, match=r"birefnet\[torch\]"):
            choose_engine("auto", model, device, dtype)
    else:
        assert choose_engine("auto", model, device, dtype).engine == expected


@pytest.mark.parametrize(
    ("installed", "engine", "model", "extra"),
    [
        ("core", "torch", BUNDLED, "torch"),
        ("core", "openvino", BUNDLED, "openvino"),
        ("openvino", "openvino", WEIGHTS, "torch"),
    ],
)
def test_an_engine_that_is_missing(
    install: Callable[[str], None], installed: str, engine: str, model: str, extra: str
) -> None:
    install(installed)
    with pytest.raises(MissingExtraError, match=rf"birefnet\[{extra}\]"):
        choose_engine(engine, model)


@pytest.mark.usefixtures("with_openvino")
def test_a_gpu_is_torch_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loading, "_has_accelerator", lambda: True)
    assert choose_engine("auto", "nano").engine == "torch"
    monkeypatch.setattr(loading, "_has_accelerator", lambda: False)
    assert choose_engine("auto", "nano").engine == "openvino"


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
    pytest.importorskip("torch")
    from birefnet.inference.engines import devices

    def load(name: str) -> None:
        if not library:
            raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(loading.ctypes, "CDLL", load)
    monkeypatch.setattr(loading, "_AMD", tmp_path if amd else tmp_path / "missing")
    monkeypatch.setattr(loading.sys, "platform", "linux")
    monkeypatch.setattr(devices, "available_devices", lambda: found)
    with monkeypatch.context() as without_torch:
        without_torch.delitem(sys.modules, "torch")
        assert choose_engine("auto", "nano").engine == expected
    assert choose_engine("auto", "nano").engine == ("openvino" if found == ["cpu"] else "torch")


def test_files_have_their_engine(tmp_path: Path) -> None:
    for name in ("a.onnx", "b.xml", "c.pt2"):
        (tmp_path / name).touch()
    assert choose_engine("auto", Path("a.onnx")).engine == "onnx"
    assert choose_engine("openvino", "b.xml").engine == "openvino"
    assert choose_engine("auto", "c.pt2").engine == "torch"
    with pytest.raises(DeviceError, match="runs in engine onnx, and openvino was asked for"):
        choose_engine("openvino", "a.onnx")


@pytest.mark.parametrize("engine", ["auto", "torch"])
@pytest.mark.parametrize("name", ["no-such-model", "nosuch.pth", "./nosuch", "nosuch/a/b"])
def test_a_name_that_means_nothing_is_refused_before_an_extra(
    name: str, engine: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_is_there", lambda package: False)
    with pytest.raises(UnknownModelError):
        choose_engine(engine, name)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(DeviceError, match="give one of auto, torch, openvino, onnx"):
        choose_engine("tensorflow", "nano")
    with pytest.raises(DeviceError, match="birefnet export"):
        choose_engine("onnx", WEIGHTS)
