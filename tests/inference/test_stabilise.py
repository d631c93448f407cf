"""Steadier mattes that are not worse, and nothing over a cut."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet.imaging.picture import Picture
from birefnet.inference.stabilise import RADIUS, stabilise
from birefnet.matte import Matte
from birefnet.video.temporal import TemporalError

HEIGHT, WIDTH = 96, 128
Scene = tuple[list[NDArray[Any]], list[NDArray[Any]]]


def texture(seed: int, height: int, width: int) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).uniform(0, 255, (height // 8, width // 8, 3))
    large = cv2.resize(noise.astype(np.float32), (width, height), interpolation=cv2.INTER_CUBIC)
    return np.clip(large, 0, 255).astype(np.uint8)


def scene(frames: int, seed: int = 0) -> Scene:
    """A patterned disc that crosses a patterned ground, which moves the other way."""
    ground, skin = texture(seed, HEIGHT + 80, WIDTH + 80), texture(seed + 1, 64, 64)
    pictures, truths = [], []
    for number in range(frames):
        left, top = 20 + 2 * number, 16 + number
        alpha = np.zeros((HEIGHT, WIDTH), np.float32)
        y, x = np.mgrid[-32:32, -32:32] + 0.5
        disc = np.clip(28 - np.hypot(x, y) + 0.5, 0, 1)
        alpha[top : top + 64, left : left + 64] = disc[: HEIGHT - top, : WIDTH - left]
        front = np.zeros((HEIGHT, WIDTH, 3))
        front[top : top + 64, left : left + 64] = skin[: HEIGHT - top, : WIDTH - left]
        behind = ground[40 - number :, 40 + number :][:HEIGHT, :WIDTH]
        mixed = alpha[..., None] * front + (1 - alpha[..., None]) * behind
        pictures.append(np.rint(mixed).astype(np.uint8))
        truths.append(alpha)
    return pictures, truths


def flickering(truths: list[NDArray[Any]], seed: int = 0) -> list[NDArray[Any]]:
    """Holes and islands anew in every frame, and soft noise."""
    generator = np.random.default_rng(seed)
    spoilt = []
    for truth in truths:
        alpha = truth.copy()
        for value in (0.0, 1.0):
            x, y = generator.integers((0, 0), (WIDTH, HEIGHT))
            cv2.circle(alpha, (int(x), int(y)), int(generator.integers(5, 12)), value, -1)
        noise = cv2.GaussianBlur(generator.normal(0, 0.5, truth.shape), (0, 0), 3)
        spoilt.append(np.clip(alpha + noise, 0, 1).astype(np.float32))
    return spoilt


def mattes_of(pictures: list[NDArray[Any]], alphas: list[NDArray[Any]]) -> Iterator[Matte]:
    for pixels, alpha in zip(pictures, alphas, strict=True):
        yield Matte(alpha, Picture(pixels))


def errors(truths: list[NDArray[Any]], alphas: list[NDArray[Any]]) -> TemporalError:
    total = TemporalError()
    for alpha, truth in zip(alphas, truths, strict=True):
        total.add(alpha, truth)
    return total


def test_flicker_falls_and_frames_do_not_suffer() -> None:
    """By 30 % at least; in fact it is more than half."""
    pictures, truths = scene(16)
    mattes = flickering(truths)
    results = list(stabilise(mattes_of(pictures, mattes)))
    for matte, pixels in zip(results, pictures, strict=True):
        assert matte.picture.pixels is pixels
    before, after = errors(truths, mattes), errors(truths, [m.alpha for m in results])
    assert after.dtssd < 0.5 * before.dtssd
    assert after.mae < before.mae


def test_right_mattes_stay_right() -> None:
    """Motion is followed: what is right already keeps its edge."""
    pictures, truths = scene(12)
    steady = [matte.alpha for matte in stabilise(mattes_of(pictures, truths))]
    total = errors(truths, steady)
    assert total.mae < 0.004
    assert total.dtssd < 0.03
    assert all(alpha.min() >= 0 and alpha.max() <= 1 for alpha in steady)


def test_nothing_crosses_a_cut() -> None:
    """Each scene comes out as if it were alone."""
    first, second = scene(6, seed=0), scene(6, seed=50)
    spoilt = flickering(first[1], 1), flickering(second[1][::-1], 2)
    both = stabilise(mattes_of(first[0] + second[0][::-1], spoilt[0] + spoilt[1]))
    alone = [
        *stabilise(mattes_of(first[0], spoilt[0])),
        *stabilise(mattes_of(second[0][::-1], spoilt[1])),
    ]
    for together, single in zip(both, alone, strict=True):
        assert np.array_equal(together.alpha, single.alpha)


def test_it_streams() -> None:
    """A frame waits for `RADIUS` more and no longer; short films come through, too."""
    pictures, truths = scene(10)
    taken = 0

    def counted() -> Iterator[Matte]:
        nonlocal taken
        for matte in mattes_of(pictures, truths):
            taken += 1
            yield matte

    for number, matte in enumerate(stabilise(counted())):
        assert matte.picture.pixels is pictures[number]
        assert taken <= number + RADIUS + 1
    for length in range(4):
        short = list(stabilise(mattes_of(pictures[:length], truths[:length])))
        assert len(short) == length


def test_large_pictures_keep_their_detail() -> None:
    """Corrections are made in a smaller picture: a still one must not change at all."""
    generator = np.random.default_rng(0)
    pixels = texture(3, 800, 1600)
    alpha = (generator.random((800, 1600)) > 0.5).astype(np.float32)
    for matte in stabilise(mattes_of([pixels] * 3, [alpha] * 3)):
        assert np.abs(matte.alpha - alpha).max() < 1e-3


def test_temporal_error() -> None:
    """A constant mistake costs nothing in time, one that blinks does."""
    truth = np.zeros((4, 5), np.float32)
    still, blinking = TemporalError(), TemporalError()
    for number in range(4):
        still.add(truth + 0.5, truth)
        blinking.add(truth + 0.5 * (number % 2), truth)
    assert (still.mae, still.dtssd) == (0.5, 0)
    assert (blinking.mae, blinking.dtssd) == (0.25, 0.5)
    with pytest.raises(ValueError, match="got a matte of"):
        still.add(truth, truth[:2])
