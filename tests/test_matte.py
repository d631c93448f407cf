"""The matte: what is made of it, and what it says of itself."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from birefnet import Matte
from birefnet.errors import BiRefNetError, ImageError
from birefnet.imaging.io import decode
from birefnet.imaging.picture import Picture
from fakes import disc, write_disc


def matte_of(alpha: float | np.ndarray, size: tuple[int, int] = (40, 60), **kind: object) -> Matte:
    plane = np.broadcast_to(np.float32(alpha), size).astype(np.float32)
    pixels = np.full((*size, 3), (200, 100, 50), np.uint8)
    return Matte(plane, Picture(pixels, **kind))


@pytest.fixture
def matte() -> Matte:
    """A disc with a soft edge, cut at half."""
    pixels = disc(60, 80)
    return Matte(pixels[..., 0].astype(np.float32) / 235, Picture(pixels))


def test_shapes_and_types(matte: Matte) -> None:
    assert (matte.height, matte.width) == (60, 80)
    for made, channels in (
        (matte.cutout(), 4),
        (matte.foreground(), 3),
        (matte.on("white"), 3),
        (matte.on("#ff000080"), 4),
        (matte.on(disc(10, 20)), 3),
        (matte.blurred(), 3),
        (matte.overlay(), 3),
    ):
        assert made.shape == (60, 80, channels)
        assert made.dtype == np.uint8
    assert matte.mask().shape == (60, 80)
    assert matte.mask(16).dtype == np.uint16


def test_sixteen_bits_are_kept() -> None:
    pixels = disc().astype(np.uint16) * 257
    matte = Matte(np.ones(pixels.shape[:2], np.float32), Picture(pixels))
    assert matte.cutout().dtype == np.uint16
    assert matte.cutout()[..., 3].min() == 65535
    restored = decode(matte.encode("png"))
    np.testing.assert_array_equal(restored.pixels, matte.cutout()[..., :3])


def test_an_opaque_matte_changes_nothing() -> None:
    matte = matte_of(1.0)
    np.testing.assert_allclose(matte.cutout()[..., :3], matte.picture.pixels, atol=1)
    np.testing.assert_allclose(matte.on("blue"), matte.picture.pixels, atol=1)


def test_an_empty_matte_shows_the_background_only() -> None:
    assert (matte_of(0.0).on((1, 2, 3)) == (1, 2, 3)).all()
    assert (matte_of(0.0).render("white") == 255).all()
    assert (matte_of(0.0).render("green") == (0, 255, 0)).all()


def test_refinement_takes_the_background_out_of_the_edge() -> None:
    """A red subject on blue, half transparent everywhere at its edge: red again, no violet."""
    alpha = np.zeros((64, 64), np.float32)
    alpha[16:48, 16:48] = 0.5
    alpha[20:44, 20:44] = 1
    red, blue = np.array([220, 20, 20]), np.array([20, 20, 220])
    pixels = (alpha[..., None] * red + (1 - alpha[..., None]) * blue).astype(np.uint8)
    matte = Matte(alpha, Picture(pixels))
    edge = alpha == 0.5
    refined, plain = matte.cutout()[edge], matte.cutout(refine=False)[edge]
    assert np.abs(refined[:, :3] - red).mean() < 0.3 * np.abs(plain[:, :3] - red).mean()
    np.testing.assert_array_equal(matte.cutout(refine=False)[..., :3], pixels)


def test_coverage_is_the_mean_alpha() -> None:
    assert matte_of(0.25).coverage == pytest.approx(0.25)
    assert matte_of(0.0).coverage == 0


@pytest.mark.parametrize(
    ("alpha", "confidence"), [(0, 0), (0.3, 0), (0.5, 0), (0.75, 0.5), (0.9, 0.8), (1, 1)]
)
def test_confidence_is_the_distance_from_one_half(alpha: float, confidence: float) -> None:
    assert matte_of(alpha).confidence == pytest.approx(confidence, abs=1e-5)


def test_confidence_weighs_the_subject_not_the_ground() -> None:
    subject = np.zeros((100, 100), np.float32)
    subject[40:60, 40:60] = 1
    assert matte_of(subject, (100, 100)).confidence == pytest.approx(1)
    assert 0.9 < matte_of(np.maximum(subject, 0.001), (100, 100)).confidence < 1


@pytest.mark.parametrize(
    ("alpha", "empty"),
    [(0.0, True), (1e-4, True), (0.2, True), (0.5, True), (0.8, False), (1.0, False)],
)
def test_is_empty(alpha: float, empty: bool) -> None:
    assert matte_of(alpha).is_empty is empty


def test_a_tiny_subject_is_one_and_a_speck_is_none() -> None:
    for side, empty in ((30, False), (10, True)):
        alpha = np.zeros((1000, 1000), np.float32)
        alpha[:side, :side] = 1
        assert matte_of(alpha, (1000, 1000)).is_empty is empty


def test_adjusted(matte: Matte) -> None:
    assert matte.adjusted() is matte
    assert set(np.unique(matte.adjusted(threshold=0.5).alpha)) == {0.0, 1.0}
    grown, shrunk = matte.adjusted(offset=3), matte.adjusted(offset=-3)
    assert grown.coverage > matte.coverage > shrunk.coverage
    soft = matte.adjusted(blur=4)
    assert soft.alpha.max() <= 1
    assert soft.confidence < matte.adjusted(threshold=0.5).confidence
    assert matte.adjusted(offset=2, blur=4, threshold=0.5).alpha.dtype == np.float32


def test_render_is_the_methods_by_name(matte: Matte) -> None:
    np.testing.assert_array_equal(matte.render(), matte.cutout())
    np.testing.assert_array_equal(matte.render("mask"), matte.mask())
    np.testing.assert_array_equal(matte.render("foreground"), matte.foreground())
    np.testing.assert_array_equal(matte.render("blur"), matte.blurred())
    np.testing.assert_array_equal(matte.render("overlay"), matte.overlay())
    np.testing.assert_array_equal(matte.render("colour", background="red"), matte.on("red"))
    np.testing.assert_array_equal(matte.render(background="1,2,3"), matte.on((1, 2, 3)))


@pytest.mark.parametrize(
    ("kind", "background", "message"),
    [
        ("shadow", None, "choose one of cutout, mask"),
        ("colour", None, "needs a background"),
        ("mask", "white", "takes no background"),
        ("cutout", "no-such-colour", "neither a file nor a colour"),
    ],
)
def test_what_does_not_go_together_is_refused(
    matte: Matte, kind: str, background: str | None, message: str
) -> None:
    with pytest.raises(BiRefNetError, match=message):
        matte.render(kind, background=background)


def test_background_pictures_of_every_kind(matte: Matte, tmp_path: Path) -> None:
    path = write_disc(tmp_path / "behind.png", height=30, width=90)
    expected = matte.on(path)
    for source in (str(path), path.read_bytes(), Image.open(path), decode(path)):
        np.testing.assert_array_equal(matte.on(source), expected)
    assert (matte.on(path, mode="fit")[0] != matte.on(path)[0]).any()


@pytest.mark.parametrize("bits", [8, 16])
def test_what_is_transparent_behind_is_white(matte: Matte, bits: int) -> None:
    behind = np.zeros((60, 80, 4), np.uint8)  # black, and nothing of it to be seen
    behind[:, 40:, 3] = 255
    array = behind if bits == 8 else behind.astype(np.uint16) * 257
    expected = matte.on(np.repeat(np.uint8(255) - behind[..., 3:], 3, axis=2))
    for source in (array, decode(array)):
        np.testing.assert_array_equal(matte.on(source), expected)


def test_to_pil(matte: Matte) -> None:
    assert matte.to_pil().mode == "RGBA"
    assert matte.to_pil("mask").mode == "L"
    assert matte.to_pil(background="white").mode == "RGB"
    assert matte.to_pil().size == (80, 60)


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif", ".PNG"])
def test_save_cutout(matte: Matte, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"cutout{suffix}"
    matte.save(path)
    picture = decode(path)
    assert picture.alpha is not None
    np.testing.assert_allclose(picture.alpha, matte.alpha, atol=1 / 255)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


def test_save_knows_the_home_folder(
    matte: Matte, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    matte.save("~/new/a.png")
    assert (tmp_path / "new/a.png").is_file()


def test_save_jpeg_needs_a_background(matte: Matte, tmp_path: Path) -> None:
    with pytest.raises(BiRefNetError, match="background"):
        matte.save(tmp_path / "a.jpg")
    assert list(tmp_path.iterdir()) == []
    matte.save(tmp_path / "a.jpg", background="white", quality=80)
    assert Image.open(tmp_path / "a.jpg").format == "JPEG"
    matte.save(tmp_path / "mask.jpg", "mask")
    assert Image.open(tmp_path / "mask.jpg").mode == "L"


def test_save_refuses_unknown_suffixes(matte: Matte, tmp_path: Path) -> None:
    for name in ("cutout", "cutout.txt"):
        with pytest.raises(BiRefNetError, match="has no suffix of a picture"):
            matte.save(tmp_path / name)


def test_profile_is_written_where_asked(matte: Matte) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    written = Image.open(io.BytesIO(matte.encode("png", icc_profile=profile)))
    assert written.info["icc_profile"] == profile


def test_alpha_and_picture_must_agree() -> None:
    with pytest.raises(ImageError, match="must agree"):
        Matte(np.zeros((3, 4), np.float32), Picture(np.zeros((4, 3, 3), np.uint8)))
