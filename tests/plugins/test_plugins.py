"""The plug-ins for other programs, against a real server; those programs are stand-ins."""

from __future__ import annotations

import importlib.util
import io
import socket
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image

from birefnet.inference.predictor import Predictor
from fakes import PLAIN, BrightEngine, disc

pytest.importorskip("fastapi")
uvicorn = pytest.importorskip("uvicorn")

PLUGINS = Path(__file__).parents[2] / "plugins"
KEY = "a-key-of-sixteen-letters"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server with a stand-in network, which wants a key."""
    from birefnet.serving.app import create_app
    from birefnet.serving.settings import ServerSettings

    port = free_port()
    app = create_app(
        Predictor(BrightEngine(), PLAIN, name="bright"), ServerSettings(page=False, api_keys=(KEY,))
    )
    running = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error"))
    thread = threading.Thread(target=running.run)
    thread.start()
    while not running.started:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{port}/"
    running.should_exit = True
    thread.join()


def load(path: Path, name: str, modules: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run a plug-in's file, with stand-ins for the modules that its program has."""
    for module, stand_in in modules.items():
        monkeypatch.setitem(sys.modules, module, stand_in)
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


class Anything:
    """A module or object with any attribute; a context manager; callable."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.settings = settings

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Anything

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *error: object) -> None: ...


# Stable Diffusion WebUI


@pytest.fixture
def webui(monkeypatch: pytest.MonkeyPatch) -> Any:
    modules = ModuleType("modules")
    options: list[Any] = []
    shared = SimpleNamespace(
        opts=SimpleNamespace(add_option=lambda name, info: options.append((name, info))),
        OptionInfo=lambda default, label, section: (default, section),
    )
    modules.shared = shared  # type: ignore[attr-defined]
    modules.scripts_postprocessing = SimpleNamespace(ScriptPostprocessing=object)  # type: ignore[attr-defined]
    modules.script_callbacks = SimpleNamespace(on_ui_settings=lambda f: f())  # type: ignore[attr-defined]
    stand_ins = {
        "modules": modules,
        "modules.ui_components": SimpleNamespace(FormRow=Anything, InputAccordion=Anything),
        "gradio": Anything(),
    }
    path = PLUGINS / "sd-webui-birefnet" / "scripts" / "birefnet.py"
    script = load(path, "webui_birefnet", stand_ins, monkeypatch)
    assert [name for name, _ in options] == ["birefnet_server", "birefnet_api_key"]
    return script


def post(image: Image.Image) -> Any:
    """WebUI's `PostprocessedImage`."""
    return SimpleNamespace(image=image, info={}, extra_images=[])


def test_webui(webui: Any, server: str) -> None:
    webui.shared.opts.birefnet_server, webui.shared.opts.birefnet_api_key = server, KEY
    script = webui.Script()
    controls = script.ui()
    pp = post(Image.fromarray(disc()))
    script.process(pp, **dict.fromkeys(controls, None) | {"enable": False})
    assert pp.image.mode == "RGB"
    script.process(pp, enable=True, add_mask=True)
    assert pp.image.mode == "RGBA"
    assert pp.image.getpixel((32, 24))[3] > 250
    assert pp.image.getpixel((1, 1))[3] < 5
    assert pp.extra_images[0].mode == "L"
    assert pp.info == {"BiRefNet": "bright, cutout"}
    pp = post(Image.fromarray(disc()))
    script.process(pp, enable=True, kind="colour", colour="tomato", resolution="96", offset=2)
    assert pp.image.getpixel((1, 1)) == (255, 99, 71)
    pp = post(Image.fromarray(disc()))
    script.process(pp, enable=True, crop=True, passes=True, blur=2, refine=False)
    assert pp.image.width < 48
    assert set(controls) == set(script.process.__code__.co_varnames[2:13])
    with pytest.raises(RuntimeError, match=r"BiRefNet: .*'nothing'"):
        script.process(post(Image.fromarray(disc())), enable=True, model="nothing")
    webui.shared.opts.birefnet_api_key = ""
    with pytest.raises(RuntimeError, match="wants an API key"):
        script.process(post(Image.fromarray(disc())), enable=True)
    webui.shared.opts.birefnet_server = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RuntimeError, match=r"no server answers .* start `birefnet serve`"):
        script.process(post(Image.fromarray(disc())), enable=True)


def test_the_webui_extension_is_tiny() -> None:
    path = PLUGINS / "sd-webui-birefnet" / "scripts" / "birefnet.py"
    assert len(path.read_text().splitlines()) < 150


# InvokeAI


def test_invokeai(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    declared: dict[str, Any] = {}

    def invocation(name: str, **settings: Any) -> Any:
        declared[name] = settings
        return lambda cls: cls

    names = ("BaseInvocation", "WithBoard", "WithMetadata", "ImageField", "InvocationContext")
    api = SimpleNamespace(
        **{name: type(name, (), {}) for name in names},
        InputField=lambda default=None, **settings: default,
        ImageOutput=SimpleNamespace(build=lambda saved: saved),
        invocation=invocation,
    )
    stand_ins = {"invokeai": ModuleType("invokeai"), "invokeai.invocation_api": api}
    path = PLUGINS / "invokeai" / "birefnet" / "__init__.py"
    module = load(path, "invokeai_birefnet", stand_ins, monkeypatch)
    assert declared["birefnet_server"]["version"] == "1.0.0"
    node = module.BiRefNetServerInvocation()
    node.image = SimpleNamespace(image_name="a.png")
    node.server, node.api_key = server, KEY
    images = SimpleNamespace(get_pil=lambda name: Image.fromarray(disc()), save=lambda image: image)
    assert node.invoke(SimpleNamespace(images=images)).mode == "RGBA"
    node.kind, node.passes = "mask", 2
    assert node.invoke(SimpleNamespace(images=images)).mode == "L"
    node.model = "nothing"
    with pytest.raises(RuntimeError, match="nothing"):
        node.invoke(SimpleNamespace(images=images))
    node.server = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(RuntimeError, match="start `birefnet serve`"):
        node.invoke(SimpleNamespace(images=images))


# GIMP 3


class GimpImage:
    """GIMP's image, of one layer that is a picture."""

    def __init__(self, picture: Image.Image) -> None:
        self.layers = [SimpleNamespace(picture=picture)]
        self.groups = 0
        self.copies: list[GimpImage] = []
        self.deleted = False

    def duplicate(self) -> GimpImage:
        self.copies.append(GimpImage(self.layers[0].picture))
        return self.copies[-1]

    def merge_visible_layers(self, how: Any) -> None: ...

    def delete(self) -> None:
        self.deleted = True

    def undo_group_start(self) -> None:
        self.groups += 1

    def undo_group_end(self) -> None:
        self.groups -= 1

    def insert_layer(self, layer: Any, parent: Any, position: int) -> None:
        self.layers.insert(position, layer)


def test_gimp(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def load_layer(mode: Any, image: Any, path: str) -> Any:
        picture = Image.open(path)
        picture.load()
        layer = SimpleNamespace(picture=picture)
        layer.set_name = lambda name: setattr(layer, "name", name)
        return layer

    gimp = SimpleNamespace(
        PlugIn=object,
        PDBProcType=Anything(),
        PDBStatusType=SimpleNamespace(SUCCESS="success", EXECUTION_ERROR="error"),
        RunMode=Anything(),
        MergeType=Anything(),
        ImageProcedure=SimpleNamespace(new=lambda *arguments: Anything()),
        progress_init=lambda text: None,
        displays_flush=lambda: None,
        file_save=lambda mode, image, path, options: image.layers[0].picture.save(path),
        file_load_layer=load_layer,
    )
    repository = ModuleType("gi.repository")
    repository.Gimp = gimp  # type: ignore[attr-defined]
    repository.Gio = SimpleNamespace(File=SimpleNamespace(new_for_path=str))  # type: ignore[attr-defined]
    repository.GLib = SimpleNamespace(Error=lambda text="": text)  # type: ignore[attr-defined]
    gi = ModuleType("gi")
    gi.require_version = lambda name, version: None  # type: ignore[attr-defined]
    monkeypatch.setenv("BIREFNET_SERVER", server)
    monkeypatch.setenv("BIREFNET_API_KEY", KEY)
    path = PLUGINS / "gimp" / "birefnet" / "birefnet.py"
    module = load(path, "gimp_birefnet", {"gi": gi, "gi.repository": repository}, monkeypatch)
    plugin = module.BiRefNet()
    (name,) = plugin.do_query_procedures()
    assert plugin.do_create_procedure(name)
    procedure = SimpleNamespace(new_return_values=lambda status, error: (status, error))
    image = GimpImage(Image.fromarray(disc()))
    assert plugin.run(procedure, 0, image, [], None, None) == ("success", "")
    assert [layer.picture.mode for layer in image.layers] == ["RGBA", "RGB"]
    assert image.layers[0].name == "Cut-out"
    assert image.copies[0].deleted
    monkeypatch.setattr(module, "KEY", "")
    status, error = plugin.run(procedure, 0, image, [], None, None)
    assert status == "error"
    assert "wants an API key" in error
    assert image.groups == 0
    assert path.parent.name == path.stem  # as GIMP 3 asks of plug-ins


# Blender


class BlenderImage:
    def __init__(self, picture: Image.Image, name: str, owner: list[Any]) -> None:
        self.picture, self.name, self.owner = picture, name, owner
        self.size = picture.size
        self.has_data = True
        self.filepath_raw = ""
        self.packed = False
        owner.append(self)

    def save(self, *, filepath: str, save_copy: bool) -> None:
        assert save_copy, "the image would take the path for its own"
        self.picture.save(filepath, "png")

    def pack(self) -> None:
        self.packed = True


class BlenderImages(list[BlenderImage]):
    def get(self, name: str) -> BlenderImage | None:
        return next((image for image in self if image.name == name), None)

    def load(self, path: str) -> BlenderImage:
        picture = Image.open(path)
        picture.load()
        return BlenderImage(picture, Path(path).name, self)


def test_blender(server: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = BlenderImages()
    BlenderImage(Image.fromarray(disc()), "photo", images)
    preferences = SimpleNamespace(server=server, api_key=KEY)
    addon = SimpleNamespace(preferences=preferences)
    registered: list[type] = []
    entries: list[Any] = []
    bpy = ModuleType("bpy")
    bpy.types = SimpleNamespace(  # type: ignore[attr-defined]
        AddonPreferences=object, Operator=object, IMAGE_MT_image=entries
    )
    bpy.props = Anything()  # type: ignore[attr-defined]
    bpy.utils = SimpleNamespace(  # type: ignore[attr-defined]
        register_class=registered.append, unregister_class=registered.remove
    )
    bpy.data = SimpleNamespace(images=images)  # type: ignore[attr-defined]
    bpy.context = SimpleNamespace(  # type: ignore[attr-defined]
        preferences=SimpleNamespace(addons={"blender_birefnet": addon})
    )
    path = PLUGINS / "blender" / "birefnet_remove_background.py"
    module = load(path, "blender_birefnet", {"bpy": bpy}, monkeypatch)
    module.register()
    assert len(registered) == 2
    reports: list[Any] = []
    operator = registered[1]()
    operator.report = lambda kind, text: reports.append((kind, text))
    operator.image_name, operator.kind, operator.passes = "", "cutout", 1
    operator.mask_offset = operator.mask_blur = 0
    context = SimpleNamespace(space_data=SimpleNamespace(image=images[0]))
    assert operator.execute(context) == {"FINISHED"}
    assert [image.name for image in images] == ["photo", "photo cutout"]
    assert images[1].picture.mode == "RGBA"
    assert images[1].packed
    assert context.space_data.image is images[1]
    preferences.api_key = ""
    assert operator.execute(context) == {"CANCELLED"}
    assert "wants an API key" in reports[-1][1]
    context.space_data.image = None
    assert operator.execute(context) == {"CANCELLED"}
    module.unregister()
    assert registered == entries == []


def test_a_server_of_another_kind_is_told(webui: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from urllib.error import HTTPError

    def refuse(request: Any, timeout: float) -> Any:
        raise HTTPError(request.full_url, 404, "", {}, io.BytesIO(b"<html>"))  # type: ignore[arg-type]

    monkeypatch.setattr(webui, "urlopen", refuse)
    with pytest.raises(RuntimeError, match="answered 404: is it `birefnet serve`"):
        webui.cut_out(Image.fromarray(np.zeros((4, 4, 3), np.uint8)), {})
