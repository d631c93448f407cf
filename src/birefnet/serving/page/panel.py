"""The page's panel: every control, in the order of the fields of `FormState`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

import gradio as gr

from birefnet.options import OPTIONS
from birefnet.presets import Preset
from birefnet.serving.page.form import ASPECTS, KINDS, FormState, form_of

SHADOWS = {
    "None": "none",
    "On the ground": "ground",
    "On a wall": "drop",
    "As photographed": "keep",
}
MATTINGS = {"Usual edges": "none", "Fine edges that follow the colours": "guided"}

_MORE = """() => {
  const open = document.querySelector("#%s").toggleAttribute("data-all");
  document.querySelector("#%s-more").setAttribute("aria-expanded", open);
}"""


@dataclass(frozen=True)
class Panel:
    """The controls.

    Attributes:
        controls: one for each field of `FormState`, in their order.
        preset: sets the controls.
        background: takes the picture for behind the subject.
    """

    controls: list[Any]
    preset: gr.Dropdown
    background: gr.UploadButton


def build_panel(models: list[dict[str, object]], presets: Mapping[str, Preset]) -> Panel:
    """Lay the controls out where the caller stands; `models` as `ModelPool.about` tells them."""
    made: dict[str, object] = {}
    with gr.Group(elem_classes="panel-group"):
        fitting = [name for name, preset in presets.items() if form_of(preset) is not None]
        preset = gr.Dropdown(
            [("None", ""), *((name.capitalize(), name) for name in fitting)],
            value="",
            label="Preset",
            info="Sets the controls below",
            elem_id="preset",
        )
        made["kind"] = kind_control(KINDS, "kind")
        made["colour"] = gr.ColorPicker(
            "#f2b8a0", label="Colour behind the subject", visible=False, elem_id="colour"
        )
        background = gr.UploadButton(
            "Choose the background picture",
            file_types=["image"],
            visible=False,
            size="sm",
            elem_id="background",
        )
        made["shadow"] = gr.Dropdown(
            list(SHADOWS.items()), value="none", label="Shadow", elem_id="shadow"
        )
        made["outline"] = _slider(
            "outline",
            "Outline",
            0,
            10,
            0.1,
            value=0,
            info="% of the subject's longer side; as on stickers",
        )
        made["outline_colour"] = gr.ColorPicker("#ffffff", label="Colour of the outline")
    with gr.Accordion("Edges", open=False):
        made["refine"] = _switch("refine", "Clean colours")
        made["mask_offset"] = _slider("mask_offset", "Grow or shrink", -30, 30, 1)
        made["mask_blur"] = _slider("mask_blur", "Soften", 0, 30, 0.5)
        made["hard_edge"] = _slider("threshold", "Hard edge", 0, 1, 0.05)
        made["matting"] = gr.Dropdown(
            list(MATTINGS.items()), value="none", label="Hair and fur", elem_id="matting"
        )
        made["band"] = _slider("band", "Width of the uncertain edge", 0, 64, 1)
    with gr.Accordion("Shadow settings", open=False):
        made["shadow_strength"] = _slider("shadow_strength", "Strength", 0, 1, 0.05)
        made["shadow_blur"] = _slider("shadow_blur", "Softness", 0, 4, 0.1)
        made["shadow_angle"] = _slider("shadow_angle", "Direction", -180, 180, 5)
        made["shadow_length"] = _slider("shadow_length", "Length", 0, 3, 0.1)
    with gr.Accordion("Size and shape", open=False):
        made["crop"] = _switch("crop", "Trim to the subject", info=None)
        made["crop_margin"] = _slider(
            "crop_margin", "Margin", 0, 50, 1, value=5, info="% of the subject's longer side"
        )
        made["aspect"] = gr.Dropdown(
            list(ASPECTS.items()), value="", label="Shape", elem_id="aspect"
        )
        made["objects"] = _switch(
            "objects", "Each object by itself", info="The download is a zip then"
        )
        made["min_object"] = _slider(
            "min_object", "Smallest object", 0.01, 10, 0.01, value=0.1, info="% of the picture"
        )
    with gr.Accordion("Network", open=False):
        made["model"] = model_control(models, "model")
        made["resolution"] = resolution_control("resolution")
        made["fine"] = gr.Checkbox(
            False, label="Second pass", info="Redo edges at the resolution of the picture; slower"
        )
    return Panel([made[field.name] for field in fields(FormState)], preset, background)


def _slider(
    name: str,
    label: str,
    least: float,
    most: float,
    step: float,
    *,
    value: float | None = None,
    info: str = "",
) -> gr.Slider:
    """A number of `Options`; 0 leaves out what is `None` by default."""
    about = OPTIONS[name]
    value = OPTIONS[name].default or 0 if value is None else value
    words = info or (f"{about.help} 0 means {about.usual}." if about.usual else about.help)
    return gr.Slider(least, most, value, step=step, label=label, info=words, buttons=["reset"])


def _switch(name: str, label: str, info: str | None = "") -> gr.Checkbox:
    """A yes or no of `Options`."""
    words = OPTIONS[name].help if info == "" else info
    return gr.Checkbox(OPTIONS[name].default, label=label, info=words)


def kind_control(kinds: Mapping[str, str], elem_id: str) -> gr.Radio:
    """What to make; the kinds for experts are behind More (see `page.css`)."""
    control = gr.Radio(
        list(kinds.items()),
        value="cutout",
        label="Background",
        elem_id=elem_id,
        elem_classes="kinds",
    )
    more = gr.Button("More", size="sm", elem_id=f"{elem_id}-more", elem_classes="kinds-more")
    more.click(None, js=_MORE % (elem_id, elem_id))
    return control


def model_control(models: list[dict[str, Any]], elem_id: str) -> gr.Dropdown:
    """Which network; `models` as `ModelPool.about` tells them, the default first."""
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
        placeholder="the model's own",
        info="Input size of the network, such as 1024x1024, or native for the picture's",
        elem_id=elem_id,
        max_lines=1,
    )


def _title(model: dict[str, object]) -> str:
    return f"{model['id']}: {model['title']}" if model.get("title") else str(model["id"])
