"""Every field of `Options` can be said in every way in, and has a sentence of help there.

Where one is missing, this file says why; a new field fails here until each way in has it.
"""

from __future__ import annotations

import inspect
from dataclasses import fields, replace
from typing import Any

import pytest

from birefnet.cli.main import app
from birefnet.options import Options

NAMES = tuple(field.name for field in fields(Options))

COMMAND = {"kind": "--type", "boxes": "--box", "points": "--point", "other_points": "--not-point"}
COMMAND |= {"passes": "--refine-passes"}
"""Options of `birefnet remove` that are not named as their field."""

NOT_IN_REQUESTS = {"batch_size": "the server batches across requests"}

PAGE: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "kind": ({"kind": "overlay"}, {}),
    "background": ({"kind": "colour"}, {}),
    "threshold": ({"hard_edge": 0.5}, {}),
    "mask_blur": ({"mask_blur": 2}, {}),
    "mask_offset": ({"mask_offset": -2}, {}),
    "refine": ({"refine": False}, {}),
    "matting": ({"matting": "guided"}, {}),
    "band": ({"band": 9}, {"matting": "guided"}),
    "objects": ({"objects": True}, {}),
    "min_object": ({"min_object": 2}, {"objects": True}),
    "crop": ({"crop": True}, {}),
    "crop_margin": ({"crop_margin": 20}, {"crop": True}),
    "aspect": ({"aspect": "4:5"}, {"crop": True}),
    "shadow": ({"shadow": "drop"}, {}),
    "shadow_strength": ({"shadow_strength": 0.9}, {"shadow": "ground"}),
    "shadow_blur": ({"shadow_blur": 2}, {"shadow": "ground"}),
    "shadow_angle": ({"shadow_angle": 10}, {"shadow": "ground"}),
    "shadow_length": ({"shadow_length": 1}, {"shadow": "ground"}),
}
"""Option → what a visitor changes for it, and what must be set as well."""

PAGE_NETWORK = {"resolution": {"resolution": "64x32"}, "passes": {"fine": True}}
PAGE_STAGE = {"boxes": "boxes", "points": "points", "other_points": "other_points"}
PAGE_STAGE |= {"guide": "brush", "format": "format"}
"""Option → what the stage sends for it: marks, what is painted, the button that saves."""

NOT_ON_THE_PAGE = {
    "batch_size": "the server batches across visitors",
    "quality": "the page saves at the usual one",
    "keep_profile": "browsers show sRGB",
    "metadata": "what a visitor's picture says of itself stays in it",
}


def test_the_docstring_explains_each() -> None:
    said = (inspect.getdoc(Options) or "").partition("Attributes:")[2]
    heads = [line.split(":")[0] for line in said.splitlines() if line[4:5].strip()]
    explained = {name.strip() for head in heads for name in head.split(",")}
    assert explained == set(NAMES)


def test_the_command_has_each() -> None:
    import typer

    remove = typer.main.get_command(app).get_command(None, "remove")  # type: ignore[attr-defined]
    helps = {flag: param.help for param in remove.params for flag in param.opts}
    for name in NAMES:
        flag = COMMAND.get(name, f"--{name.replace('_', '-')}")
        assert flag in helps, name
        assert len(helps[flag].split()) > 1, name


def test_requests_have_each() -> None:
    pytest.importorskip("fastapi")
    from birefnet.serving.native.options import LEFT_OUT, OptionFields, descriptions

    assert set(NOT_IN_REQUESTS) == LEFT_OUT
    offered = OptionFields.model_fields
    for name in NAMES:
        if name not in NOT_IN_REQUESTS:
            assert offered[name].description == descriptions()[name], name


def test_comfyui_has_each() -> None:
    from birefnet.integrations.comfyui.settings import NOT_HERE, WIDGETS, WIDGETS_OF

    assert set(NAMES) == set(WIDGETS_OF) | set(NOT_HERE)
    assert not set(WIDGETS_OF) & set(NOT_HERE)
    assert all(len(widget[1]["tooltip"]) > 10 for widget in WIDGETS.values())


def test_the_page_has_each() -> None:
    pytest.importorskip("gradio")
    from birefnet.serving.page.picture import read_guide
    from birefnet.serving.page.wishes import Wishes

    known = {*PAGE, *PAGE_NETWORK, *PAGE_STAGE}
    assert set(NAMES) == known | set(NOT_ON_THE_PAGE)
    for name, (change, others) in PAGE.items():
        before = Wishes(**others).finishing(None)
        after = replace(Wishes(**others), **change).finishing(None)
        assert getattr(before, name) != getattr(after, name), name
    for name, change in PAGE_NETWORK.items():
        assert getattr(Wishes(**change).network({}), name) != getattr(Options(), name), name
    for name in ("boxes", "points", "other_points"):
        assert read_guide({name: ["0.1,0.2,0.8,0.9"]})[name]
    assert read_guide({"brush": "data:image/png;base64,AAAA"})["guide"]


def test_each_control_of_the_page_says_what_it_does() -> None:
    gr = pytest.importorskip("gradio")
    from birefnet.serving.page.panel import build_panel

    with gr.Blocks():
        panel = build_panel([{"id": "nano", "title": "small"}])
    assert all(control.label for control in panel.controls)
