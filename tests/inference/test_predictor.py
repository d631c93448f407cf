"""The predictor: right mattes, in order, in batches, with bounded reading ahead."""

from __future__ import annotations

import io
import threading
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet import Matte, Predictor
from birefnet.errors import BiRefNetError, DeviceError, ImageError
from birefnet.imaging.geometry import Preprocess
from birefnet.imaging.io import decode
from birefnet.inference.predictor import DECODERS
from fakes import PLAIN, BrightEngine, disc, write_animation, write_disc

NATIVE = Preprocess(64, 64, mean=(0, 0, 0), std=(1, 1, 1), fit="native", minimum=32, maximum=256)


@pytest.fixture
def engine() -> BrightEngine:
    return BrightEngine()


@pytest.fixture
def predictor(engine: BrightEngine) -> Predictor:
    return Predictor(engine, PLAIN)


def sources_of_every_kind(folder: Path) -> dict[str, object]:
    path = write_disc(folder / "disc.png")
    return {
        "path": path,
        "name": str(path),
        "bytes": path.read_bytes(),
        "bytearray": bytearray(path.read_bytes()),
        "file": io.BytesIO(path.read_bytes()),
        "Pillow": Image.open(path),
        "array": disc(),
        "picture": decode(path),
    }


def test_every_kind_of_source_gives_the_same_matte(predictor: Predictor, tmp_path: Path) -> None:
    for kind, source in sources_of_every_kind(tmp_path).items():
        matte = predictor.predict(source)
        assert isinstance(matte, Matte), kind
        assert matte.alpha.shape == (48, 64)
        assert matte.alpha.dtype == np.float32
        np.testing.assert_array_equal(matte.alpha, predictor.predict(disc()).alpha, err_msg=kind)


def test_alpha_is_the_probability(predictor: Predictor) -> None:
    """Sigmoid first, resize second, and no stretching to the map's own range."""
    for level in (0, 100, 128, 160, 255):
        alpha = predictor.predict(np.full((10, 20, 3), level, np.uint8)).alpha
        expected = 1 / (1 + np.exp(-BrightEngine.steepness * (level / 255 - 0.5)))
        np.testing.assert_allclose(alpha, expected, atol=1e-5)


def test_sigmoid_comes_before_the_resize() -> None:
    """Half black, half white: at the border the mean of two probabilities, not of two logits."""
    picture = np.zeros((64, 66, 3), np.uint8)
    picture[:, 40:] = 255
    engine = BrightEngine()
    matte = Predictor(engine, PLAIN).predict(picture)
    geometry = PLAIN.plan(64, 66)
    logits = engine.infer(geometry.apply(picture)[None])[0, 0]
    expected = geometry.restore(1 / (1 + np.exp(-logits)))
    np.testing.assert_allclose(matte.alpha, expected, atol=1e-6)


def test_extreme_logits_stay_finite(engine: BrightEngine) -> None:
    engine.steepness = 1e6
    with np.errstate(all="raise", under="ignore"):
        alpha = Predictor(engine, PLAIN).predict(disc()).alpha
    assert set(np.unique(alpha)) >= {0.0, 1.0}
    assert alpha.min() >= 0
    assert alpha.max() <= 1


def test_a_picture_without_object_stays_empty(predictor: Predictor) -> None:
    noise = np.random.default_rng(0).integers(60, 90, (80, 80, 3)).astype(np.uint8)
    matte = predictor.predict(noise)
    assert matte.is_empty
    assert matte.alpha.max() < 0.01


def test_own_alpha_multiplies(predictor: Predictor) -> None:
    rgba = np.dstack([np.full((40, 40, 3), 255, np.uint8), np.full((40, 40), 255, np.uint8)])
    rgba[:20, :, 3] = 51
    alpha = predictor.predict(rgba).alpha
    np.testing.assert_allclose(alpha[:20], 0.2, atol=1e-6)
    np.testing.assert_allclose(alpha[20:], 1, atol=1e-6)


@pytest.mark.parametrize("size", [(1, 1), (1, 200), (200, 1), (3, 5), (333, 77)])
def test_any_size(predictor: Predictor, size: tuple[int, int]) -> None:
    assert predictor.predict(np.full((*size, 3), 255, np.uint8)).alpha.shape == size


@pytest.mark.parametrize(
    ("resolution", "shape"),
    [
        (None, (64, 64)),
        (128, (128, 128)),
        ((96, 64), (64, 96)),
        ("native", (256, 288)),
        (100, (96, 96)),
    ],
)
def test_resolution(
    predictor: Predictor, engine: BrightEngine, resolution: object, shape: tuple[int, int]
) -> None:
    predictor.predict(disc(250, 290), resolution=resolution)
    assert engine.batches == [(1, 3, *shape)]


def test_list_gives_list_in_order(predictor: Predictor, engine: BrightEngine) -> None:
    pictures = [disc(subject=level) for level in (255, 150, 200, 140, 255)]
    mattes = predictor.predict(pictures, batch_size=2)
    assert isinstance(mattes, list)
    expected = [predictor.predict(picture).alpha for picture in pictures]
    for matte, alpha in zip(mattes, expected, strict=True):
        np.testing.assert_array_equal(matte.alpha, alpha)
    assert [shape[0] for shape in engine.batches[:3]] == [2, 2, 1]
    assert predictor.predict([]) == []
    assert len(predictor.predict((disc(),))) == 1


def test_pictures_of_one_network_size_run_together(engine: BrightEngine) -> None:
    """Wide and tall pictures take turns; each batch holds one size, and the order is kept."""
    wide, tall = disc(64, 128), disc(128, 64)
    mattes = Predictor(engine, NATIVE).predict([wide, tall] * 4, batch_size=3)
    assert [matte.alpha.shape for matte in mattes] == [(64, 128), (128, 64)] * 4
    assert len(engine.batches) == 4
    assert {shape[0] for shape in engine.batches} <= {1, 2, 3}
    assert sum(shape[0] for shape in engine.batches) == 8


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_iterator_is_lazy_and_bounded(predictor: Predictor, batch_size: int) -> None:
    drawn: list[int] = []

    def endless() -> Iterator[np.ndarray]:
        while True:
            drawn.append(len(drawn))
            yield disc()

    mattes = predictor.predict(endless(), batch_size=batch_size)
    assert drawn == []
    for taken in range(1, 8):
        next(mattes)
        assert len(drawn) <= taken + 2 * batch_size + DECODERS


def test_leaving_a_stream_stops_its_threads(predictor: Predictor) -> None:
    mattes = predictor.predict_each(disc() for _ in range(100))
    next(mattes)
    mattes.close()
    for thread in threading.enumerate():
        if thread.name.startswith("birefnet-decode"):
            thread.join(timeout=5)
            assert not thread.is_alive()


def test_other_iterables_stream_too(predictor: Predictor, tmp_path: Path) -> None:
    for index in range(3):
        write_disc(tmp_path / f"{index}.png", subject=200 + index)
    assert len(list(predictor.predict(tmp_path.glob("*.png")))) == 3
    assert len(list(predictor.predict({"a": disc()}.values()))) == 1


def test_an_unreadable_picture_raises_when_its_turn_comes(predictor: Predictor) -> None:
    mattes = predictor.predict(iter([disc(), b"not a picture", disc()]))
    assert isinstance(next(mattes), Matte)
    with pytest.raises(ImageError):
        next(mattes)
    with pytest.raises(ImageError):
        predictor.predict([disc(), b"not a picture"])
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        predictor.predict("nowhere.png")


@pytest.mark.parametrize("batch_size", [1, 2, 4])
def test_predict_each_puts_errors_in_their_places(predictor: Predictor, batch_size: int) -> None:
    sources = [b"", disc(), b"nothing", b"nothing", disc(), "nowhere.png"]
    results = list(predictor.predict_each(sources, batch_size=batch_size))
    assert [isinstance(result, Matte) for result in results] == [0, 1, 0, 0, 1, 0]
    assert all(isinstance(r, (Matte, BiRefNetError)) for r in results)


def test_a_failing_iterator_is_heard_after_what_came_before(predictor: Predictor) -> None:
    def breaks() -> Iterator[np.ndarray]:
        yield disc()
        yield disc()
        raise ConnectionError("the camera is gone")

    mattes = predictor.predict(breaks(), batch_size=4)
    assert isinstance(next(mattes), Matte)
    assert isinstance(next(mattes), Matte)
    with pytest.raises(ConnectionError, match="the camera is gone"):
        next(mattes)


def test_engine_errors_reach_the_caller() -> None:
    class Full(BrightEngine):
        def infer(self, batch: np.ndarray) -> np.ndarray:
            if batch.shape[-1] > 64:
                raise DeviceError("cpu ran out of memory")
            return super().infer(batch)

    predictor = Predictor(Full(), NATIVE)
    with pytest.raises(DeviceError, match="out of memory"):
        predictor.predict(disc(128, 128))
    results = list(predictor.predict_each([disc(64, 64), disc(128, 128), disc(64, 64)]))
    assert [isinstance(result, Matte) for result in results] == [True, False, True]


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_frames_of_an_animation(predictor: Predictor, tmp_path: Path, suffix: str) -> None:
    path = write_animation(tmp_path / f"moving{suffix}", frames=4)
    frames = list(predictor.predict_frames(path, batch_size=3))
    assert len(frames) == 4
    assert [frame.picture.duration_ms for frame in frames] == [80] * 4
    assert frames[0].coverage > frames[-1].coverage > 0
    assert len(list(predictor.predict_frames(write_disc(tmp_path / "still.png")))) == 1


def test_sixteen_bits_stay(predictor: Predictor) -> None:
    matte = predictor.predict(disc().astype(np.uint16) * 257)
    assert matte.picture.pixels.dtype == np.uint16
    np.testing.assert_allclose(matte.alpha, predictor.predict(disc()).alpha, atol=0.01)


def test_module_is_run_by_torch() -> None:
    torch = pytest.importorskip("torch")
    from birefnet.network.build import build_network

    torch.manual_seed(0)
    network = build_network("tiny")
    predictor = Predictor(network, Preprocess(64, 64), device="cpu")
    assert predictor.engine.name == "torch cpu fp32"
    one, two = disc(), disc(60, 60, subject=180)
    together = predictor.predict([one, two], batch_size=2)
    for picture, matte in zip((one, two), together, strict=True):
        np.testing.assert_allclose(matte.alpha, predictor.predict(picture).alpha, atol=1e-5)
    with torch.inference_mode():
        logits = network(
            torch.from_numpy(Preprocess(64, 64).plan(64, 64).apply(disc(64, 64)))[None]
        )
    np.testing.assert_allclose(
        predictor.predict(disc(64, 64)).alpha, logits.sigmoid()[0, 0].numpy(), atol=1e-6
    )


def test_engine_has_its_own_device(engine: BrightEngine) -> None:
    with pytest.raises(BiRefNetError, match="set them where the engine is made"):
        Predictor(engine, PLAIN, device="cuda")


def test_nonsense_is_refused_in_one_sentence(predictor: Predictor) -> None:
    with pytest.raises(BiRefNetError, match="batch_size is 0"):
        predictor.predict([disc()], batch_size=0)
    with pytest.raises(BiRefNetError, match="resolution is 'big'"):
        predictor.predict(disc(), resolution="big")
    for source in (None, 7):
        with pytest.raises(ImageError):
            predictor.predict(source)


def test_a_tensor_of_planes_is_no_picture(predictor: Predictor) -> None:
    torch = pytest.importorskip("torch")
    with pytest.raises(ImageError):
        predictor.predict(torch.zeros(3, 8, 8))


VIEWS = replace(PLAIN, views=((96, 64, True), (64, 64, False)))


def test_views_are_averaged_in_every_way_in(engine: BrightEngine, tmp_path: Path) -> None:
    half = np.zeros((64, 96, 3), np.uint8)
    half[:, :30] = 255  # on the left; a mirrored view must be turned back
    predictor = Predictor(engine, VIEWS)
    matte = predictor.predict(half)
    assert engine.batches == [(1, 3, 64, 96), (1, 3, 64, 64)]
    expected = half[..., 0] > 0
    assert ((matte.alpha > 0.5) == expected).all()
    many = predictor.predict([half, half], batch_size=2)
    assert engine.batches[2:] == [(2, 3, 64, 96), (2, 3, 64, 64)]
    for other in (*many, predictor.predict_guided(half)):
        np.testing.assert_allclose(other.alpha, matte.alpha, atol=1e-6)


def test_a_resolution_means_one_view(engine: BrightEngine) -> None:
    predictor = Predictor(engine, VIEWS)
    predictor.predict(disc(), resolution=64)
    assert engine.batches == [(1, 3, 64, 64)]
    plain = Predictor(BrightEngine(), PLAIN).predict(disc())
    np.testing.assert_array_equal(predictor.predict(disc(), resolution=64).alpha, plain.alpha)


def test_values_of_8_bits_in_16_are_warned_about() -> None:
    low = disc().astype(np.uint16)
    png = cv2.imencode(".png", low)[1].tobytes()
    predictor = Predictor(BrightEngine(), PLAIN)
    images = Image.fromarray(low[..., 0]), Image.fromarray(disc()[..., 0]).convert("I")
    for source in (low, *images, png):
        with pytest.warns(UserWarning, match="is almost black: no value is above 255"):
            predictor.predict(source)
        for sources in ([source], iter([source])):
            with pytest.warns(UserWarning, match="is almost black: no value is above 255"):
                assert len(list(predictor.predict(sources))) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for source in (low * 0, low * 257, disc() / 255, decode(png)):
            predictor.predict(source)
        decode(png)
