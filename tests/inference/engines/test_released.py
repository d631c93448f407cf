"""What is let go of gives its memory back at once, not when Python next looks for cycles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import pytest

import birefnet
from birefnet.imaging.encoding import encode
from birefnet.inference.engines.base import concurrent
from birefnet.weights.locate import BUNDLED

if TYPE_CHECKING:
    from fastapi.testclient import TestClient

PICTURE = np.zeros((48, 64, 3), np.uint8)


@pytest.fixture
def no_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_predictor(engine: str, no_collector: None) -> None:
    pytest.importorskip(engine)
    predictor = birefnet.load("nano", engine=engine)
    predictor.predict(PICTURE)
    list(predictor.predict(iter([PICTURE] * 3)))
    several, _ = concurrent(predictor.engine, 1)
    several.infer(np.zeros((1, 3, 64, 64), np.float32))
    left = [weakref.ref(predictor), weakref.ref(predictor.engine), weakref.ref(several)]
    del predictor, several
    assert [one() for one in left] == [None] * 3


class Engine(weakref.ref[Any]):
    """A weak reference, with what was there when it was made."""

    def __new__(cls, engine: object, others: list[bool]) -> Self:
        return super().__new__(cls, engine)

    def __init__(self, engine: object, others: list[bool]) -> None:
        super().__init__(engine)
        self.others = others


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch) -> list[Engine]:
    """Of the models that servers load, weakly, and which of the others are there meanwhile."""
    pytest.importorskip("fastapi")
    loaded: list[Engine] = []

    def load(*arguments: Any, **options: Any) -> birefnet.Predictor:
        others = [engine() is not None for engine in loaded]
        predictor = birefnet.load(*arguments, **options)
        loaded.append(Engine(predictor.engine, others))
        return predictor

    monkeypatch.setattr("birefnet.serving.pool.load", load)
    return loaded


def cut_out(client: TestClient, model: str) -> None:
    file = {"file": ("a.png", encode(PICTURE), "image/png")}
    assert client.post("/v1/remove", files=file, data={"model": model}).status_code == 200


def test_a_server_that_has_ended(engines: list[Engine]) -> None:
    """Caches of its libraries keep the app; its models are not among what they keep."""
    from fastapi.testclient import TestClient

    from birefnet.serving.app import create_app
    from birefnet.serving.settings import ServerSettings

    with TestClient(create_app(settings=ServerSettings(model="nano"))) as client:
        cut_out(client, "nano")
        assert [engine() is None for engine in engines] == [False]
    assert [engine() for engine in engines] == [None]


def test_a_model_that_a_server_drops_makes_room_for_the_next(engines: list[Engine]) -> None:
    """Not when the next has run: the last batch's pictures and model would be held until then."""
    from fastapi.testclient import TestClient

    from birefnet.serving.app import create_app
    from birefnet.serving.settings import ServerSettings

    settings = ServerSettings(
        model="nano",
        models=(f"other={BUNDLED / 'nano'}",),
        engine="torch",
        memory_budget=1,
        page=False,
    )
    with TestClient(create_app(settings=settings)) as client:
        for name in ("nano", "other", "nano"):
            cut_out(client, name)
    assert [engine.others for engine in engines] == [[], [True], [False, False]]
