"""The page's panel: every control, in the order of the fields of `Wishes`."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from birefnet.serving.page.wishes import KINDS, Wishes

SHADOWS = {
    "None": "none",
    "On the ground": "ground",
    "On a wall": "drop",
    "As photographed": "keep",
}
SHAPES = {"As the subject": "", "Square": "square", "4 : 5": "4:5", "16 : 9": "16:9"}
MATTINGS = {"As the network says": "none", "Follow the colours": "guided"}


@dataclass(frozen=True)
class Panel:
    """The controls.

    Attributes:
        controls: one for each field of `Wishes`, in their order.
        backdrop: takes the picture for behind the subject.
    """

    controls: list[Any]
    backdrop: gr.UploadButton


def build_panel(models: list[dict[str, Any]]) -> Panel:
    """Lay the controls out where the caller stands; `models` as `Service.models()` tells them."""
    made: dict[str, Any] = {}
    with gr.Group(elem_classes="panel-group"):
        made["kind"] = gr.Radio(
            list(KINDS.items()), value="cutout", label="Background", elem_id="kind"
        )
        made["colour"] = gr.ColorPicker(
            "#f2b8a0", label="Colour behind the subject", visible=False, elem_id="colour"
        )
        backdrop = gr.UploadButton(
            "Choose the background picture",
            file_types=["image"],
            visible=False,
            size="sm",
            elem_id="backdrop",
        )
        made["shadow"] = gr.Dropdown(
            list(SHADOWS.items()), value="none", label="Shadow", elem_id="shadow"
        )
    with gr.Accordion("Edges", open=False):
        made["refine"] = gr.Checkbox(
            True, label="Clean colours", info="Take the old background out of hair and edges"
        )
        made["mask_offset"] = gr.Slider(
            -30, 30, 0, step=1, label="Grow or shrink", info="Pixels", buttons=["reset"]
        )
        made["mask_blur"] = gr.Slider(
            0, 30, 0, step=0.5, label="Soften", info="Pixels", buttons=["reset"]
        )
        made["hard_edge"] = gr.Slider(
            0,
            1,
            0,
            step=0.05,
            label="Hard edge",
            info="0 keeps the soft edge; else all or nothing from this opacity on",
            buttons=["reset"],
        )
        made["matting"] = gr.Dropdown(
            list(MATTINGS.items()), value="none", label="Hair and fur", elem_id="matting"
        )
        made["band"] = gr.Slider(
            0,
            64,
            0,
            step=1,
            label="Uncertain band",
            info="Pixels to both sides of the edge, for hair and trimaps; 0 suits the size",
            buttons=["reset"],
        )
    with gr.Accordion("How the shadow falls", open=False):
        made["shadow_strength"] = gr.Slider(
            0, 1, 0, step=0.05, label="Strength", info="0 for the usual one", buttons=["reset"]
        )
        made["shadow_blur"] = gr.Slider(
            0, 4, 1, step=0.1, label="Softness", info="0 is hard, 1 usual", buttons=["reset"]
        )
        made["shadow_angle"] = gr.Slider(
            -180,
            180,
            60,
            step=5,
            label="Direction",
            info="Degrees: 0 backwards, 90 to the right, 180 towards you",
            buttons=["reset"],
        )
        made["shadow_length"] = gr.Slider(
            0,
            3,
            0.5,
            step=0.1,
            label="Length",
            info="In heights of the subject",
            buttons=["reset"],
        )
    with gr.Accordion("Size and shape", open=False):
        made["crop"] = gr.Checkbox(False, label="Trim to the subject")
        made["crop_margin"] = gr.Slider(
            0,
            50,
            5,
            step=1,
            label="Margin",
            info="% of the subject's longer side",
            buttons=["reset"],
        )
        made["aspect"] = gr.Dropdown(
            list(SHAPES.items()), value="", label="Shape", elem_id="aspect"
        )
        made["objects"] = gr.Checkbox(
            False, label="Each object by itself", info="The download is a zip then"
        )
        made["min_object"] = gr.Slider(
            0.01,
            10,
            0.1,
            step=0.01,
            label="Smallest object",
            info="% of the picture",
            buttons=["reset"],
        )
    with gr.Accordion("Network", open=False):
        made["model"] = model_control(models, "model")
        made["resolution"] = resolution_control("resolution")
        made["fine"] = gr.Checkbox(
            False, label="Second look", info="Redo edges at the picture's own resolution; slower"
        )
    return Panel([made[field.name] for field in fields(Wishes)], backdrop)


def model_control(models: list[dict[str, Any]], elem_id: str) -> gr.Dropdown:
    """Which network; `models` as `Service.models()` tells them, the default first."""
    return gr.Dropdown(
        [(_title(model), model["id"]) for model in models],
        value=models[0]["id"],
        label="Model",
        elem_id=elem_id,
    )


def resolution_control(elem_id: str) -> gr.Textbox:
    """Size of the network's input, as text."""
    return gr.Textbox(
        "",
        label="Resolution",
        placeholder="as trained, or WIDTHxHEIGHT",
        info="Of what the network sees: 1024x1024, say, or native",
        elem_id=elem_id,
        max_lines=1,
    )


def _title(model: dict[str, Any]) -> str:
    return f"{model['id']}: {model['title']}" if model.get("title") else str(model["id"])
