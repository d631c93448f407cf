"""A ComfyUI in a folder, with this package's nodes, whose networks are stand-ins."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from birefnet.imaging.geometry import Preprocess
from birefnet.inference.predictor import Predictor
from birefnet.integrations.comfyui import models
from fake_comfyui import ComfyUI
from fakes import BrightEngine

NODES = Path(__file__).parents[3] / "comfyui"


class Loads(list[dict[str, Any]]):
    """What `birefnet.load` was asked for; `engine` is the last network it gave."""

    engine: BrightEngine

    def __call__(self, source: str, **settings: Any) -> Predictor:
        self.append({"source": source, **settings})
        self.engine = BrightEngine()
        size = 128 if "HR" in source or source == "hr" else 64
        preprocess = Preprocess(size, size, mean=(0, 0, 0), std=(1, 1, 1))
        return Predictor(self.engine, preprocess, name=Path(source).stem)


@pytest.fixture
def loads(monkeypatch: pytest.MonkeyPatch) -> Iterator[Loads]:
    """Loading gives a `BrightEngine`, and is written down."""
    loads = Loads()
    monkeypatch.setattr(models, "load", loads)
    monkeypatch.delenv("BIREFNET_MODEL", raising=False)
    models._kept.cache_clear()
    yield loads
    models._kept.cache_clear()


@pytest.fixture
def bare_comfyui(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ComfyUI:
    """ComfyUI before it loads custom nodes; ours are there, as the installer puts them."""
    from birefnet.integrations.comfyui.__main__ import install

    made = ComfyUI(tmp_path / "ComfyUI")
    for name, module in made.modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    # Registering happens when the module is imported, once for each ComfyUI.
    monkeypatch.delitem(sys.modules, "birefnet.integrations.comfyui.register", raising=False)
    install(made.root)
    return made


@pytest.fixture
def comfyui(bare_comfyui: ComfyUI) -> ComfyUI:
    """ComfyUI with the nodes loaded."""
    bare_comfyui.load_custom_nodes()
    return bare_comfyui
