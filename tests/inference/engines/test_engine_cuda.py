"""On a card: recordings, precision and memory of the engine with real CUDA graphs."""

from __future__ import annotations

import copy
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import birefnet
from birefnet.errors import DeviceError
from birefnet.inference.engines.graphs import MEETINGS, CudaRecorder, GraphCache, empty_cache
from birefnet.inference.engines.torch_engine import TorchEngine
from birefnet.network.build import build_network
from birefnet.network.simplify import simplify

pytestmark = pytest.mark.cuda


class Layers(nn.Module):
    """Some convolutions; `scale` drives their numbers beyond fp16."""

    def __init__(self, scale: float = 1.0, width: int = 32) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first = nn.Conv2d(3, width, 3, padding=1)
        self.second = nn.Conv2d(width, 1, 3, padding=1)
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        return self.second((self.first(x) * self.scale).relu()) / self.scale


@pytest.fixture(autouse=True)
def strict() -> Iterator[None]:
    """No warning goes by, and each test begins with an empty cache."""
    torch.cuda.empty_cache()
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        yield
    torch.cuda.empty_cache()


def noise(batch: int, height: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(batch, 3, height, width)).astype(np.float32)


def eager(engine: TorchEngine, batch: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        images = torch.from_numpy(batch).to(engine.device, engine.dtype)
        return engine.network(images).float().cpu().numpy()


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return bool(np.abs(ours - theirs).max() <= 1e-2 * np.abs(theirs).max())


@pytest.mark.parametrize("dtype", ["fp32", "fp16", "bf16"])
def test_replays_give_the_numbers_of_each_picture(dtype: str) -> None:
    engine = TorchEngine(Layers(), "cuda", dtype)
    assert isinstance(engine.run, GraphCache)
    for turn in range(6):
        for batch, height, width in ((1, 64, 96), (3, 64, 64), (8, 32, 32)):
            images = noise(batch, height, width, turn)
            assert same(engine.infer(images), eager(engine, images))
    assert engine.run.recorded == 3
    assert engine.run.replayed == 3 * 4


def test_a_graph_that_does_nothing_is_not_trusted() -> None:
    device = torch.device("cuda", torch.cuda.current_device())

    def elsewhere(batch: Tensor) -> Tensor:
        """Leaves nothing in the recording."""
        if torch.cuda.is_current_stream_capturing():
            return torch.empty_like(batch)
        return 2 * batch

    cache = GraphCache(elsewhere, CudaRecorder(device))
    batch = torch.randn(1, 3, 8, 8, device=device)
    for _ in range(MEETINGS - 1):
        cache(batch)
    with pytest.warns(RuntimeWarning, match="first replay gave other numbers"):
        assert torch.equal(cache(batch), 2 * batch)
    assert torch.equal(cache(batch), 2 * batch)


def test_engines_record_in_threads_while_others_run_and_empty_the_cache() -> None:
    engines = [TorchEngine(Layers(width=16 + 8 * i), "cuda", "fp16") for i in range(3)]
    plain = TorchEngine(Layers(), "cuda", "fp16", graphs=False)
    done = threading.Event()

    def disturb() -> int:
        turns = 0
        while not done.is_set():
            plain.infer(noise(1, 64 + 32 * (turns % 5), 64))
            empty_cache(plain.device)
            turns += 1
        return turns

    def work(index: int) -> bool:
        engine, right = engines[index % 3], True
        for turn in range(24):
            images = noise(1 + index % 2, 32 + 32 * (turn % 3), 64, 100 * index + turn)
            right &= same(engine.infer(images), eager(engine, images))
        return right

    with ThreadPoolExecutor(7) as pool:
        disturbing = pool.submit(disturb)
        try:
            assert all(pool.map(work, range(6)))
        finally:
            done.set()
        assert disturbing.result() > 0
    for engine in engines:
        assert isinstance(engine.run, GraphCache)
        assert engine.run.recorded >= 3


def test_shapes_in_rotation_are_not_recorded_for_ever() -> None:
    engine = TorchEngine(Layers(), "cuda", "fp16")
    assert isinstance(engine.run, GraphCache)
    for turn in range(24):
        for side in (32, 64, 96, 128, 160, 192):
            images = noise(1, side, 64, turn)
            assert same(engine.infer(images), eager(engine, images))
    assert engine.run.recorded <= 6 * 4
    assert engine.run.dropped == engine.run.recorded - len(engine.run._recordings)


@pytest.fixture
def limit() -> Iterator[object]:
    """Sets how many bytes this process may hold on the card."""
    _, total = torch.cuda.mem_get_info()
    yield lambda size: torch.cuda.set_per_process_memory_fraction(size / total)
    torch.cuda.set_per_process_memory_fraction(1.0)


def test_recordings_give_way_when_memory_is_short(limit: object) -> None:
    engine = TorchEngine(Layers(width=64), "cuda", "fp32")
    assert isinstance(engine.run, GraphCache)
    for side in (512, 544, 576, 608):
        for _ in range(4):
            engine.infer(noise(1, side, 512))
    assert engine.run.recorded == 4
    torch.cuda.empty_cache()
    limit(torch.cuda.memory_reserved() + 128 * 2**20)  # type: ignore[operator]
    images = noise(1, 640, 640)
    assert same(engine.infer(images), eager(engine, images))
    assert engine.run.dropped >= 4


def test_a_shape_that_cannot_be_recorded_runs_without(limit: object) -> None:
    engine = TorchEngine(Layers(width=64), "cuda", "fp32")
    assert isinstance(engine.run, GraphCache)
    images = noise(1, 1024, 1024)
    torch.cuda.reset_peak_memory_stats()
    expected = engine.infer(images)
    limit(torch.cuda.max_memory_reserved() + 2**20)  # type: ignore[operator]
    for _ in range(5):
        assert same(engine.infer(images), expected)
    assert np.isfinite(engine.infer(noise(1, 64, 64))).all()


def test_a_picture_too_large_is_one_sentence(limit: object) -> None:
    engine = TorchEngine(Layers(width=64), "cuda", "fp32")
    limit(torch.cuda.memory_reserved() + 64 * 2**20)  # type: ignore[operator]
    with pytest.raises(DeviceError, match="ran out of memory on a batch of 1 at 2048x2048"):
        engine.infer(noise(1, 2048, 2048))
    assert np.isfinite(engine.infer(noise(1, 64, 64))).all()


def test_pictures_beyond_fp16_run_again_in_fp32() -> None:
    engine = TorchEngine(Layers(scale=3e4), "cuda")
    exact = TorchEngine(Layers(scale=3e4), "cpu", "fp32")
    images = np.concatenate([noise(1, 64, 64), noise(1, 64, 64, 1) * 1e-3])
    with pytest.warns(RuntimeWarning, match="once more in fp32"):
        first = engine.infer(images)
    for turn in range(5):  # said once; replayed, too
        assert same(engine.infer(images), exact.infer(images)), turn
    assert same(first, exact.infer(images))


def test_nano_on_the_card_is_nano_on_the_cpu() -> None:
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:240, :320]
    pictures = []
    for _ in range(9):
        ground = draw.integers(0, 120, (1, 1, 3)) + draw.normal(0, 6, (240, 320, 3))
        inside = (x - draw.integers(80, 240)) ** 2 + (y - 120) ** 2 < draw.integers(40, 90) ** 2
        pictures.append(np.where(inside[..., None], 230, ground).clip(0, 255).astype(np.uint8))
    here = birefnet.load("nano", device="cpu", engine="torch")
    there = birefnet.load("nano", device="cuda")
    assert there.engine.name == f"torch cuda:{torch.cuda.current_device()} fp16"
    expected = here.predict(pictures)
    for _ in range(3):
        for ours, theirs in zip(there.predict(pictures), expected, strict=True):
            assert np.isfinite(ours.alpha).all()
            assert np.abs(ours.alpha - theirs.alpha).mean() < 2e-3


@pytest.mark.parametrize("dtype", ["fp16", "bf16", "fp32"])
def test_a_whole_network_in_each_precision(dtype: str) -> None:
    torch.manual_seed(0)
    network = simplify(build_network("tiny").eval())
    exact = TorchEngine(network, "cpu", "fp32")
    images = noise(2, 96, 128)
    expected = exact.infer(images)
    engine = TorchEngine(copy.deepcopy(network), "cuda", dtype)
    share = {"fp32": 1e-2, "fp16": 5e-2, "bf16": 3e-1}[dtype]  # fp32: TF32 in convolutions
    for _ in range(5):
        found = engine.infer(images)
        assert np.abs(found - expected).max() <= share * np.abs(expected).max()
