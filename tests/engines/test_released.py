"""What is let go of gives its memory back at once, not when Python next looks for cycles."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import birefnet
from birefnet.engines.base import for_many

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
    several, _ = for_many(predictor.engine, 1)
    several.infer(np.zeros((1, 3, 64, 64), np.float32))
    left = [weakref.ref(predictor), weakref.ref(predictor.engine), weakref.ref(several)]
    del predictor, several
    assert [one() for one in left] == [None] * 3


def test_a_server_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """Caches of its libraries keep the app; its models are not among what they keep."""
    pytest.importorskip("fastapi")
    from fastapi.testclient import TestClient

    from birefnet.serving.app import create_app
    from birefnet.serving.settings import ServerSettings

    loaded = []

    def load(*arguments: Any, **options: Any) -> birefnet.Predictor:
        predictor = birefnet.load(*arguments, **options)
        loaded.append(weakref.ref(predictor.engine))
        return predictor

    monkeypatch.setattr("birefnet.serving.pool.load", load)
    app = create_app(settings=ServerSettings(model="nano"))
    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
        assert [engine() is None for engine in loaded] == [False]
    assert [engine() for engine in loaded] == [None]
