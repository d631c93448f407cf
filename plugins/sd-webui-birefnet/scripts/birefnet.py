"""Remove backgrounds in the Extras tab of Stable Diffusion WebUI, by a running `birefnet serve`.

Copy the folder `sd-webui-birefnet` into the WebUI's `extensions`. The server keeps its own Python,
so nothing of the WebUI's environment changes. Its address is on the settings page BiRefNet.
"""

from __future__ import annotations

import io
import json
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

import gradio as gr
from modules import script_callbacks, scripts_postprocessing, shared
from modules.ui_components import FormRow, InputAccordion
from PIL import Image

SERVER = "http://127.0.0.1:8000"
KINDS = ["cutout", "white", "green", "colour", "blur", "mask"]
TIMEOUT = 600  # [s]; the first picture may wait for a download of the network


class Script(scripts_postprocessing.ScriptPostprocessing):
    """The accordion in the Extras tab."""

    name = "BiRefNet"
    order = 20_010

    def ui(self):
        with InputAccordion(False, label="Remove background with BiRefNet") as enable:
            with FormRow():
                kind = gr.Dropdown(KINDS, value="cutout", label="Output")
                colour = gr.Textbox("#ffffff", label="Colour", placeholder="for the output colour")
                model = gr.Textbox("", label="Model", placeholder="the server's default")
                resolution = gr.Textbox("", label="Resolution", placeholder="as trained; 1024")
            with FormRow():
                offset = gr.Slider(-32, 32, value=0, step=1, label="Move the edge [px]")
                blur = gr.Slider(0, 32, value=0, step=1, label="Soften the edge [px]")
                refine = gr.Checkbox(True, label="Clean edge colours")
                passes = gr.Checkbox(False, label="Edges once more at full resolution")
                crop = gr.Checkbox(False, label="Trim to the subject")
                add_mask = gr.Checkbox(False, label="Mask beside a cutout")
        return {
            "enable": enable,
            "kind": kind,
            "colour": colour,
            "model": model,
            "resolution": resolution,
            "offset": offset,
            "blur": blur,
            "refine": refine,
            "passes": passes,
            "crop": crop,
            "add_mask": add_mask,
        }

    def process(
        self,
        pp,
        enable=False,
        kind="cutout",
        colour="#ffffff",
        model="",
        resolution="",
        offset=0,
        blur=0,
        refine=True,
        passes=False,
        crop=False,
        add_mask=False,
    ):
        if not enable:
            return
        options = {
            "type": kind,
            "format": "png",
            "background": colour if kind == "colour" else "",
            "model": model.strip(),
            "resolution": resolution.strip(),
            "mask_offset": offset,
            "mask_blur": blur,
            "refine": str(bool(refine)).lower(),
            "passes": 2 if passes else 1,
            "crop": str(bool(crop)).lower(),
        }
        pp.image, name = cut_out(pp.image, {k: v for k, v in options.items() if v != ""})
        if add_mask and kind == "cutout":
            pp.extra_images.append(pp.image.getchannel("A"))
        pp.info["BiRefNet"] = f"{name}, {kind}"


def cut_out(image: Image.Image, options: dict[str, object]) -> tuple[Image.Image, str]:
    """The answer of the server, and the name of the network that gave it."""
    server = getattr(shared.opts, "birefnet_server", SERVER).rstrip("/")
    key = getattr(shared.opts, "birefnet_api_key", "")
    sent = io.BytesIO()
    image.save(sent, "png")
    headers = {"Content-Type": "image/png", **({"X-Api-Key": key} if key else {})}
    request = Request(f"{server}/v1/remove?{urlencode(options)}", sent.getvalue(), headers)
    try:
        with urlopen(request, timeout=TIMEOUT) as answer:
            picture = Image.open(io.BytesIO(answer.read()))
            picture.load()
            return picture, answer.headers.get("X-Model", "")
    except HTTPError as error:
        raise RuntimeError(f"BiRefNet: {message_of(error)}") from None
    except URLError as error:
        raise RuntimeError(
            f"BiRefNet: no server answers at {server} ({error.reason}); start `birefnet serve`, or "
            "set its address in Settings, BiRefNet"
        ) from None


def message_of(error: HTTPError) -> str:
    """What the server says is wrong."""
    try:
        return json.load(error)["error"]["message"]
    except (ValueError, KeyError, TypeError):
        return f"{error.url.partition('?')[0]} answered {error.code}: is it `birefnet serve`?"


def on_ui_settings():
    section = ("birefnet", "BiRefNet")
    for name, default, label in (
        ("birefnet_server", SERVER, "Address of `birefnet serve`"),
        ("birefnet_api_key", "", "Its API key, if it wants one"),
    ):
        shared.opts.add_option(name, shared.OptionInfo(default, label, section=section))


script_callbacks.on_ui_settings(on_ui_settings)
