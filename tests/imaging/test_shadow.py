"""Shadows, drawn and kept."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from birefnet.errors import BiRefNetError
from birefnet.imaging.framing import Frame
from birefnet.imaging.picture import Picture
from birefnet.imaging.shadow import Shadow, shadow_in
from birefnet.matte import Matte

GREY = np.full((200, 300, 3), 128, np.uint8)


def figure() -> NDArray[np.float32]:
    """A column 60 high and 30 wide that stands on row 150."""
    alpha = np.zeros((200, 300), np.float32)
    alpha[90:150, 135:165] = 1
    return alpha


def weight(shadow: NDArray) -> tuple[float, float]:
    """Where a shadow lies in the mean: x, y."""
    y, x = np.mgrid[: shadow.shape[0], : shadow.shape[1]]
    return float((shadow * x).sum() / shadow.sum()), float((shadow * y).sum() / shadow.sum())


@pytest.mark.parametrize("kind", ["ground", "drop"])
@pytest.mark.parametrize(("angle", "side"), [(90, 1), (-90, -1)])
def test_it_falls_where_the_angle_says(kind: str, angle: float, side: int) -> None:
    shadow = Shadow(kind, angle=angle).of(GREY, figure())
    assert shadow.dtype == np.float32
    assert 0 <= shadow.min() <= shadow.max() <= 0.5
    x, _ = weight(shadow)
    assert side * (x - 150) > 2


def test_it_lies_on_the_ground_and_is_darkest_at_the_foot() -> None:
    shadow = Shadow("ground").of(GREY, figure())
    free = shadow * (1 - figure())
    row, _ = np.unravel_index(free.argmax(), free.shape)
    assert abs(row - 150) <= 3
    assert free[:130].max() < 0.25  # nothing hangs in the air beside the head
    assert free.max() > 0.25


def test_towards_the_viewer_and_away() -> None:
    _, near = weight(Shadow("ground", angle=180).of(GREY, figure()))
    _, far = weight(Shadow("ground", angle=0).of(GREY, figure()))
    assert near > 150 > far


def test_strength_blur_and_length() -> None:
    alpha = figure()
    soft, hard = (Shadow("ground", blur=blur).of(GREY, alpha) for blur in (2, 0.3))
    assert np.abs(np.diff(hard, axis=1)).max() > np.abs(np.diff(soft, axis=1)).max()
    weak, strong = (Shadow("drop", strength=s).of(GREY, alpha) for s in (0.1, 0.8))
    np.testing.assert_allclose(8 * weak, strong, atol=1e-5)
    short, long = (Shadow("ground", angle=90, length=n).of(GREY, alpha) for n in (0.2, 1.5))
    assert (long > 0.05).sum() > (short > 0.05).sum()


def test_each_foot_touches_the_ground() -> None:
    alpha = np.zeros((200, 300), np.float32)
    alpha[60:100, 80:220] = 1
    for left, bottom in ((85, 150), (205, 140)):
        alpha[100:bottom, left : left + 12] = 1
    shadow = Shadow("ground", length=0).of(GREY, alpha)
    for left, bottom in ((85, 150), (205, 140)):
        assert shadow[bottom, left + 6] > 0.2
    assert shadow[148, 150] < 0.1


@pytest.mark.parametrize("kind", ["ground", "drop", "keep"])
def test_no_subject_has_no_shadow(kind: str) -> None:
    assert not Shadow(kind).of(GREY, np.zeros((200, 300), np.float32)).any()


def photographed(depth: float = 0.4, texture: float = 2) -> tuple[NDArray, NDArray, NDArray]:
    """Pixels, alpha and shadow of a column on paper whose light falls off."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[-1:1:200j, -1:1:300j]
    paper = 215 + 20 * x - 15 * y - 10 * x * x
    shadow = np.zeros((200, 300), np.float32)
    cv2.ellipse(shadow, (180, 150), (50, 12), 0, 0, 360, depth, -1)
    shadow = np.asarray(cv2.GaussianBlur(shadow, (0, 0), 4))
    pixels = np.dstack([paper, 0.97 * paper, 0.93 * paper]) * (1 - shadow[..., None])
    pixels += rng.normal(0, texture, pixels.shape)
    alpha = figure()
    pixels[alpha > 0] = (40, 60, 150)
    return np.clip(pixels, 0, 255).astype(np.uint8), alpha, shadow


@pytest.mark.parametrize("depth", [0.15, 0.4, 0.7])
def test_a_photographed_shadow_is_found(depth: float) -> None:
    pixels, alpha, shadow = photographed(depth)
    found = shadow_in(pixels, alpha)
    beside = cv2.dilate(alpha, np.ones((7, 7))) == 0
    assert np.abs(found - shadow)[beside].mean() < 0.006
    assert np.abs(found - shadow)[beside].max() < 0.1
    assert found[:60].max() < 0.02
    # Under the subject's edge it goes on, so that no bright seam shows.
    assert found[148, 163] == pytest.approx(shadow[148, 163], abs=0.15)


def test_another_dark_thing_is_no_shadow() -> None:
    pixels, alpha, _ = photographed(0.4)
    pixels[20:50, 20:60] = 60  # it does not touch the subject
    pixels[100:140, 165:175] = (200, 40, 40)  # it does, and is coloured
    found = shadow_in(pixels, alpha)
    assert found[20:50, 20:60].max() == 0
    assert found[105:130, 168:173].max() < 0.1


def test_a_busy_ground_is_refused() -> None:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 255, (25, 38, 3)).astype(np.uint8)
    pixels = cv2.resize(pixels, (300, 200), interpolation=cv2.INTER_NEAREST)
    with pytest.raises(BiRefNetError, match="not plain enough"):
        shadow_in(pixels, figure())
    with pytest.raises(BiRefNetError, match="hardly any ground"):
        shadow_in(pixels, np.ones((200, 300), np.float32))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"kind": "long"}, "no shadow 'long'; choose ground, drop, keep"),
        ({"strength": 0}, "strength is 0"),
        ({"blur": -1}, "blur is -1"),
        ({"angle": float("nan")}, "angle is nan"),
        ({"length": 9}, "length is 9"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(BiRefNetError, match=message):
        Shadow(**options)


def standing(top: int, left: int, height: int, width: int) -> Matte:
    """A figure on two legs in a picture of 120 x 160."""
    alpha = np.zeros((120, 160), np.float32)
    alpha[top : top + height // 2, left : left + width] = 1
    for leg in (left, left + width - width // 3):
        alpha[top : top + height, leg : leg + width // 3] = 1
    return Matte(alpha, Picture(np.full((120, 160, 3), 128, np.uint8)))


STYLES = [
    Shadow(kind, angle=angle, length=length, blur=blur)
    for kind in ("ground", "drop")
    for angle in (-120, -90, 0, 60, 180)
    for length, blur in ((0.5, 1), (2, 0.2), (1, 4))
]


@pytest.mark.parametrize("place", [(0, 0, 60, 30), (55, 120, 64, 39), (30, 60, 60, 40)])
@pytest.mark.parametrize("style", STYLES, ids=lambda it: f"{it.kind} {it.angle} {it.length}")
def test_a_cropped_shadow_fades_out_before_every_border(
    style: Shadow, place: tuple[int, int, int, int]
) -> None:
    matte = standing(*place).with_shadow(style)
    assert matte.shadow is not None
    assert matte.shadow.shape == matte.alpha.shape  # uncropped, the picture keeps its size
    for options in ({}, {"margin": "10%"}, {"aspect": 1.0}):
        cut = matte.cropped(**options)
        shadow, alpha = cut.shadow, cut.alpha
        assert shadow is not None
        assert alpha.sum() == pytest.approx(matte.alpha.sum())  # nothing of the subject is lost
        for edge in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
            free = shadow[edge] * (1 - alpha[edge])
            assert free.max() <= 1 / 255 + 1e-6
        rgba = cut.cutout()
        assert rgba.shape[:2] == cut.picture.pixels.shape[:2] == shadow.shape


def test_the_canvas_grows_by_what_is_beyond_the_picture() -> None:
    matte = standing(50, 120, 68, 39).with_shadow(Shadow("ground", angle=90, length=1))
    frame = matte.frame()
    assert frame is not None
    assert frame.right > 160
    inside = Frame(0, 0, 120, 160)
    beyond = matte.within(Frame(-50, -50, 220, 400))
    assert beyond.shadow is not None
    assert matte.shadow is not None
    np.testing.assert_array_equal(
        Frame(50, 50, 120, 160).cut(beyond.shadow), matte.within(inside).shadow
    )
    assert beyond.shadow[:, 210:].max() > 0.1


@pytest.mark.parametrize("hem", [0.5, 0.75, 0.85, 0.9, 0.95])
@pytest.mark.parametrize("shape", ["flat", "flared", "ragged"])
def test_nothing_hangs_under_a_hem(hem: float, shape: str) -> None:
    """A wide skirt over two legs: the legs touch the ground, the skirt does not."""
    alpha = np.zeros((400, 400), np.float32)
    bottom, end = 350, round(50 + 300 * hem)
    for column in range(100, 300):
        rise = {"flat": 0, "flared": 12 * np.cos((column - 200) / 64), "ragged": column % 7}[shape]
        alpha[50 : round(end - rise), column] = 1
    for left in (170, 210):
        alpha[50:bottom, left : left + 20] = 1
    shadow = Shadow("ground", length=0).of(np.zeros((400, 400, 3), np.uint8), alpha)
    for left in (170, 210):
        assert shadow[bottom : bottom + 3, left + 5 : left + 15].min() > 0.2
    for column in (105, 130, 270, 295):
        below = np.flatnonzero(alpha[:, column])[-1] + 1
        if bottom - below > 20:  # nearer, it lies in the shadow of the feet
            assert shadow[below : below + 8, column].max() < 0.05


def test_what_the_border_cuts_off_does_not_stand() -> None:
    alpha = np.zeros((200, 300), np.float32)
    alpha[90:, 135:165] = 1
    for angle in (0, 60, -90):
        matte = Matte(alpha, Picture(GREY)).with_shadow(Shadow("ground", angle=angle, length=2))
        frame = matte.frame()
        assert frame is not None
        assert frame.bottom == 200  # no strip below the cut
        assert matte.shadow is not None
        assert (matte.shadow[-1] * (1 - alpha[-1])).max() <= 1 / 255
        assert matte.shadow.max() > 0.05
