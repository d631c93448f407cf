"""Pictures that run side by side: same mattes, in order, within bounds."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.engines.base import Engine, concurrent
from birefnet.inference.predictor import Predictor
from birefnet.matte import Matte

SMALL = Preprocess(64, 64)


class Concurrent:
    """Gives each picture's mean as logits, takes its time, and counts who is inside."""

    name, batch_size = "concurrent", 1

    def __init__(self, concurrency: int, seconds: float = 0.01) -> None:
        self.concurrency, self.seconds = concurrency, seconds
        self.inside = self.most = 0
        self._lock = threading.Lock()

    def concurrent(self) -> tuple[Engine, int]:
        return self, self.concurrency

    def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
        time.sleep(self.seconds * (1 + 2 * (batch.mean() > 0)))  # the bright ones take longer
        with self._lock:
            self.inside -= 1
        return np.broadcast_to(batch.mean((1, 2, 3))[:, None, None, None], (len(batch), 1, 64, 64))


def grey(level: int) -> NDArray[np.uint8]:
    return np.full((40, 40, 3), level, np.uint8)


@pytest.mark.parametrize(("concurrency", "batch_size"), [(1, 1), (3, 1), (2, 2)])
def test_concurrent_pictures_leave_in_order(concurrency: int, batch_size: int) -> None:
    engine = Concurrent(concurrency)
    levels = list(range(5, 250, 17))
    mattes = Predictor(engine, SMALL).predict(map(grey, levels), batch_size=batch_size)
    seen = [float(matte.alpha.mean()) for matte in mattes]
    assert seen == sorted(seen)
    assert len(set(seen)) == len(levels)
    assert engine.most == concurrency


def test_errors_take_their_pictures_places() -> None:
    def failing(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if batch.mean() > 1:
            raise BiRefNetError("too bright")
        return Concurrent.infer(engine, batch)

    engine = Concurrent(2)
    engine.infer = failing  # type: ignore[method-assign]
    sources = [grey(10), b"no picture", grey(250), grey(20)]
    results = list(Predictor(engine, SMALL).predict_each(sources))
    kinds = [type(result) for result in results]
    assert kinds == [Matte, ImageError, BiRefNetError, Matte]


def test_another_error_ends_the_stream_when_its_turn_comes() -> None:
    def failing(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        if batch.mean() > 1:
            raise ZeroDivisionError
        return Concurrent.infer(engine, batch)

    engine = Concurrent(2)
    engine.infer = failing  # type: ignore[method-assign]
    stream = Predictor(engine, SMALL).predict(iter([grey(10), grey(250), grey(20)]))
    assert isinstance(next(stream), Matte)
    with pytest.raises(ZeroDivisionError):
        next(stream)


def test_the_window_stays_bounded() -> None:
    drawn = 0

    def endless() -> Iterator[NDArray[np.uint8]]:
        nonlocal drawn
        while True:
            drawn += 1
            yield grey(drawn % 250)

    engine = Concurrent(2, 0.001)
    stream = Predictor(engine, SMALL).predict(endless())
    for taken in range(1, 12):
        next(stream)
        assert drawn <= taken + 2 + 2 * engine.concurrency


def test_large_inputs_run_one_by_one() -> None:
    engine = Concurrent(4)
    assert concurrent(engine, 320 * 320) == (engine, 4)
    assert concurrent(engine, 1024 * 1024) == (engine, 1)


def test_torch_gives_each_caller_its_cores_and_the_others_theirs() -> None:
    torch = pytest.importorskip("torch")
    from birefnet.api import load_network
    from birefnet.inference.engines.torch_engine import TorchEngine

    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        engine = TorchEngine(load_network("tiny"), "cpu")
        several, concurrency = engine.concurrent()
        assert concurrency == 2
        batch = np.random.default_rng(0).standard_normal((1, 3, 64, 64)).astype(np.float32)
        found: list[int] = []

        def call() -> None:
            np.testing.assert_allclose(several.infer(batch), engine.infer(batch), atol=1e-5)
            found.append(torch.get_num_threads())

        caller = threading.Thread(target=call)
        caller.start()
        caller.join()
        later = threading.Thread(target=lambda: found.append(torch.get_num_threads()))
        later.start()
        later.join()
        assert found == [1, 2]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
