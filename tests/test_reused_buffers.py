"""What callers do with their memory after a picture was given changes no matte and no colour."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

import birefnet
from birefnet import api
from birefnet.errors import ImageError
from birefnet.imaging.io import decode, decode_frames
from birefnet.inference.guidance import Guidance
from birefnet.inference.predictor import Predictor
from birefnet.matte import Matte
from birefnet.options import Options
from fakes import PLAIN, BrightEngine, disc

SIZE = (48, 64)


def frames(count: int = 5) -> list[NDArray[np.uint8]]:
    return [np.roll(disc(*SIZE), 9 * i, axis=1) for i in range(count)]


# Each gives something that holds the first picture, and a function that makes it hold another.
Carrier = tuple[Any, Callable[[NDArray[np.uint8]], None]]


def of_array(convert: Callable[[NDArray[np.uint8]], NDArray[Any]]) -> Callable[[], Carrier]:
    def make() -> Carrier:
        buffer = convert(frames()[0]).copy()

        def refill(picture: NDArray[np.uint8]) -> None:
            buffer[...] = convert(picture)

        return buffer, refill

    return make


def strided() -> Carrier:
    store = np.zeros((2 * SIZE[0], SIZE[1], 4), np.uint8)
    view = store[::2, :, 1:]

    def refill(picture: NDArray[np.uint8]) -> None:
        view[...] = picture

    refill(frames()[0])
    return view, refill


def of_image(mode: str) -> Callable[[], Carrier]:
    def make() -> Carrier:
        image = Image.fromarray(frames()[0]).convert(mode)

        def refill(picture: NDArray[np.uint8]) -> None:
            image.paste(Image.fromarray(picture).convert(mode))

        return image, refill

    return make


def encoded(picture: NDArray[np.uint8]) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(picture).save(stream, "bmp")  # of one length, whatever it shows
    return stream.getvalue()


def of_bytes(wrap: Callable[[bytearray], Any]) -> Callable[[], Carrier]:
    def make() -> Carrier:
        buffer = bytearray(encoded(frames()[0]))

        def refill(picture: NDArray[np.uint8]) -> None:
            buffer[:] = encoded(picture)

        return wrap(buffer), refill

    return make


def of_stream() -> Carrier:
    stream = io.BytesIO()

    def refill(picture: NDArray[np.uint8]) -> None:
        stream.seek(0)
        stream.write(encoded(picture))
        stream.seek(0)

    refill(frames()[0])
    return stream, refill


CARRIERS: dict[str, Callable[[], Carrier]] = {
    "RGB": of_array(lambda it: it),
    "RGBA": of_array(lambda it: np.dstack([it, it[..., 0]])),
    "grey": of_array(lambda it: it[..., 0]),
    "one channel": of_array(lambda it: it[..., :1]),
    "16 bits": of_array(lambda it: it.astype(np.uint16) * 257),
    "float": of_array(lambda it: it / 255),
    "bool": of_array(lambda it: it > 127),
    "Fortran order": of_array(np.asfortranarray),
    "strided view": strided,
    **{f"Pillow {mode}": of_image(mode) for mode in ("RGB", "RGBA", "L", "1", "CMYK", "I;16")},
    "bytearray": of_bytes(lambda it: it),
    "memoryview": of_bytes(memoryview),
    "stream": of_stream,
}


@pytest.fixture
def predictor(monkeypatch: pytest.MonkeyPatch) -> Predictor:
    predictor = Predictor(BrightEngine(), PLAIN)
    monkeypatch.setattr(api, "_kept", lambda *_: predictor)
    return predictor


@pytest.mark.parametrize("name", CARRIERS)
def test_what_is_made_of_one_picture_stays(name: str, predictor: Predictor) -> None:
    def results(carrier: Any) -> Iterator[Callable[[], NDArray[Any]]]:
        rewind = carrier.seek if isinstance(carrier, io.BytesIO) else lambda _: None
        for matte in (
            predictor.predict(carrier),
            (rewind(0), predictor.predict([carrier])[0])[1],
            (rewind(0), next(iter(predictor.predict_frames(carrier))))[1],
            (rewind(0), predictor.predict_guided(carrier))[1],
        ):
            yield lambda matte=matte: np.dstack([matte.alpha, matte.picture.pixels])
        for read in (decode, lambda it: next(decode_frames(it))):
            rewind(0)
            picture = read(carrier)
            yield lambda picture=picture: picture.pixels
        rewind(0)
        prepared = predictor.prepare(carrier)
        yield lambda: np.append(prepared.input.ravel(), prepared.picture.pixels.ravel())
        rewind(0)
        out = birefnet.remove_background(carrier)
        if not isinstance(out, bytes):
            yield lambda: np.asarray(out)

    carrier, refill = CARRIERS[name]()
    made = list(results(carrier))
    before = [result().copy() for result in made]
    refill(frames()[3])
    for result, expected in zip(made, before, strict=True):
        np.testing.assert_array_equal(result(), expected)


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", CARRIERS)
def test_a_loop_that_refills_its_buffer(name: str, batch_size: int, predictor: Predictor) -> None:
    def alone(picture: NDArray[np.uint8]) -> Matte:
        carrier, refill = CARRIERS[name]()
        refill(picture)
        return predictor.predict(carrier)

    def camera() -> Iterator[Any]:
        carrier, refill = CARRIERS[name]()
        for picture in frames():
            refill(picture)
            yield carrier

    class Cameras:  # may be iterated again, as a DataLoader
        def __iter__(self) -> Iterator[Any]:
            return camera()

    expected = [alone(picture) for picture in frames()]
    ways: tuple[Iterable[Any], ...] = (
        predictor.predict(camera(), batch_size=batch_size),
        predictor.predict(Cameras(), batch_size=batch_size),
        predictor.predict_each(camera(), batch_size=batch_size),
    )
    for mattes in ways:
        for matte, own in zip(mattes, expected, strict=True):
            np.testing.assert_array_equal(matte.alpha, own.alpha)
            np.testing.assert_array_equal(matte.picture.pixels, own.picture.pixels)
    for out, own in zip(birefnet.remove_background(camera()), expected, strict=True):
        if not isinstance(out, (bytes, Image.Image)):
            np.testing.assert_array_equal(out, own.cutout())


def test_files_that_a_loop_closes(tmp_path: Path, predictor: Predictor) -> None:
    """Open files and lazy images live only until the next picture is asked for."""
    paths = [tmp_path / f"{i}.png" for i in range(5)]
    for path, picture in zip(paths, frames(), strict=True):
        Image.fromarray(picture).save(path)

    def files() -> Iterator[Any]:
        for path in paths:
            with path.open("rb") as file:
                yield file

    def images() -> Iterator[Any]:
        for path in paths:
            with Image.open(path) as image:
                yield image
                image.close()

    for opened in (files(), images()):
        for matte, picture in zip(predictor.predict(opened), frames(), strict=True):
            np.testing.assert_array_equal(matte.picture.pixels, picture)


def test_a_bad_array_takes_its_own_place(predictor: Predictor) -> None:
    found = list(predictor.predict_each(iter([disc(), np.zeros((2, 2, 7)), disc()])))
    assert isinstance(found[1], ImageError)
    assert [isinstance(one, Matte) for one in found] == [True, False, True]


def test_a_background_is_read_once(predictor: Predictor) -> None:
    """An array may be changed, and a stream cannot be read twice."""
    ground = np.full((*SIZE, 3), 200, np.uint8)
    results = birefnet.remove_background(iter(frames(3)), background=ground)
    ground[:] = 0
    of_streams = birefnet.remove_background(frames(3), background=io.BytesIO(encoded(ground + 200)))
    for on_array, on_stream in zip(results, of_streams, strict=True):
        assert on_array[0, 0].tolist() == [200, 200, 200]
        np.testing.assert_array_equal(on_array, on_stream)


def test_guidance_keeps_its_mask() -> None:
    mask = np.zeros(SIZE, np.uint8)
    kept = Guidance(mask=mask), Options(guide=mask).prepared()
    mask[:] = 255
    assert kept[0].mask is not None
    assert kept[0].mask.max() == 0
    assert kept[1].guide.max() == 0


@pytest.mark.parametrize("kind", ["jpg", "png", "tif", "webp", "gif", "bmp", "new"])
def test_what_was_closed_says_so(kind: str, tmp_path: Path, predictor: Predictor) -> None:
    if kind == "new":
        image = Image.new("RGB", (8, 8))
        image.close()
        closed = [image]
    else:
        path = tmp_path / f"a.{kind}"
        Image.fromarray(disc()).save(path)
        with Image.open(path) as unread:
            pass
        with path.open("rb") as file:
            other = Image.open(file)
        image = Image.open(path)
        image.close()
        closed = [image] if kind == "webp" else [unread, other, image]  # webp is read when opened
    for each in closed:
        with pytest.raises(ImageError, match="was closed before its pixels were read; give it"):
            predictor.predict(each)


def test_a_stream_that_cannot_be_read_says_what_it_is(predictor: Predictor) -> None:
    stream = io.BytesIO(encoded(disc()))
    predictor.predict(stream)
    with pytest.raises(ImageError, match=r"the stream is at its end; call seek\(0\)"):
        predictor.predict(stream)
    with pytest.raises(ImageError, match="the stream is empty"):
        predictor.predict(io.BytesIO())
    stream.close()
    with pytest.raises(ImageError, match="the stream is closed; give it while it is open"):
        predictor.predict(stream)
    with pytest.raises(ImageError, match="gives text"):
        predictor.predict(io.StringIO("x"))
