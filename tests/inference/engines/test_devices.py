"""Devices and precisions: found, refused, never silently swapped."""

from __future__ import annotations

import pytest
import torch

from birefnet.errors import DeviceError
from birefnet.inference.engines import devices


def test_auto_takes_the_first_device(monkeypatch: pytest.MonkeyPatch) -> None:
    for found in (["cuda:0", "cuda:1", "cpu"], ["mps", "cpu"], ["cpu"]):
        monkeypatch.setattr(devices, "available_devices", lambda found=found: found)
        assert devices.resolve_device("auto") == torch.device(found[0])


CARDS = [  # name, compute capability, whether fp16 is quick and safe there
    ("NVIDIA H200", (9, 0), True),
    ("NVIDIA GeForce RTX 4090", (8, 9), True),
    ("NVIDIA GeForce RTX 2060", (7, 5), True),
    ("Tesla T4", (7, 5), True),
    ("NVIDIA T400 4GB", (7, 5), False),
    ("NVIDIA GeForce GTX 1660 SUPER", (7, 5), False),
    ("NVIDIA GeForce GTX 1650", (7, 5), False),
    ("NVIDIA GeForce MX450", (7, 5), False),
    ("Quadro T1000", (7, 5), False),
    ("Tesla V100-SXM2-16GB", (7, 0), True),
    ("NVIDIA GeForce GTX 1080 Ti", (6, 1), False),
    ("NVIDIA GeForce GTX 980", (5, 2), False),
]


@pytest.mark.parametrize(("name", "capability", "good"), CARDS, ids=lambda card: str(card))
def test_half_precision_where_the_card_is_good_at_it(
    monkeypatch: pytest.MonkeyPatch, name: str, capability: tuple[int, int], good: bool
) -> None:
    monkeypatch.setattr(devices, "supports", lambda device, dtype: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: name)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    expected = torch.float16 if good else torch.float32
    assert devices.resolve_dtype("auto", torch.device("cuda")) == expected
    assert devices.resolve_dtype("fp16", torch.device("cuda")) == torch.float16  # by wish


@pytest.mark.parametrize("device", ["mps", "cpu"])
def test_auto_precision_is_fp32_elsewhere(device: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(devices, "supports", lambda device, dtype: True)
    assert devices.resolve_dtype("auto", torch.device(device)) == torch.float32


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
