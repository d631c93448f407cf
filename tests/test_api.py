"""`remove_background`, `load` and `load_network`."""

from __future__ import annotations

import io
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import birefnet
from birefnet import Predictor, api, load, load_network, remove_background
from birefnet.errors import DeviceError, WeightsError
from birefnet.imaging.geometry import Preprocess
from birefnet.network.config import PRESETS
from birefnet.weights import bundled_names
from fakes import PLAIN, BrightEngine, disc, write_disc


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a small network of random weights."""
    torch = pytest.importorskip("torch")
    from birefnet.network.build import build_network
    from birefnet.weights import save_directory

    torch.manual_seed(0)
    return save_directory(
        tmp_path_factory.mktemp("weights") / "small",
        build_network("tiny").eval(),
        Preprocess(96, 64),
        name="small",
        licence="MIT",
    )


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """`remove_background` with a fake engine; gives the names that it has loaded."""
    names: list[str] = []

    def fake_load(name: str, *, device: str, dtype: str, engine: str) -> Predictor:
        names.append(name)
        return Predictor(BrightEngine(), PLAIN)

    monkeypatch.setattr(api, "load", fake_load)
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    api._load_kept.cache_clear()
    yield names
    api._load_kept.cache_clear()


@pytest.mark.usefixtures("loads")
def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    path = write_disc(tmp_path / "disc.png")
    for source in (path, str(path), io.BytesIO(path.read_bytes()), Image.open(path)):
        result = remove_background(source)
        assert isinstance(result, Image.Image)
        assert (result.mode, result.size) == ("RGBA", (64, 48))
    encoded = remove_background(path.read_bytes())
    assert isinstance(encoded, bytes)
    assert Image.open(io.BytesIO(encoded)).mode == "RGBA"
    array = remove_background(disc())
    assert (array.shape, array.dtype) == ((48, 64, 4), np.uint8)
    assert (array[0, 0, 3], array[24, 32, 3]) == (0, 255)
    assert remove_background(disc().astype(np.uint16) * 257).dtype == np.uint16


@pytest.mark.usefixtures("loads")
def test_many(tmp_path: Path) -> None:
    path = write_disc(tmp_path / "disc.png")
    array, encoded, picture = remove_background([disc(), path.read_bytes(), path])
    assert isinstance(array, np.ndarray)
    assert isinstance(encoded, bytes)
    assert isinstance(picture, Image.Image)
    stream = remove_background(disc(subject=level) for level in (255, 200))
    assert iter(stream) is stream
    assert [result.shape for result in stream] == [(48, 64, 4)] * 2
    assert remove_background([]) == []


@pytest.mark.usefixtures("loads")
def test_kinds_and_backgrounds() -> None:
    assert remove_background(disc(), kind="mask").shape == (48, 64)
    on_red = remove_background(disc(), background="red")
    assert on_red.shape == (48, 64, 3)
    assert tuple(on_red[0, 0]) == (255, 0, 0)


def test_the_model_is_loaded_once(loads: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(3):
        remove_background(disc())
    assert loads == ["nano"]
    remove_background(disc(), Path("other"))
    remove_background(disc(), "other")
    assert loads == ["nano", "other"]
    monkeypatch.setenv("BIREFNET_MODEL", "third")
    remove_background(disc())
    assert loads[-1] == "third"


def test_load(saved: Path) -> None:
    predictor = load(saved, device="cpu", engine="torch")
    assert (predictor.name, predictor.licence) == ("small", "MIT")
    assert (predictor.preprocess.width, predictor.preprocess.height) == (96, 64)
    assert predictor.engine.name == "torch cpu fp32"
    matte = predictor.predict(disc())
    assert matte.alpha.shape == (48, 64)
    assert np.isfinite(matte.alpha).all()


def test_loaded_predictor_equals_its_network(saved: Path) -> None:
    """What loading does for speed changes rounding only."""
    torch = pytest.importorskip("torch")
    batch = Preprocess(96, 64).plan(48, 64).apply(disc())[None]
    with torch.inference_mode():
        expected = load_network(saved)(torch.from_numpy(batch)).numpy()
    np.testing.assert_allclose(load(saved, device="cpu").engine.infer(batch), expected, atol=1e-4)


def test_default_model(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BIREFNET_MODEL", str(saved))
    assert load(device="cpu").name == "small"
    monkeypatch.delenv("BIREFNET_MODEL")
    assert api.default_model() == "nano"


def test_a_missing_device_is_refused_before_anything_is_fetched(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("torch")
    monkeypatch.setattr("birefnet.inference.engines.devices.available_devices", lambda: ["cpu"])
    with pytest.raises(DeviceError, match="finds only cpu"):
        load("general", device="cuda")


def test_unknown_models_are_weights_errors() -> None:
    for function in (load, load_network) if find_spec("torch") else (load,):
        with pytest.raises(WeightsError, match="no-such-model"):
            function("no-such-model")


def test_load_network(saved: Path) -> None:
    torch = pytest.importorskip("torch")
    network = load_network(saved)
    assert isinstance(network, torch.nn.Module)
    assert not network.training
    with torch.inference_mode():
        logits = network(torch.zeros(2, 3, 64, 96))
    assert logits.shape == (2, 1, 64, 96)


def test_load_network_by_preset() -> None:
    pytest.importorskip("torch")
    for given in ("tiny", PRESETS["tiny"]):
        network = load_network(given)
        assert network.config == PRESETS["tiny"]
        assert not network.training


needs_bundled = pytest.mark.skipif("nano" not in bundled_names(), reason="no bundled model")
NOTHING = {
    "grey": np.full((120, 160, 3), 128, np.uint8),
    "gradient": np.tile(np.linspace(0, 255, 160).astype(np.uint8)[:, None], (120, 1, 3)),
    "noise": np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8),
}


@needs_bundled
@pytest.mark.parametrize("picture", NOTHING.values(), ids=NOTHING)
def test_a_picture_of_nothing_is_empty(picture: np.ndarray) -> None:
    matte = birefnet.load("nano", device="cpu").predict(picture)
    assert matte.is_empty
    assert matte.alpha.max() < 0.3


@needs_bundled
def test_bundled_model(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    predictor = birefnet.load(device="cpu")
    assert predictor.name == "nano"
    matte = predictor.predict(disc(240, 320))
    assert matte.alpha[120, 160] > 0.5 > matte.alpha[0, 0]


def test_bytes_keep_what_the_picture_says_of_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = Predictor(BrightEngine(), PLAIN)
    monkeypatch.setattr(birefnet.api, "_kept", lambda *_: predictor)
    buffer = io.BytesIO()
    Image.fromarray(disc()).save(buffer, "JPEG", dpi=(300, 300))
    for metadata in ("keep", "strip"):
        data = birefnet.remove_background(buffer.getvalue(), metadata=metadata)
        assert ("dpi" in Image.open(io.BytesIO(data)).info) == (metadata == "keep")
    with pytest.raises(birefnet.errors.BiRefNetError, match="choose one of keep, strip"):
        birefnet.remove_background(buffer.getvalue(), metadata="all")
