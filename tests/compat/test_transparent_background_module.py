"""The interface of transparent-background, as its README and docstrings describe it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet.compat import transparent_background
from birefnet.compat.transparent_background import Remover
from birefnet.errors import BiRefNetError
from birefnet.imaging.geometry import Preprocess
from birefnet.inference.predictor import Predictor
from fakes import PLAIN, BrightEngine, disc


@pytest.fixture
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, str]]:
    loaded: list[tuple[str, str]] = []

    def load(name: Any, *, device: str) -> Predictor:
        loaded.append((str(name), device))
        return Predictor(BrightEngine(), PLAIN)

    monkeypatch.setattr(transparent_background, "load", load)
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    return loaded


@pytest.fixture
def remover(loaded: list[tuple[str, str]]) -> Remover:
    return Remover()


def test_what_is_loaded(loaded: list[tuple[str, str]], monkeypatch: pytest.MonkeyPatch) -> None:
    Remover()
    Remover(mode="fast", device="cpu")
    Remover("general")
    Remover(ckpt="mine.safetensors", device="cuda:0")
    monkeypatch.setenv("BIREFNET_MODEL", "lite")
    Remover("base-nightly")
    assert loaded == [
        *(("nano", "auto"), ("nano", "cpu"), ("general", "auto")),
        *(("mine.safetensors", "cuda:0"), ("lite", "auto")),
    ]
    with pytest.warns(UserWarning, match="jit has no effect"):
        Remover(jit=True)
    with pytest.raises(BiRefNetError, match="choose one of static, dynamic"):
        Remover(resize="big")


def test_arrays_and_images(remover: Remover) -> None:
    array = remover.process(disc())
    assert isinstance(array, np.ndarray)
    assert (array.shape, array.dtype) == ((48, 64, 4), np.uint8)
    image = remover.process(Image.fromarray(disc()))
    assert isinstance(image, Image.Image)
    assert np.array_equal(np.asarray(image), array)


def test_types(remover: Remover, tmp_path: Path) -> None:
    picture = disc()
    matte = remover.process(picture, type="map")
    assert matte.shape == (48, 64, 3)
    assert np.array_equal(matte[..., 0], remover.process(picture)[..., 3])
    grounds = {
        "green": (120, 255, 155),
        "white": (255, 255, 255),
        "[255, 0, 0]": (255, 0, 0),
        "[0,0,255]": (0, 0, 255),
    }
    for kind, colour in grounds.items():
        result = remover.process(picture, type=kind)
        assert result.shape == (48, 64, 3), kind
        assert tuple(result[0, 0]) == colour
        assert result[24, 32].min() > 225
    assert tuple(remover.process(picture, type=[1, 2, 3])[0, 0]) == (1, 2, 3)
    for kind in ("blur", "overlay"):
        assert remover.process(picture, type=kind).shape == (48, 64, 3)
    Image.new("RGB", (10, 10), (9, 8, 7)).save(tmp_path / "ground.png")
    behind = remover.process(picture, type=str(tmp_path / "ground.png"))
    assert tuple(behind[0, 0]) == (9, 8, 7)
    with pytest.raises(BiRefNetError, match="type is 'sepia'"):
        remover.process(picture, type="sepia")
    with pytest.raises(BiRefNetError, match="neither a file nor a colour"):
        remover.process(picture, type=str(tmp_path / "missing.png"))


def test_threshold_and_reverse(remover: Remover) -> None:
    soft = np.asarray(Image.fromarray(disc()).resize((16, 12)).resize((64, 48)))
    for threshold in (0.5, "0.5"):
        hard = remover.process(soft, type="map", threshold=threshold)
        assert set(np.unique(hard)) == {0, 255}
    matte = remover.process(soft, type="map")
    reverse = remover.process(soft, type="map", reverse=True)
    assert np.abs(matte.astype(int) + reverse - 255).max() <= 1
    assert remover.process(disc(), reverse=True)[24, 32, 3] == 0


def test_dynamic_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = BrightEngine()
    made = Predictor(engine, Preprocess(64, 64))
    monkeypatch.setattr(transparent_background, "load", lambda *_, **__: made)
    Remover().process(disc(100, 200))
    remover = Remover(resize="dynamic")
    remover.process(disc(100, 200))
    remover.process(Image.fromarray(disc(2560, 1280 * 3)))
    assert [shape[2:] for shape in engine.batches] == [(64, 64), (96, 192), (1280, 1920)]
