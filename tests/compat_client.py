"""What the tests of the compatible routes share: a server whose mattes follow brightness."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from starlette.testclient import TestClient

from birefnet.inference.predictor import Predictor
from birefnet.serving.app import create_app
from birefnet.serving.settings import ServerSettings
from fakes import PLAIN, BrightEngine, disc

KEY = "a-key-that-is-long-enough"


@contextmanager
def serving(settings: ServerSettings | None = None) -> Iterator[TestClient]:
    """A client of an app of its own; what goes wrong inside is answered, not raised."""
    predictor = Predictor(BrightEngine(), PLAIN, name="bright")
    app = create_app(predictor, settings or ServerSettings(page=False))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield client


def disc_file(height: int = 48, width: int = 64, format: str = "png") -> bytes:
    """A bright disc on a dark ground, as a file."""
    buffer = io.BytesIO()
    Image.fromarray(disc(height, width)).save(buffer, format)
    return buffer.getvalue()


def black_file(height: int = 48, width: int = 64) -> bytes:
    """A picture without any subject."""
    buffer = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(buffer, "png")
    return buffer.getvalue()


def pixels_of(data: bytes) -> NDArray[np.uint8]:
    """A file's samples, H x W (x C)."""
    return np.asarray(Image.open(io.BytesIO(data)))
