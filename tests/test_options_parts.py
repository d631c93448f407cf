"""Options of edges, objects, crops and shadows: what they mean together."""

from __future__ import annotations

import numpy as np
import pytest

from birefnet import Matte, Predictor
from birefnet.cli.options import GROUPS, flag_of
from birefnet.errors import BiRefNetError, OptionError
from birefnet.imaging.picture import Picture
from birefnet.imaging.shadow import Shadow
from birefnet.options import OPTIONS, Options
from fakes import PLAIN, BrightEngine, disc


@pytest.fixture(scope="module")
def matte() -> Matte:
    """Two discs, 128 x 48, the left one larger."""
    pixels = np.hstack([disc(), disc(subject=200)])
    pixels[:, 64:][:8] = pixels[:, 64:][-8:] = 20
    return Predictor(BrightEngine(), PLAIN).predict(pixels)


def made(matte: Matte, **options: object) -> np.ndarray:
    asked = Options(**options).prepared()
    return asked.render(asked.finish(matte))


def test_the_usual_options_change_nothing(matte: Matte) -> None:
    np.testing.assert_array_equal(made(matte), matte.cutout())
    finished = Options().finish(matte)
    assert finished is matte
    assert Options().framed(matte) is matte
    assert Options().frame(matte) is None


def test_a_crop_shows_the_same_pixels(matte: Matte) -> None:
    whole, cropped = made(matte), made(matte, crop=True)
    frame = Options(crop=True).frame(matte)
    assert frame is not None
    np.testing.assert_array_equal(frame.cut(whole), cropped)
    assert cropped.shape[0] < 40
    assert cropped.shape[1] < 120


def test_a_crop_twice_is_a_crop_once(matte: Matte) -> None:
    options = Options(crop=True, crop_margin="20%", aspect="square").prepared()
    once = options.framed(matte)
    assert once.height == once.width
    twice = options.framed(once)
    np.testing.assert_array_equal(once.alpha, twice.alpha)
    np.testing.assert_array_equal(once.picture.pixels, twice.picture.pixels)


def test_beyond_the_picture_is_the_background(matte: Matte) -> None:
    options = {"crop": True, "crop_margin": 40, "background": "#ff0000"}
    made_of = made(matte, **options)
    assert made_of.shape[0] > 48
    assert (made_of[0] == (255, 0, 0)).all()


def test_an_empty_matte_is_not_cropped() -> None:
    empty = Matte(np.zeros((20, 30), np.float32), Picture(np.zeros((20, 30, 3), np.uint8)))
    for options in ({"crop": True}, {"shadow": "ground"}, {"crop": True, "kind": "trimap"}):
        assert made(empty, **options).shape[:2] == (20, 30)
    assert list(Options(objects=True).parts(empty)) == []


def test_trimaps(matte: Matte) -> None:
    known = made(matte, kind="trimap", band=3)
    assert known.dtype == np.uint8
    assert set(np.unique(known)) == {0, 128, 255}
    cropped = made(matte, kind="trimap", band=3, crop=True)
    frame = Options(crop=True).frame(matte)
    assert frame is not None
    np.testing.assert_array_equal(cropped, frame.cut(known))


def test_a_shadow_is_black_below_the_subject(matte: Matte) -> None:
    shaded = Options(shadow="drop", shadow_length=3).finish(matte)
    assert shaded.shadow is not None
    np.testing.assert_array_equal(shaded.alpha, matte.alpha)
    assert shaded.coverage == matte.coverage
    rgba = shaded.cutout()
    only = (matte.alpha < 0.01) & (shaded.shadow > 0.1)
    assert only.any()
    assert (rgba[only][:, :3] <= 12).all()
    np.testing.assert_allclose(rgba[only][:, 3] / 255, shaded.shadow[only], atol=0.02)
    inside = matte.alpha > 0.99
    np.testing.assert_array_equal(rgba[inside], matte.cutout()[inside])


def test_a_cut_out_with_shadow_set_on_white_equals_the_picture_on_white(matte: Matte) -> None:
    """What others make of the cut-out is what `--background` makes."""
    options = {"shadow": "ground", "shadow_angle": 90.0}
    rgba = made(matte, **options).astype(np.float32) / 255
    on_white = rgba[..., :3] * rgba[..., 3:] + 1 - rgba[..., 3:]
    made_here = made(matte, **options, background="white") / 255
    assert np.abs(on_white - made_here).max() < 0.012


@pytest.mark.parametrize("shadow", ["none", "ground", "keep"])
def test_objects(matte: Matte, shadow: str) -> None:
    options = Options(objects=True, crop=True, shadow=shadow).prepared()
    parts = list(options.parts(options.finish(matte)))
    assert [part.number for part in parts] == [1, 2]
    first, second = (options.render(part.matte) for part in parts)
    assert first.shape[0] >= second.shape[0]
    assert parts[0].box.left < 64 < parts[1].box.left
    facts = parts[0].facts()
    assert set(facts) == {"number", "box", "area", "coverage", "confidence"}
    assert facts["box"][2] - facts["box"][0] == parts[0].box.width
    if shadow == "ground":
        shadow_of = parts[0].matte.shadow
        assert shadow_of is not None
        assert shadow_of[:, :64].any()
        assert not shadow_of[:, 100:].any()


def test_small_parts_are_no_objects(matte: Matte) -> None:
    assert len(list(Options(objects=True, min_object="12.7%").prepared().parts(matte))) == 1
    assert len(list(matte.objects(1e9))) == 0


def test_matting_in_the_api(matte: Matte) -> None:
    guided = matte.matted("guided", band=4)
    assert guided.picture is matte.picture
    assert not np.array_equal(guided.alpha, matte.alpha)
    assert matte.matted("none") is matte
    assert matte.with_shadow(Shadow("drop")).shadow is not None
    assert matte.cropped("10%", aspect=2.0).width > matte.cropped("10%", aspect=2.0).height


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"matting": "best"}, "matting is 'best'; choose one of none, guided"),
        ({"shadow": "long"}, "shadow is 'long'; choose one of none, ground"),
        ({"shadow": "ground", "shadow_strength": 2.0}, "strength is 2"),
        ({"crop": True, "crop_margin": "a"}, "crop_margin: 'a' is not a size"),
        ({"crop": True, "aspect": "0:1"}, "aspect: '0:1' is not a shape"),
        ({"objects": True, "min_object": "x"}, "min_object: 'x' is not a size"),
        ({"crop_margin": "5%"}, "crop_margin does nothing without crop"),
        ({"aspect": "square"}, "aspect does nothing without crop"),
        ({"min_object": "5%"}, "min_object does nothing without objects"),
        ({"band": 5.0}, "band does nothing without matting or kind trimap"),
        ({"shadow_blur": 2.0}, "shadow_blur does nothing without shadow ground or drop"),
        ({"shadow": "keep", "shadow_angle": 9.0}, "without shadow ground or drop"),
        ({"shadow": "drop", "kind": "mask"}, "shadow does not go with kind mask"),
        ({"kind": "trimap", "format": "jpeg"}, "jpeg does not keep a trimap's three levels"),
        ({"kind": "trimap", "background": "red"}, "background does not go with kind trimap"),
        ({"matting": "guided", "band": -1.0}, "^band is -1"),
        ({"matting": "guided", "band": float("nan")}, "^band is nan"),
    ],
)
def test_refusals(options: dict, message: str) -> None:
    with pytest.raises(BiRefNetError, match=message):
        Options(**options).prepared()


def test_what_is_declared_fits_together() -> None:
    """Others' names and values exist, help names every choice, and nothing waits for itself."""
    for name, about in OPTIONS.items():
        assert about.help.endswith((".", "…")), name
        assert len(about.help.split()) > 2, name
        assert all(choice in about.help for choice in about.choices if choice != "none"), name
        assert not about.choices or about.default in about.choices, name
        for other, values in {**about.requires, **about.excludes}.items():
            assert other != name
            assert set(values) <= set(OPTIONS[other].choices), name


def test_the_command_groups_every_option() -> None:
    assert set(OPTIONS) <= {name for names in GROUPS.values() for name in names}


@pytest.mark.parametrize(
    ("options", "python", "command"),
    [
        ({"band": 5.0}, "band does nothing without matting or kind trimap", "--band"),
        ({"passes": 3}, "passes is 3; give 1 to 2", "--refine-passes is 3"),
        ({"boxes": ("{kind}",)}, "boxes: '{kind}' is not a box", "--box: '{kind}' is not a box"),
        ({"other_points": ("1,1",)}, "other_points does", "--not-point does nothing without --p"),
        ({"kind": "{x}"}, "kind is '{x}'; choose one", "--type is '{x}'"),
    ],
)
def test_errors_have_the_names_of_each_way_in(options: dict, python: str, command: str) -> None:
    with pytest.raises(OptionError) as caught:
        Options(**options).checked()
    assert str(caught.value).startswith(python)
    assert caught.value.named(flag_of).startswith(command)


def test_a_form_may_say_what_does_nothing() -> None:
    values = {"crop_margin": "5%", "band": 3.0, "shadow_blur": 2, "aspect": "4:5"}
    assert Options.of_form(values) == Options()
    assert Options.of_form({**values, "crop": True, "matting": "guided"}) == Options(
        crop=True, crop_margin="5%", aspect="4:5", matting="guided", band=3.0
    )
    with pytest.raises(OptionError, match="other_points does nothing without points"):
        Options.of_form({"other_points": ("1,1",)}).checked()


def test_a_margin_that_no_file_holds_is_refused(matte: Matte) -> None:
    with pytest.raises(BiRefNetError, match="no side is longer than 65535"):
        made(matte, crop=True, crop_margin="1000000000")
