"""A model that takes several views: the server answers as its predictor does."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest

pytest.importorskip("fastapi")

from PIL import Image
from starlette.testclient import TestClient

from birefnet import Predictor
from birefnet.serving.app import create_app
from birefnet.serving.settings import ServerSettings
from compat_client import pixels_of
from fakes import PLAIN, BrightEngine


@pytest.mark.parametrize("fields", [{}, {"passes": "2"}, {"resolution": "64"}])
def test_the_mean_of_all_views_is_served(fields: dict[str, str]) -> None:
    picture = np.zeros((64, 96, 3), np.uint8)
    picture[:, :30] = 255
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, "png")
    views = replace(PLAIN, views=((96, 64, True), (64, 64, False)))
    engine = BrightEngine()
    app = create_app(Predictor(engine, views, name="bright"), ServerSettings(page=False))
    with TestClient(app) as client:
        answer = client.post(
            "/v1/remove", files={"file": buffer.getvalue()}, data={"type": "mask", **fields}
        )
    assert answer.status_code == 200
    sizes = {shape[2:] for shape in engine.batches}
    assert sizes == ({(64, 64)} if "resolution" in fields else {(64, 96), (64, 64)})
    alone = Predictor(BrightEngine(), views).predict_guided(
        buffer.getvalue(),
        passes=int(fields.get("passes", 1)),
        resolution=64 if "resolution" in fields else None,
    )
    np.testing.assert_array_equal(pixels_of(answer.content), alone.to_pil("mask"))
