"""Installing the folder, and living beside other packs with their names."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

import birefnet
from birefnet.errors import BiRefNetError
from birefnet.integrations.comfyui.__main__ import NAME, main
from fake_comfyui import ComfyUI
from fakes import disc

OWN = {
    "BiRefNetLoadModel",
    "BiRefNetRemoveBackground",
    "BiRefNetVideoFrames",
    "BiRefNetObjects",
    "BiRefNetForeground",
    "BiRefNetComposite",
    "BiRefNetAdjustMask",
}
NEIGHBOUR = """
import sys, os
sys.path.insert(0, os.path.dirname(__file__))
from birefnet.models.birefnet import BiRefNet
class RembgByBiRefNet:
    network = BiRefNet
NODE_CLASS_MAPPINGS = {"RembgByBiRefNet": RembgByBiRefNet}
"""


def test_all_names_are_registered(comfyui: ComfyUI) -> None:
    from birefnet.compat.comfyui_packs import PACKS
    from birefnet.integrations.comfyui.register import NODE_DISPLAY_NAME_MAPPINGS

    others = {name for pack in PACKS.values() for name in pack}
    assert set(comfyui.nodes) >= OWN | others
    assert set(NODE_DISPLAY_NAME_MAPPINGS) == OWN | others
    for name in OWN | others:
        node = comfyui.nodes[name]
        assert callable(getattr(node, node.FUNCTION))
        assert len(node.RETURN_TYPES) == len(node.RETURN_NAMES)
        assert set(node.INPUT_TYPES()) <= {"required", "optional"}
        assert node.CATEGORY


def test_folders_are_registered_once(comfyui: ComfyUI) -> None:
    from birefnet.integrations.comfyui import host

    known = comfyui.modules["folder_paths"].folder_names_and_paths
    before = {name: list(places) for name, (places, _) in known.items()}
    assert {Path(p).name for p in before["birefnet"]} == {"BiRefNet", "birefnet"}
    host.register_folders()
    assert {name: list(places) for name, (places, _) in known.items()} == before


def neighbour(comfyui: ComfyUI, name: str) -> Path:
    """A pack with a module `birefnet` of its own, as ComfyUI_BiRefNet_ll has."""
    pack = comfyui.root / "custom_nodes" / name
    (pack / "birefnet" / "models").mkdir(parents=True)
    (pack / "birefnet" / "models" / "birefnet.py").write_text("class BiRefNet: ...\n")
    (pack / "__init__.py").write_text(NEIGHBOUR)
    return pack


@pytest.fixture
def clean_names(monkeypatch: pytest.MonkeyPatch):
    """What neighbours change of the interpreter is taken back."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before, places = dict(sys.modules), list(birefnet.__path__)
    yield
    birefnet.__path__[:] = places
    for name in set(sys.modules) - set(before):
        if name.startswith("birefnet.models"):
            del sys.modules[name]
    sys.modules["birefnet"] = birefnet


@pytest.mark.parametrize("name", ["ComfyUI_BiRefNet_ll", "zzz_BiRefNet_ll"])
def test_a_pack_with_our_name_works_beside_us(
    bare_comfyui: ComfyUI, clean_names, name: str
) -> None:
    """Before us or after us in ComfyUI's order; its nodes stay its own."""
    neighbour(bare_comfyui, name)
    bare_comfyui.load_custom_nodes()
    theirs = bare_comfyui.nodes["RembgByBiRefNet"]
    assert theirs.network.__module__ == "birefnet.models.birefnet"
    assert set(bare_comfyui.nodes) >= OWN


def test_a_pack_that_is_installed_is_left_out(bare_comfyui: ComfyUI, clean_names) -> None:
    """ComfyUI knows one of its names: none of the others is given."""
    bare_comfyui.nodes["RembgByBiRefNet"] = object
    bare_comfyui.load_custom_nodes()
    assert bare_comfyui.nodes["RembgByBiRefNet"] is object
    assert "GetMaskByBiRefNet" not in bare_comfyui.nodes
    assert "BiRefNetRMBG" in bare_comfyui.nodes


def test_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    from birefnet.integrations.comfyui.register import mappings

    assert set(mappings("never")[0]) == OWN
    assert "BiRefNet" in mappings("always", {"BiRefNet": object})[0]
    assert "BiRefNet" not in mappings("auto", {"BiRefNet": object})[0]
    with pytest.raises(BiRefNetError, match="BIREFNET_COMFYUI_NAMES is 'no'"):
        mappings("no")


def test_nodes_work_while_another_has_the_name(
    comfyui: ComfyUI, loads, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ComfyUI-RMBG puts a module of its own in `sys.modules` under our name."""
    stranger = type(sys)("birefnet")
    monkeypatch.setitem(sys.modules, "birefnet", stranger)
    monkeypatch.delitem(sys.modules, "birefnet.imaging.guided", raising=False)
    comfyui.picture("photo.png", disc())
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "photo.png"}},
        "2": {
            "class_type": "BiRefNetRemoveBackground",
            "inputs": {"image": ["1", 0], "output": "cutout"},
        },
    }
    assert comfyui.run(prompt)["2"][0].shape == (1, 48, 64, 4)
    assert sys.modules["birefnet"] is stranger


def test_our_modules_never_hide_those_of_neighbours() -> None:
    """Top-level names of the modules called `birefnet` in ComfyUI_BiRefNet_ll and others."""
    own = {path.stem for path in Path(birefnet.__file__).parent.iterdir()}
    assert not own & {"config", "dataset", "image_proc", "models", "utils", "preproc"}


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 1
    assert "is not ComfyUI's folder custom_nodes" in capsys.readouterr().err
    (tmp_path / "custom_nodes").mkdir()
    for place in (tmp_path, tmp_path / "custom_nodes"):  # and again, to bring it up to date
        assert main([str(place)]) == 0
    folder = tmp_path / "custom_nodes" / NAME
    assert str(folder) in capsys.readouterr().out
    assert {p.name for p in folder.iterdir()} >= {"__init__.py", "prestartup_script.py"}
    assert main([]) == 2


def test_starting_stays_light() -> None:
    """ComfyUI runs our script before it chooses a GPU: torch must not be there yet."""
    import os
    import subprocess

    code = (
        "import sys, birefnet.integrations.comfyui.neighbours;"
        "print([n for n in ('torch', 'numpy', 'cv2', 'PIL') if n in sys.modules])"
    )
    source = Path(birefnet.__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        check=True,
    )
    assert done.stdout.strip() == "[]"
