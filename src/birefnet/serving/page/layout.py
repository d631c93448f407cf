"""The page itself: what lies where, and which function answers what."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from birefnet.options import Quality
from birefnet.serving.page.batch import Batch
from birefnet.serving.page.endpoints import Endpoint, add_endpoints
from birefnet.serving.page.form import FORMATS, FormState, form_of
from birefnet.serving.page.panel import (
    Panel,
    build_panel,
    kind_control,
    model_control,
    resolution_control,
)
from birefnet.serving.page.picture import EXAMPLES, PageController, examples, problem
from birefnet.serving.page.store import Store
from birefnet.serving.page.theme import text_of
from birefnet.serving.page.video import FORMATS as VIDEO_FORMATS
from birefnet.serving.page.video import KINDS as VIDEO_KINDS
from birefnet.serving.page.video import VideoController

if TYPE_CHECKING:
    from birefnet.serving.service import Service

KEPT = (300, 3600)  # of uploaded files: how often they are looked at, and how old they get [s]

_KEEP_FOCUS = """() => {
  const isLost = document.activeElement.matches("body, .upload-container");
  if (isLost) document.querySelector("%s").focus();
}"""

Answers = Callable[..., AsyncIterator[object]]

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,  # the service has its own queue
}


def build_page(
    service: Service,
    store: Store | None = None,
    endpoints: Mapping[str, Endpoint] | None = None,
) -> gr.Blocks:
    """The page, to be mounted by `mount_page`.

    Args:
        service: does the work, and knows what is accepted.
        store: where visitors' pictures and results lie; `mount_page` serves them from there.
        endpoints: for programs, beside `/remove`; see `add_endpoints`.
    """
    store = Store() if store is None else store  # an empty one counts as false

    def uploads() -> Path:
        return Path(get_upload_folder())

    controller = PageController(service, store, uploads)
    with gr.Blocks(
        title="birefnet: cut the subject out", analytics_enabled=False, delete_cache=KEPT
    ) as page:
        gr.HTML(
            text_of("head.html"),
            apply_default_css=False,
            js_on_load=text_of("head.js"),
            elem_id="head",
        )
        with gr.Tabs():
            with gr.Tab("Picture"):
                background = gr.State(None, time_to_live=store.seconds)
                panel = _picture_tab(controller, service, background)
            with gr.Tab("Many pictures"):
                _batch_tab(Batch(service, store, uploads), background, panel)
            if find_spec("av") is not None:
                with gr.Tab("Video"):
                    _video_tab(VideoController(service, store, uploads), service)
        add_endpoints(controller, endpoints or {})
    return page


def _picture_tab(controller: PageController, service: Service, background: gr.State) -> Panel:
    token = gr.State(None, time_to_live=controller.store.seconds)
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=300):
            stage = gr.HTML(
                None,
                html_template=text_of("stage.html").replace("<!--examples-->", _thumbnails()),
                js_on_load=text_of("stage.js"),
                apply_default_css=False,
                elem_id="stage",
                max_bytes=service.settings.max_bytes,
            )
        with gr.Column(scale=4, min_width=280):
            panel = build_panel(service.pool.about(), service.settings.presets)

    def on_event(work: Answers) -> Answers:
        async def answer(
            event: gr.EventData, token: str | None, background: str | None, *values: Any
        ) -> AsyncIterator[object]:
            async for message in work(token, event._data, background, FormState(*values)):
                yield message

        return answer

    async def change(
        token: str | None, background: str | None, *values: Any
    ) -> AsyncIterator[object]:
        async for answer in controller.change(token, background, FormState(*values)):
            yield answer

    async def set_background(path: str, before: str | None) -> tuple[object, object, object]:
        try:
            kept = await controller.set_background(path)
        except Exception as error:
            return before, gr.skip(), problem(error)
        return kept, gr.UploadButton(label="Choose another background picture"), gr.skip()

    def use_preset(name: str) -> list[object]:
        form = form_of(service.settings.presets[name]) if name else FormState()
        values = asdict(form or FormState()) | {"model": gr.skip(), "resolution": gr.skip()}
        return list(values.values())

    inputs = [token, background, *panel.controls]
    panel.preset.input(use_preset, [panel.preset], panel.controls, **QUIET)
    stage.upload_picture(on_event(controller.upload), inputs, [token, stage], **QUIET)
    stage.guide(on_event(controller.guide), inputs, [stage], trigger_mode="always_last", **QUIET)
    stage.save(on_event(controller.save), inputs, [stage], **QUIET)
    kind = panel.controls[0]
    kind.change(
        lambda kind: (gr.update(visible=kind == "colour"), gr.update(visible=kind == "picture")),
        [kind],
        [panel.controls[1], panel.background],
        **QUIET,
    )
    changed = [
        control.submit if isinstance(control, gr.Textbox) else control.change
        for control in panel.controls
    ]
    gr.on(changed, change, inputs, [stage], trigger_mode="always_last", **QUIET)
    panel.background.upload(
        set_background,
        [panel.background, background],
        [background, panel.background, stage],
        **QUIET,
    ).then(change, inputs, [stage], **QUIET)
    return panel


def _batch_tab(batch: Batch, background: gr.State, panel: Panel) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=300):
            files = gr.File(
                label="Pictures, or zips of pictures",
                file_count="multiple",
                file_types=["image", ".zip", ".heic", ".heif", ".avif", ".tif", ".tiff"],
                height=260,
                elem_id="batch-files",
            )
            shown = gr.HTML(None, apply_default_css=False, elem_id="batch-report")
        with gr.Column(scale=4, min_width=280):
            with gr.Group(elem_classes="panel-group"):
                format = gr.Dropdown(
                    [(name.upper() if name != "webp" else "WebP", name) for name in FORMATS],
                    value="png",
                    label="Format",
                    info="Background, edges, shape and model are those set under Picture",
                    elem_id="batch-format",
                )
            start = gr.Button("Remove all backgrounds", variant="primary", elem_id="batch-start")
            stop = gr.Button("Stop", elem_id="batch-stop")

    async def run(
        paths: list[str] | None, format: str, background: str | None, *values: Any
    ) -> AsyncIterator[str]:
        async for report in batch.run(paths, format, background, FormState(*values)):
            yield report

    files.upload(None, js=_KEEP_FOCUS % "#batch-start")
    running = start.click(run, [files, format, background, *panel.controls], [shown], **QUIET)
    running.then(lambda: None, None, [files], **QUIET)  # the files are gone, so is their list
    _stop(stop, running, shown)


def _video_tab(controller: VideoController, service: Service) -> None:
    with gr.Row(equal_height=False):
        with gr.Column(scale=7, min_width=300):
            video = gr.Video(
                label="Video", sources=["upload"], height=340, buttons=[], elem_id="video-file"
            )
            shown = gr.HTML(None, apply_default_css=False, elem_id="video-report")
        with gr.Column(scale=4, min_width=280):
            with gr.Group(elem_classes="panel-group"):
                kind = kind_control(VIDEO_KINDS, "video-kind")
                colour = gr.ColorPicker("#f2b8a0", label="Colour behind the subject", visible=False)
                format = gr.Dropdown(
                    list(VIDEO_FORMATS.items()),
                    value="webm",
                    label="Format",
                    elem_id="video-format",
                )
                quality = gr.Dropdown(
                    [(name.capitalize(), name) for name in get_args(Quality)],
                    value="high",
                    label="Quality",
                )
                steady = gr.Checkbox(False, label="Steady", info="Less flicker between frames")
                model = model_control(service.pool.about(), "video-model")
                resolution = resolution_control("video-resolution")
            start = gr.Button("Remove the background", variant="primary", elem_id="video-start")
            stop = gr.Button("Stop", elem_id="video-stop")

    kind.change(lambda kind: gr.update(visible=kind == "colour"), [kind], [colour], **QUIET)
    video.upload(None, js=_KEEP_FOCUS % "#video-start")
    inputs = [video, kind, colour, format, quality, steady, model, resolution]
    _stop(stop, start.click(controller.run, inputs, [shown], **QUIET), shown)


def _stop(button: gr.Button, running: Any, shown: gr.HTML) -> None:
    button.click(lambda: "", None, [shown], cancels=[running], **QUIET)


def _thumbnails() -> str:
    """A button for each example, small enough to lie in the page itself."""
    buttons = []
    for name in examples():
        with Image.open(EXAMPLES / f"{name}.jpg") as image:
            image.thumbnail((160, 160))
            small = io.BytesIO()
            image.save(small, "webp", quality=75)
        data = base64.b64encode(small.getvalue()).decode("ascii")
        buttons.append(
            f'<button type="button" data-example="{name}" title="Try {name}">'
            f'<img src="data:image/webp;base64,{data}" alt="Example: {name}"></button>'
        )
    return "".join(buttons)
