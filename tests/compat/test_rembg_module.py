"""The interface of rembg, as its README and its signatures describe it."""

from __future__ import annotations

import inspect
import io
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from birefnet.compat.rembg import bg, new_session, remove, sessions
from birefnet.compat.rembg.names import MODELS
from birefnet.errors import BiRefNetError, ImageError, WeightsError
from birefnet.imaging.picture import Picture
from birefnet.inference.predictor import Predictor
from birefnet.matte import Matte
from birefnet.weights.catalogue import lookup
from fakes import PLAIN, BrightEngine, disc, write_disc


@pytest.fixture(autouse=True)
def loaded(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """What was loaded; it is always the stand-in that sees brightness."""
    loaded: list[tuple[str, dict[str, Any]]] = []

    def load(name: str, **settings: Any) -> Predictor:
        loaded.append((name, settings))
        return Predictor(BrightEngine(), PLAIN)

    monkeypatch.setattr(sessions, "load", load)
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    bg._default.cache_clear()
    return loaded


def encoded(pixels: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def test_arguments_come_in_rembg_s_order() -> None:
    names = list(inspect.signature(remove).parameters)
    assert names == [
        *("data", "alpha_matting", "alpha_matting_foreground_threshold"),
        *("alpha_matting_background_threshold", "alpha_matting_erode_size", "session"),
        *("only_mask", "post_process_mask", "decontaminate", "vitmatte", "vitmatte_model"),
        *("bgcolor", "force_return_bytes", "args", "kwargs"),
    ]
    assert next(iter(inspect.signature(new_session).parameters)) == "model_name"


def test_what_goes_in_comes_out(tmp_path: Path) -> None:
    pixels = disc()
    array = remove(pixels)
    assert isinstance(array, np.ndarray)
    assert (array.shape, array.dtype) == ((48, 64, 4), np.uint8)
    image = remove(Image.fromarray(pixels))
    assert isinstance(image, Image.Image)
    assert (image.mode, image.size) == ("RGBA", (64, 48))
    assert np.array_equal(np.asarray(image), array)
    path = write_disc(tmp_path / "disc.png")
    with path.open("rb") as file:
        for source in (encoded(pixels), path, str(path), file):
            result = remove(source)
            assert isinstance(result, bytes)
            assert np.array_equal(np.asarray(Image.open(io.BytesIO(result))), array)
    for source in (pixels, Image.fromarray(pixels)):
        assert isinstance(remove(source, force_return_bytes=True), bytes)
    with pytest.raises(ImageError, match="got a int"):
        remove(3)


def test_masks() -> None:
    pixels = disc()
    mask = remove(pixels, only_mask=True)
    assert mask.shape == (48, 64)
    assert np.array_equal(mask, remove(pixels)[..., 3])
    assert remove(Image.fromarray(pixels), only_mask=True).mode == "L"
    assert Image.open(io.BytesIO(remove(encoded(pixels), only_mask=True))).mode == "L"
    # A colour of the background is for cut-outs, as with rembg.
    assert np.array_equal(remove(pixels, only_mask=True, bgcolor=(255, 0, 0, 255)), mask)


def test_a_mask_is_not_stretched() -> None:
    """rembg's sessions map each mask's minimum to 0 and its maximum to 255."""
    grey = np.full((48, 64, 3), 128, np.uint8)
    grey[10:20, 10:20] = 129
    mask = remove(grey, only_mask=True)
    assert 120 < mask.min() <= mask.max() < 150


def test_the_picture_s_turn_is_respected() -> None:
    file = io.BytesIO()
    exif = Image.Exif()
    exif[274] = 6  # a quarter turn
    Image.fromarray(disc(48, 64)).save(file, "JPEG", exif=exif)
    assert Image.open(io.BytesIO(remove(file.getvalue()))).size == (48, 64)


def test_background_colours() -> None:
    for colour in ((255, 0, 0, 255), [0, 0, 255, 255]):
        result = remove(disc(), bgcolor=colour)
        assert result.shape == (48, 64, 4)
        assert result[0, 0].tolist() == list(colour)
        assert (result[..., 3] == 255).all()
        assert result[24, 32, :3].min() > 225
    half = remove(Image.fromarray(disc()), bgcolor=(0, 255, 0, 128))
    assert half.mode == "RGBA"
    assert 120 < half.getpixel((0, 0))[3] < 136
    for wrong in ((255, 0, 0), (256, 0, 0, 0)):
        with pytest.raises(BiRefNetError, match="give R, G, B, A"):
            remove(disc(), bgcolor=wrong)


def test_post_processing_is_rembg_s() -> None:
    """An opening with a cross, a Gaussian of two pixels, and a cut in the middle."""
    alpha = np.zeros((60, 80), np.float32)
    alpha[15:45, 20:60] = 1
    alpha[5, 5] = 1  # a speck
    alpha[30:32, 40:42] = 0  # a hole
    alpha[15:45, 55:60] = 0.7
    picture = Picture(np.zeros((60, 80, 3), np.uint8))
    result = bg.post_processed(Matte(alpha, picture)).mask()
    cross = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (3, 3))
    levels = np.round(alpha * 255).astype(np.uint8)
    opened = cv2.morphologyEx(levels, cv2.MORPH_OPEN, cross)
    smooth = cv2.GaussianBlur(opened.astype(np.float64), (17, 17), sigmaX=2, sigmaY=2)
    expected = np.where(smooth < 127, 0, 255)
    assert set(np.unique(result)) == {0, 255}
    assert (result != expected).mean() < 0.002
    assert result[5, 5] == 0
    assert set(np.unique(remove(disc(), only_mask=True, post_process_mask=True))) == {0, 255}


def test_edges_carry_no_old_background() -> None:
    """rembg leaves it in unless `decontaminate` says otherwise; `putalpha` keeps it here too."""
    pixels = disc(96, 128, ground=20, subject=240)
    soft = np.asarray(Image.fromarray(pixels).resize((32, 24)).resize((128, 96)))
    cutout, plain = remove(soft), remove(soft, putalpha=True)
    assert np.array_equal(remove(soft, decontaminate=True), cutout)
    assert np.array_equal(plain[..., :3], soft)
    edge = (cutout[..., 3] > 60) & (cutout[..., 3] < 250)
    assert cutout[edge, :3].mean() > plain[edge, :3].mean() + 10


def test_alpha_matting() -> None:
    pixels = disc(96, 128)
    result = remove(pixels, alpha_matting=True, alpha_matting_erode_size=8)
    assert result.shape == (96, 128, 4)
    assert result[48, 64, 3] == 255
    assert result[0, 0, 3] == 0
    with pytest.warns(UserWarning, match="thresholds of alpha matting have no effect"):
        remove(pixels, True, 270)
    with pytest.raises(BiRefNetError, match="matting is 'magic'"):
        remove(pixels, alpha_matting=True, alpha_matting_method="magic")
    pytest.importorskip("pymatting")
    closed = remove(pixels, alpha_matting=True, alpha_matting_method="closed-form")
    assert closed[48, 64, 3] == 255


def test_own_options_and_unknown_ones() -> None:
    assert remove(disc(), crop=True).shape[:2] < (48, 64)
    assert remove(disc(), threshold=0.5, only_mask=True).max() == 255
    with pytest.raises(BiRefNetError, match="no argument 'alpha_mating'"):
        remove(disc(), alpha_mating=True)
    with pytest.warns(UserWarning, match="ViTMatte is not part"):
        refined = remove(disc(), vitmatte=True)
    assert np.array_equal(refined, remove(disc(), alpha_matting=True))


def test_which_object_is_meant() -> None:
    """rembg's `sam_prompt`, and lists of numbers; marks in pixels need not be whole."""
    two = disc(96, 128, ground=20, subject=20)
    two[20:60, 10:50] = two[30:80, 80:120] = 240
    left = [[4, 12, 60, 70]]
    marks = [
        {"boxes": left},
        {"points": [[30, 40]], "not_points": [(100, 50)]},
        {"sam_prompt": [{"type": "point", "data": [30.4, 40.2], "label": 1}]},
        {"sam_prompt": [{"type": "rectangle", "data": left[0]}]},
        {"boxes": ("4,12,60,70",)},
    ]
    for given in marks:
        mask = remove(two, only_mask=True, **given)
        assert mask[40, 30] > 200, given
        assert mask[50, 100] < 50, given
    for wrong in ({"boxes": [[1, 2, 3]]}, {"sam_prompt": [{"type": "circle"}]}, {"points": "1,2"}):
        with pytest.raises(BiRefNetError, match=r"mark|sam_prompt"):
            remove(two, **wrong)


def test_sessions(loaded: list[tuple[str, dict[str, Any]]]) -> None:
    session = new_session("birefnet-general-lite")
    assert loaded == [("lite", {})]
    assert (session.model_name, session.name()) == ("birefnet-general-lite",) * 2
    masks = session.predict(Image.fromarray(disc()))
    assert [m.mode for m in masks] == ["L"]
    assert np.array_equal(np.asarray(masks[0]), remove(disc(), session=session, only_mask=True))
    assert len(loaded) == 1
    remove(disc())
    remove(disc())
    assert loaded[1:] == [("nano", {})]  # loaded once
    for name, here in MODELS.items():
        assert lookup(here) is not None, name
        new_session(name)
    assert {name for name, _ in loaded} >= set(MODELS.values())
    new_session("matting", providers=["CPUExecutionProvider"])
    assert loaded[-1] == ("matting", {"device": "cpu"})
    new_session("hr", providers=["CoreMLExecutionProvider", ("CPUExecutionProvider", {})])
    assert loaded[-1][1]["device"] in ("cpu", "mps", "coreml")
    new_session("hr", providers=["OpenVINOExecutionProvider"])
    assert loaded[-1] == ("hr", {"device": "cpu", "engine": "openvino"})
    with pytest.warns(UserWarning, match="sess_opts has no effect"):
        new_session("hr", sess_opts=object())


def test_apples_gpu_is_onnxruntime_s_without_torch(
    loaded: list[tuple[str, dict[str, Any]]], monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    has = ["CoreMLExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: has)
    monkeypatch.setattr(sessions, "find_spec", lambda name: None)
    new_session("hr", providers=has)
    assert loaded[-1] == ("hr", {"device": "coreml"})


@pytest.mark.parametrize("name", ["u2net", "u2netp", "silueta", "isnet-general-use", "sam"])
def test_other_networks_are_named_not_replaced(name: str, loaded: list[Any]) -> None:
    with pytest.raises(WeightsError, match=f"rembg's {name} is another kind .*nearest: "):
        new_session(name)
    assert not loaded


def test_what_a_session_cannot_have() -> None:
    with pytest.raises(BiRefNetError, match="no provider 'QNNExecutionProvider'"):
        new_session("hr", providers=["QNNExecutionProvider"])
    with pytest.raises(BiRefNetError, match="no argument 'model_pth'"):
        new_session("hr", model_pth="x.onnx")
    with pytest.raises(BiRefNetError, match="name the models to fetch"):
        bg.download_models()
    for names in (("nano",), (("nano",),), (["nano"],)):
        assert bg.download_models(*names)[0].endswith("model.safetensors")
