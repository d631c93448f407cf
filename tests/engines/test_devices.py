"""Devices and precisions: found, refused, never silently swapped."""

from __future__ import annotations

import pytest
import torch

from birefnet.engines import devices
from birefnet.errors import DeviceError


def test_auto_takes_the_first_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (["cuda:0", "cuda:1", "cpu"], ["mps", "cpu"], ["cpu"]):
        monkeypatch.setattr(devices, "available_devices", lambda found=found: found)
        assert devices.resolve_device("auto") == torch.device(found[0])


def test_auto_precision_follows_the_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "supports", lambda device, dtype: True)
    assert devices.resolve_dtype("auto", torch.device("cuda")) == torch.float16
    assert devices.resolve_dtype("auto", torch.device("mps")) == torch.float32
    assert devices.resolve_dtype("auto", torch.device("cpu")) == torch.float32


@pytest.mark.parametrize(
    ("name", "dtype"),
    [("fp32", torch.float32), ("half", torch.float16), ("bfloat16", torch.bfloat16)],
)
def test_precision_by_name(name: str, dtype: torch.dtype) -> None:
    assert devices.resolve_dtype(name, torch.device("cpu")) == dtype
    assert devices.resolve_dtype(dtype, torch.device("cpu")) == dtype


@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps"])
def test_missing_device_is_refused(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["cpu"])
    with pytest.raises(DeviceError, match=f"{device}.* finds only cpu"):
        devices.resolve_device(device)


def test_another_index_than_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "available_devices", lambda: ["cuda:0", "cpu"])
    with pytest.raises(DeviceError, match="finds only cuda:0, cpu"):
        devices.resolve_device("cuda:1")


@pytest.mark.parametrize("device", ["gpu", "", "cuda:x"])
def test_unknown_device_is_refused(device: str) -> None:
    with pytest.raises(DeviceError, match="is unknown; give auto, cpu"):
        devices.resolve_device(device)


def test_unknown_precision_is_refused() -> None:
    for dtype in ("int8", torch.int32):
        with pytest.raises(DeviceError, match="auto, fp32, fp16, bf16"):
            devices.resolve_dtype(dtype, torch.device("cpu"))


def test_precision_that_the_device_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "supports", lambda device, dtype: dtype == torch.float32)
    with pytest.raises(DeviceError, match="bf16 was asked for, but cpu cannot"):
        devices.resolve_dtype("bf16", torch.device("cpu"))


def test_what_is_available_works() -> None:
    for name in devices.available_devices():
        device = devices.resolve_device(name)
        assert str(device) == name
        assert devices.supports(device, torch.float32)
