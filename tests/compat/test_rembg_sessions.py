"""rembg's modules and classes, sessions of others, and its networks that are no BiRefNet."""

from __future__ import annotations

import inspect
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet.compat import rembg
from birefnet.compat.rembg.names import CLASSES, ONNX, OTHERS
from birefnet.compat.rembg.sessions import BaseSession, sessions, sessions_class, sessions_names
from birefnet.compat.rembg.sessions.base import OnnxSession
from birefnet.errors import BiRefNetError
from fakes import disc

PUBLIC = {
    "": ("remove", "new_session", "__version__"),
    ".bg": ("remove", "download_models", "new_session", "sessions", "sessions_names"),
    ".session_factory": ("new_session",),
    ".sessions": (
        *("sessions", "sessions_names", "sessions_class", "BaseSession"),
        *("sessions_names_no_credentials", "sessions_names_downloadable"),
    ),
    ".sessions.base": ("BaseSession",),
}
"""What rembg 2.0.86 has in its modules."""

METHODS = (
    *("normalize", "predict", "is_local", "requires_credentials", "has_usage_cost"),
    *("checksum_disabled", "legacy_home", "rembg_home", "u2net_home", "model_dir"),
    *("resolve_existing", "validate_model_path", "download_models", "name"),
)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder as rembg's."""
    for name in ("U2NET_HOME", "XDG_DATA_HOME", "MODEL_CHECKSUM_DISABLED", "BIREFNET_MODEL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("REMBG_HOME", str(tmp_path / "rembg"))
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path / "rembg"


def write_network(path: Path) -> Path:
    """An ONNX file whose mask is brighter where the picture is: the mean of three channels."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper

    sides = ["n", "c", "h", "w"]
    graph = helper.make_graph(
        [
            helper.make_node("ReduceMean", ["x"], ["mean"], axes=[1], keepdims=1),
            helper.make_node("Sigmoid", ["mean"], ["y"]),
        ],
        "brightness",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, sides)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, sides)],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize("module", PUBLIC)
def test_names_are_where_rembg_has_them(module: str) -> None:
    found = import_module(f"birefnet.compat.rembg{module}")
    assert [name for name in PUBLIC[module] if not hasattr(found, name)] == []


@pytest.mark.parametrize("name", sessions_names)
def test_classes_have_rembg_s_names(name: str) -> None:
    kind = getattr(import_module("birefnet.compat.rembg.sessions"), CLASSES[name])
    assert kind is sessions[name]
    assert kind.name() == name


def test_the_base_has_rembg_s_methods() -> None:
    assert [name for name in METHODS if not callable(getattr(BaseSession, name, None))] == []
    parameters = inspect.signature(BaseSession.__init__).parameters
    assert list(parameters) == ["self", "model_name", "sess_opts", "args", "kwargs"]
    assert [kind.name() for kind in sessions_class] == sessions_names
    assert len({kind.__name__ for kind in sessions_class}) == len(sessions_names)


def test_checksums_cannot_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
    assert not any(kind.checksum_disabled() for kind in sessions_class)


SINGLE = [name for name in ONNX if not name.endswith(("_custom", "_cloth_seg"))]
"""Networks of one mask that rembg downloads."""


@pytest.mark.parametrize("name", SINGLE)
def test_a_file_that_rembg_has_fetched_is_used(
    name: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(BiRefNetError, match=rf"{name}\.onnx into .*nearest: "):
        rembg.new_session(name)
    write_network(home / "models" / name / f"{name}.onnx")
    session = rembg.new_session(name)
    assert (session.name(), session.model_name) == (name, name)
    mask = rembg.remove(disc(), session=session, only_mask=True)
    assert mask.shape == (48, 64)
    assert int(mask[24, 32]) - int(mask[0, 0]) > 40
    cutout = rembg.remove(Image.fromarray(disc()), session=session, alpha_matting=True)
    assert (cutout.mode, cutout.size) == ("RGBA", (64, 48))
    with pytest.raises(BiRefNetError, match=f"{name} has no argument 'sam_prompt'"):
        rembg.remove(disc(), session=session, sam_prompt=[])
    flat = write_network(home.parent / "flat" / f"{name}.onnx")
    monkeypatch.setenv("U2NET_HOME", str(flat.parent))
    assert sessions[name].download_models() == str(flat)


@pytest.mark.parametrize("name", [name for name in ONNX if name.endswith("_custom")])
def test_files_of_the_user(name: str, tmp_path: Path) -> None:
    with pytest.raises(BiRefNetError, match="needs model_path"):
        rembg.new_session(name)
    with pytest.raises(BiRefNetError, match="there is no file"):
        rembg.new_session(name, model_path=tmp_path / "none.onnx")
    path = write_network(tmp_path / "mine.onnx")
    session = rembg.new_session(name, model_path=str(path))
    assert isinstance(session, OnnxSession)
    assert rembg.remove(disc(), session=session).shape == (48, 64, 4)


def test_all_of_rembg_s_names_are_known() -> None:
    """Those that neither run here nor from a file are refused by a sentence."""
    for name in set(OTHERS) - set(ONNX):
        with pytest.raises(BiRefNetError, match=f"rembg's {name} .*nearest: "):
            rembg.new_session(name)


def test_networks_of_this_package_from_a_custom_path(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from birefnet.weights.obtain import weight_files

    weights = weight_files("nano").files[0]
    session = rembg.new_session("u2net_custom", model_path=str(weights))
    assert isinstance(session, rembg.Session)
    assert session.predictor.name == "nano"


def write_garments(path: Path) -> None:
    """An ONNX file whose classes are the thirds of a picture from its top: 1, 2, 3."""
    onnx = pytest.importorskip("onnx")
    from onnx import TensorProto, helper, numpy_helper

    scores = np.zeros((1, 4, 768, 768), np.float32)
    for third in range(3):
        scores[0, third + 1, third * 256 : (third + 1) * 256] = 1
    graph = helper.make_graph(
        [helper.make_node("Identity", ["scores"], ["y"])],
        "garments",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 3, 768, 768))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, scores.shape)],
        [numpy_helper.from_array(scores, "scores")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)


@pytest.mark.parametrize("argument", ["cc", "cloth_category"])
def test_garments(argument: str, home: Path) -> None:
    name = "u2net_cloth_seg"
    write_garments(home / "models" / name / f"{name}.onnx")
    session = rembg.new_session(name)
    thirds = {"upper": {0}, "lower": {1}, "full": {2}, "attire": {0, 1, 2}}
    masks = {
        category: rembg.remove(disc(), session=session, only_mask=True, **{argument: category})
        for category in thirds
    }
    for category, inside in thirds.items():
        rows = [masks[category][row, 30] for row in (8, 24, 40)]
        assert rows == [255 * (third in inside) for third in range(3)]
    whole = rembg.remove(disc(), session=session, only_mask=True)
    assert np.array_equal(whole, np.concatenate([masks[key] for key in ("upper", "lower", "full")]))
    with pytest.raises(BiRefNetError, match="choose one of upper, lower, full, attire"):
        rembg.remove(disc(), session=session, **{argument: "hat"})


class Foreign:
    """As a session of rembg itself, which is no class of this package."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
        self.arguments = kwargs
        grey = np.asarray(img.convert("L"))
        return [Image.fromarray(grey), Image.fromarray(255 - grey)]


def test_sessions_of_others_give_their_masks() -> None:
    session: Any = Foreign()
    mask = rembg.remove(disc(), session=session, only_mask=True)
    assert mask.shape == (96, 64)  # one mask below the other, as rembg does
    assert np.abs(mask[:48].astype(int) - disc()[..., 0]).max() <= 1
    assert session.arguments == {}
    its_own = {"sam_prompt": [{"type": "point", "data": [1, 2], "label": 1}], "api_key": "x"}
    rembg.remove(disc(), session=session, matting="guided", **its_own)
    assert session.arguments == its_own  # as rembg does; `matting` is an option of this package
    for without in ({"resolution": 320}, {"boxes": [[1, 2, 30, 40]]}, {"passes": 2}):
        with pytest.raises(BiRefNetError, match="need a network of this package"):
            rembg.remove(disc(), session=session, **without)


def test_own_sessions_derive_from_the_base(tmp_path: Path) -> None:
    path = write_network(tmp_path / "mine.onnx")

    class Mine(BaseSession):
        @classmethod
        def download_models(cls, *args: Any, **kwargs: Any) -> str:
            return str(path)

        @classmethod
        def name(cls, *args: Any, **kwargs: Any) -> str:
            return "mine"

        def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
            inputs = self.normalize(img, (0, 0, 0), (1, 1, 1), (64, 64))
            (output,) = self.inner_session.run(None, inputs)
            mask = Image.fromarray((output[0, 0] * 255).astype(np.uint8))
            return [mask.resize(img.size)]

    assert rembg.remove(disc(), session=Mine("mine", None)).shape == (48, 64, 4)
