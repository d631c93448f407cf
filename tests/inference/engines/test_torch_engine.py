"""The torch engine: right numbers, and one sentence when there are none."""

from __future__ import annotations

import warnings

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from birefnet.errors import BiRefNetError, DeviceError
from birefnet.inference.engines import Engine, devices, torch_engine
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.network.birefnet import BiRefNet
from birefnet.network.build import build_network
from fake_mps import fake_mps


@pytest.fixture(scope="module")
def network() -> BiRefNet:
    torch.manual_seed(0)
    return build_network("tiny")


@pytest.fixture
def batch() -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 64, 96), dtype=np.float32)


class Failing(nn.Module):
    """Raises, or gives one value everywhere."""

    def __init__(self, *, error: Exception | None = None, value: float = 0.0) -> None:
        super().__init__()
        self.error, self.value = error, value

    def forward(self, image: Tensor) -> Tensor:
        if self.error:
            raise self.error
        return torch.full_like(image[:, :1], self.value)


def test_it_is_an_engine(network: BiRefNet) -> None:
    engine = TorchEngine(network, "cpu")
    assert isinstance(engine, Engine)
    assert engine.name == "torch cpu fp32"
    assert engine.batch_size == 1


@pytest.mark.parametrize("channels_last", [None, True, False])
def test_logits_are_the_network_s(
    network: BiRefNet, batch: np.ndarray, channels_last: bool | None
) -> None:
    logits = TorchEngine(network, "cpu", channels_last=channels_last).infer(batch)
    assert logits.shape == (2, 1, 64, 96)
    assert logits.dtype == np.float32
    with torch.inference_mode():
        expected = network(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-5)


def test_network_is_put_in_evaluation_mode(batch: np.ndarray) -> None:
    network = build_network("tiny").train()
    engine = TorchEngine(network, "cpu")
    assert not network.training
    np.testing.assert_array_equal(engine.infer(batch), engine.infer(batch))  # no dropout


def test_network_can_be_trained_afterwards(batch: np.ndarray) -> None:
    """Nothing that inference mode makes may stay inside: autograd would refuse it."""
    network = build_network("tiny")
    TorchEngine(network, "cpu").infer(batch)
    network.train()(torch.from_numpy(batch)).mean().backward()
    assert all(p.grad is not None for p in network.encoder.parameters())


@pytest.mark.parametrize("dtype", ["fp16", "bf16"])
def test_half_precision_is_near(batch: np.ndarray, dtype: str) -> None:
    torch.manual_seed(0)
    network = build_network("tiny")
    expected = TorchEngine(network, "cpu").infer(batch)
    half = TorchEngine(network, "cpu", dtype)
    logits = half.infer(batch)
    assert half.name == f"torch cpu {dtype}"
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, expected, atol=0.05 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(("dtype", "cure"), [("fp16", "fp32 or bf16"), ("bf16", "use dtype fp32")])
def test_numbers_beyond_half_precision(
    batch: np.ndarray, value: float, dtype: str, cure: str
) -> None:
    with pytest.raises(DeviceError, match=cure):
        TorchEngine(Failing(value=value), "cpu", dtype).infer(batch)


class Scaled(nn.Module):
    """Its numbers in between are `scale` times as large as the picture's."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))
        self.seen: list[tuple[torch.dtype, int]] = []

    def __deepcopy__(self, memo: dict[int, object]) -> Scaled:
        made = Scaled(float(self.scale.detach()))
        made.seen = self.seen
        return made

    def forward(self, image: Tensor) -> Tensor:
        self.seen.append((image.dtype, len(image)))
        return image[:, :1] * self.scale / self.scale


@pytest.fixture
def half_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    """`auto` is fp16, as on a card."""
    real = torch_engine.resolve_dtype
    monkeypatch.setattr(
        torch_engine,
        "resolve_dtype",
        lambda dtype, device: real("fp16" if dtype == "auto" else dtype, device),
    )


@pytest.mark.usefixtures("half_by_itself")
def test_pictures_beyond_half_precision_run_once_more(batch: np.ndarray) -> None:
    batch[1] *= 1e-3
    network = Scaled(6e4)
    engine = TorchEngine(network, "cpu")
    with pytest.warns(RuntimeWarning, match="do not fit fp16 .* once more in fp32"):
        found = engine.infer(batch)
    np.testing.assert_allclose(found, batch[:, :1], rtol=2e-3, atol=1e-6)
    np.testing.assert_allclose(found[0], batch[0, :1], rtol=1e-6)  # nothing was rounded to fp16
    assert network.seen == [(torch.float16, 2), (torch.float32, 1)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        engine.infer(batch)  # said once
        engine.infer(batch[1:])
    assert network.seen[2:] == [(torch.float16, 2), (torch.float32, 1), (torch.float16, 1)]
    with pytest.raises(DeviceError, match="use dtype fp32 or bf16"):  # by wish, nothing else runs
        TorchEngine(Scaled(6e4), "cpu", "fp16").infer(batch)


@pytest.mark.usefixtures("half_by_itself")
def test_weights_beyond_half_precision_choose_fp32(batch: np.ndarray) -> None:
    with pytest.warns(RuntimeWarning, match="weights do not fit fp16; it runs in fp32"):
        engine = TorchEngine(Scaled(1e5), "cpu")
    assert engine.name == "torch cpu fp32"
    np.testing.assert_allclose(engine.infer(batch), batch[:, :1], rtol=1e-5)


@pytest.mark.usefixtures("half_by_itself")
@pytest.mark.filterwarnings("ignore:the network's numbers")
def test_numbers_beyond_every_precision_are_damaged_weights(batch: np.ndarray) -> None:
    with pytest.raises(BiRefNetError, match="weights are damaged"):
        TorchEngine(Failing(value=np.nan), "cpu").infer(batch)


def test_want_of_memory_frees_what_is_only_kept_and_tries_again(
    batch: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    emptied: list[str] = []
    monkeypatch.setattr(devices, "available_devices", lambda: ["mps", "cpu"])
    monkeypatch.setattr(torch.mps, "empty_cache", lambda: emptied.append("mps"))

    def fail(images: Tensor) -> Tensor:
        if failures:
            raise failures.pop()
        return images[:, :1]

    with fake_mps():
        engine = TorchEngine(nn.Identity(), "mps")
        engine.run = fail
        for error in (RuntimeError("MPS backend out of memory"), torch.OutOfMemoryError("full")):
            failures = [error]
            assert np.array_equal(engine.infer(batch), batch[:, :1])
        failures = [RuntimeError("MPS backend out of memory")] * 2
        with pytest.raises(DeviceError, match="ran out of memory on a batch of 2"):
            engine.infer(batch)
    assert emptied == ["mps"] * 3


def test_damaged_weights_are_told_apart_from_precision(batch: np.ndarray) -> None:
    with pytest.raises(BiRefNetError, match="weights are damaged"):
        TorchEngine(Failing(value=np.nan), "cpu", "fp32").infer(batch)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried …"),
        RuntimeError("MPS backend out of memory (MPS allocated: 9 GB)"),
    ],
)
def test_out_of_memory_comes_with_a_cure(batch: np.ndarray, error: Exception) -> None:
    with pytest.raises(DeviceError) as caught:
        TorchEngine(Failing(error=error), "cpu").infer(batch)
    assert str(caught.value) == (
        "cpu ran out of memory on a batch of 2 at 96x64; use a smaller batch size or a smaller "
        "resolution or a smaller model"
    )


def test_a_real_allocation_that_fails() -> None:
    class Greedy(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return image.new_empty(2**55)

    with pytest.raises(DeviceError, match="ran out of memory on a batch of 1 at 32x32"):
        TorchEngine(Greedy(), "cpu").infer(np.zeros((1, 3, 32, 32), np.float32))


def test_operation_that_half_precision_lacks(batch: np.ndarray) -> None:
    error = RuntimeError("\"slow_conv2d_cpu\" not implemented for 'Half'")
    with pytest.raises(DeviceError, match="cannot run this network in fp16"):
        TorchEngine(Failing(error=error), "cpu", "fp16").infer(batch)


def test_other_failures_are_not_hidden(batch: np.ndarray) -> None:
    with pytest.raises(RuntimeError, match="index out of range"):
        TorchEngine(Failing(error=RuntimeError("index out of range")), "cpu").infer(batch)


@pytest.mark.cuda
def test_cuda_is_near_the_cpu(batch: np.ndarray) -> None:
    torch.manual_seed(0)
    expected = TorchEngine(build_network("tiny"), "cpu").infer(batch)
    torch.manual_seed(0)
    engine = TorchEngine(build_network("tiny"))
    assert engine.name == f"torch cuda:{torch.cuda.current_device()} fp16"
    np.testing.assert_allclose(engine.infer(batch), expected, atol=0.05)
