"""Under load: a bounded queue, timeouts, clients that leave, models that make room, and the end."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("fastapi")

import httpx

from birefnet.errors import BiRefNetError
from birefnet.inference.predictor import Predictor
from birefnet.options import Options
from birefnet.serving import pool as pools
from birefnet.serving.errors import Busy, Stopping, TimedOut, UnknownModel
from birefnet.serving.service import Service
from birefnet.serving.settings import MIB, ServerSettings
from compat_client import disc_file, pixels_of
from fakes import PLAIN, BrightEngine
from live_server import Live, SlowEngine, live


def service_of(
    engine: BrightEngine, work: Callable[[Service], Coroutine[Any, Any, Any]], **settings: Any
) -> Any:
    async def inside() -> Any:
        service = Service(
            ServerSettings(**{"grace_s": 5, **settings}), Predictor(engine, PLAIN, name="bright")
        )
        await service.start()
        try:
            return await work(service)
        finally:
            if isinstance(engine, SlowEngine):
                engine.go.set()
            await service.stop()

    return asyncio.run(inside())


def grey(level: int) -> np.ndarray:
    return np.full((40, 40, 3), level, np.uint8)


def test_a_full_queue_says_when_to_come_again() -> None:
    engine = SlowEngine()

    async def work(service: Service) -> None:
        tasks = [asyncio.create_task(service.remove(disc_file())) for _ in range(3)]
        await asyncio.to_thread(engine.began.wait)
        with pytest.raises(Busy) as refused:
            await service.remove(disc_file())
        assert refused.value.retry_after >= 1
        assert refused.value.headers == {"Retry-After": str(refused.value.retry_after)}
        wait = asyncio.create_task(service.remove(disc_file(), wait=True))
        engine.go.set()
        results = await asyncio.gather(*tasks, wait)
        assert all(result.data for result in results)
        assert (await service.remove(disc_file())).data  # there is room again

    service_of(engine, work, queue=3)


def test_what_takes_too_long_is_given_up() -> None:
    engine = SlowEngine()

    async def work(service: Service) -> None:
        running = asyncio.create_task(service.remove(disc_file()))
        await asyncio.to_thread(engine.began.wait)
        with pytest.raises(TimedOut, match=r"0\.3 s"):
            await service.remove(disc_file())
        with pytest.raises(TimedOut):
            await running
        engine.go.set()
        assert (await service.remove(disc_file())).data

    service_of(engine, work, timeout_s=0.3)
    assert len(engine.batches) == 2  # the one that waited in line was never run


def test_order_and_numbers_survive_concurrency() -> None:
    engine = BrightEngine()
    engine.batch_size = 4
    levels = [10 * (i % 25) for i in range(200)]

    async def work(service: Service) -> list[float]:
        from birefnet.imaging.picture import Picture

        results = await asyncio.gather(
            *(
                service.remove(Picture(grey(level)), Options(kind="mask"), wait=True)
                for level in levels
            )
        )
        return [float(result.matte.alpha[20, 20]) for result in results]

    results = service_of(engine, work, queue=16)
    expected = [1 / (1 + np.exp(-40 * (level / 255 - 0.5))) for level in levels]
    assert results == pytest.approx(expected, abs=1e-4)
    assert sum(shape[0] for shape in engine.batches) == 200
    assert max(shape[0] for shape in engine.batches) == 4


def test_guided_requests_take_turns_with_the_others() -> None:
    engine = BrightEngine()

    async def work(service: Service) -> None:
        options = [Options(), Options(boxes=("8,4,56,44",)), Options(passes=2)] * 4
        results = await asyncio.gather(*(service.remove(disc_file(), one) for one in options))
        for result in results:
            assert result.matte.alpha[24, 32] > 0.9
        with pytest.raises(BiRefNetError):
            await service.remove(disc_file(), Options(boxes=("100,100,200,200",)))

    service_of(engine, work)


def load_fake(sizes: dict[str, int], loaded: list[str]) -> Callable[..., Predictor]:
    class Network:
        def __init__(self, name: str) -> None:
            self.size = sizes[name]

        def parameters(self) -> list[Any]:
            size = self.size

            class Tensor:
                def numel(self) -> int:
                    return size

                def element_size(self) -> int:
                    return 1

            return [Tensor()]

        def buffers(self) -> list[Any]:
            return []

    def load(name: str, **options: Any) -> Predictor:
        loaded.append(name)
        engine = BrightEngine()
        engine.network = Network(name)  # type: ignore[attr-defined]
        return Predictor(engine, PLAIN, name=name)

    return load


def test_models_are_loaded_when_asked_for_and_the_oldest_make_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    loaded: list[str] = []
    sizes = {"first": 40 * MIB, "second": 40 * MIB, "/models/third.onnx": 40 * MIB}
    monkeypatch.setattr(pools, "load", load_fake(sizes, loaded))

    async def inside() -> None:
        settings = ServerSettings(
            model="first", models=("second", "third=/models/third.onnx"), memory_budget=100 * MIB
        )
        service = Service(settings)
        await service.start()

        async def use(name: str | None) -> None:
            result = await service.remove(disc_file(), model=name)
            assert result.model == (name or "first").lower()

        def here() -> list[str]:
            return [entry["id"] for entry in service.pool.about() if entry["loaded"]]

        await asyncio.gather(*(use("second") for _ in range(4)))
        assert loaded == ["first", "second"]  # once, though four asked at the same time
        await use("first")
        await use("Third")
        assert here() == ["first", "third"]  # the second was used longest ago
        await use("second")
        assert here() == ["third", "second"] or here() == ["second", "third"]
        assert sum(entry.get("bytes", 0) for entry in service.pool.about()) <= 100 * MIB
        for name in ("fourth", "/models/third.onnx", "general"):
            with pytest.raises(UnknownModel):
                await service.remove(disc_file(), model=name)
        await service.stop()

    asyncio.run(inside())
    assert loaded == ["first", "second", "/models/third.onnx", "second"]


def test_a_client_that_leaves_takes_its_picture_out_of_the_line() -> None:
    engine = SlowEngine()
    with live(engine) as server:
        with ThreadPoolExecutor(1) as threads:
            first = threads.submit(post, server)
            assert engine.began.wait(10)
            with pytest.raises(httpx.ReadTimeout):
                httpx.post(f"{server.url}/v1/remove", files={"file": disc_file()}, timeout=0.5)
            assert settles(lambda: server.app.state.service.slots_taken == 1)
            engine.go.set()
            assert first.result().status_code == 200
        assert len(engine.batches) == 1
        figures = httpx.get(f"{server.url}/metrics").text
        assert 'birefnet_refused_total{reason="cancelled"} 1.0' in figures
        assert 'status="499"' in figures


def test_a_shutdown_finishes_what_runs_and_refuses_what_comes() -> None:
    engine = SlowEngine()
    with live(engine) as server, ThreadPoolExecutor(2) as threads:
        running = [threads.submit(post, server) for _ in range(2)]
        assert engine.began.wait(10)
        assert settles(lambda: server.app.state.service.slots_taken == 2)
        server.stop()
        assert settles(lambda: server.app.state.service.is_stopping)
        time.sleep(0.2)
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"{server.url}/ready", timeout=5).raise_for_status()
        engine.go.set()
        for answer in running:
            assert answer.result().status_code == 200
            assert pixels_of(answer.result().content).shape == (48, 64, 4)
        server.thread.join(10)
        assert not server.thread.is_alive()


def test_sixteen_clients_lose_nothing() -> None:
    engine = BrightEngine()
    engine.batch_size = 4
    wrong: list[Any] = []
    with live(engine) as server:

        def client(number: int) -> None:
            with httpx.Client(base_url=server.url, timeout=30) as session:
                for _ in range(6):
                    height = 40 + number
                    answer = session.post(
                        "/v1/remove", files={"file": disc_file(height, 64)}, data={"kind": "mask"}
                    )
                    if answer.status_code != 200 or pixels_of(answer.content).shape[0] != height:
                        wrong.append((number, answer.status_code, answer.text[:80]))

        threads = [threading.Thread(target=client, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        assert server.app.state.service.slots_taken == 0
    assert sum(shape[0] for shape in engine.batches) == 96


def test_sixteen_clients_get_what_batches_gain() -> None:
    """On an engine whose batch takes as long as one picture, as a GPU's does."""

    class Steady(BrightEngine):
        batch_size = 8

        def infer(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
            time.sleep(0.05)
            return super().infer(batch)

    data = disc_file(40, 40)

    async def work(service: Service) -> tuple[float, float]:
        async def client(requests: int) -> None:
            for _ in range(requests):
                await service.remove(data, Options(kind="mask"))

        start = time.perf_counter()
        await client(6)
        one = 6 / (time.perf_counter() - start)
        start = time.perf_counter()
        await asyncio.gather(*(client(3) for _ in range(16)))
        return one, 48 / (time.perf_counter() - start)

    one, many = service_of(Steady(), work)
    assert many > 1.6 * one


def test_nothing_new_is_taken_while_stopping() -> None:
    async def work(service: Service) -> None:
        service.is_stopping = True
        with pytest.raises(Stopping):
            await service.remove(disc_file())

    service_of(BrightEngine(), work)


def post(server: Live) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/remove", files={"file": disc_file()}, timeout=30)


def settles(condition: Callable[[], bool], seconds: float = 10) -> bool:
    """Whether something becomes true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True
