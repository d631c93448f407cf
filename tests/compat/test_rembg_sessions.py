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
from birefnet.compat.rembg.names import ONNX, OTHERS
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


def test_the_base_has_rembg_s_methods() -> None:
    assert [name for name in METHODS if not callable(getattr(BaseSession, name, None))] == []
    parameters = inspect.signature(BaseSession.__init__).parameters
    assert list(parameters) == ["self", "model_name", "sess_opts", "args", "kwargs"]
    assert [kind.name() for kind in sessions_class] == sessions_names
    assert len({kind.__name__ for kind in sessions_class}) == len(sessions_names)


def test_checksums_cannot_be_switched_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODEL_CHECKSUM_DISABLED", "1")
    assert not any(kind.checksum_disabled() for kind in sessions_class)


@pytest.mark.parametrize("name", [name for name in ONNX if not name.endswith("_custom")])
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


class Foreign:
    """As a session of rembg itself, which is no class of this package."""

    def predict(self, img: Image.Image, *args: Any, **kwargs: Any) -> list[Image.Image]:
        grey = np.asarray(img.convert("L"))
        return [Image.fromarray(grey), Image.fromarray(255 - grey)]


def test_sessions_of_others_give_their_masks() -> None:
    session: Any = Foreign()
    mask = rembg.remove(disc(), session=session, only_mask=True)
    assert mask.shape == (96, 64)  # one mask below the other, as rembg does
    assert np.abs(mask[:48].astype(int) - disc()[..., 0]).max() <= 1
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
