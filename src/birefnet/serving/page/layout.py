"""The page itself: what lies where, and which function answers what."""

from __future__ import annotations

import base64
import io
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import gradio as gr
from gradio.utils import get_upload_folder
from PIL import Image

from birefnet.serving.page.panel import build_panel
from birefnet.serving.page.picture import EXAMPLES, Studio, examples, problem
from birefnet.serving.page.store import Store
from birefnet.serving.page.theme import text_of
from birefnet.serving.page.wishes import Wishes

if TYPE_CHECKING:
    from birefnet.serving.service import Service

KEPT = (300, 3600)  # of uploaded files: how often they are looked at, and how old they get [s]

QUIET: dict[str, Any] = {
    "api_visibility": "private",
    "show_progress": "hidden",
    "concurrency_limit": None,  # the service has its own queue
}


def build_page(service: Service, store: Store | None = None) -> gr.Blocks:
    """The page, to be mounted by `mount_page`.

    Args:
        service: does the work, and knows what is accepted.
        store: where visitors' pictures and results lie; `mount_page` serves them from there.
    """
    store = Store() if store is None else store  # an empty one counts as false
    studio = Studio(service, service.settings, store, lambda: Path(get_upload_folder()))
    with gr.Blocks(
        title="birefnet: cut the subject out", analytics_enabled=False, delete_cache=KEPT
    ) as page:
        gr.HTML(text_of("head.html"), apply_default_css=False, js_on_load=text_of("head.js"))
        with gr.Tabs(), gr.Tab("Picture"):
            _picture_tab(studio, service)
    return page


def _picture_tab(studio: Studio, service: Service) -> None:
    token = gr.State(None, time_to_live=studio.store.seconds)
    backdrop = gr.State(None, time_to_live=studio.store.seconds)
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
            panel = build_panel(service.models())

    async def bring(
        event: gr.EventData, token: str | None, backdrop: str | None, *values: Any
    ) -> AsyncIterator[Any]:
        async for answer in studio.bring(token, event._data, backdrop, Wishes(*values)):
            yield answer

    async def guide(
        event: gr.EventData, token: str | None, backdrop: str | None, *values: Any
    ) -> AsyncIterator[Any]:
        async for answer in studio.guide(token, event._data, backdrop, Wishes(*values)):
            yield answer

    async def save(
        event: gr.EventData, token: str | None, backdrop: str | None, *values: Any
    ) -> AsyncIterator[Any]:
        async for answer in studio.save(token, event._data, backdrop, Wishes(*values)):
            yield answer

    async def change(token: str | None, backdrop: str | None, *values: Any) -> AsyncIterator[Any]:
        async for answer in studio.change(token, backdrop, Wishes(*values)):
            yield answer

    async def set_backdrop(path: str, before: str | None) -> tuple[Any, Any, Any]:
        try:
            kept = await studio.set_backdrop(path)
        except Exception as error:
            return before, gr.skip(), problem(error)
        return kept, gr.UploadButton(label="Choose another background picture"), gr.skip()

    inputs = [token, backdrop, *panel.controls]
    stage.bring(bring, inputs, [token, stage], **QUIET)
    stage.guide(guide, inputs, [stage], trigger_mode="always_last", **QUIET)
    stage.save(save, inputs, [stage], **QUIET)
    kind = panel.controls[0]
    kind.change(
        lambda kind: (gr.update(visible=kind == "colour"), gr.update(visible=kind == "picture")),
        [kind],
        [panel.controls[1], panel.backdrop],
        **QUIET,
    )
    changed = [
        control.submit if isinstance(control, gr.Textbox) else control.change
        for control in panel.controls
    ]
    gr.on(changed, change, inputs, [stage], trigger_mode="always_last", **QUIET)
    panel.backdrop.upload(
        set_backdrop, [panel.backdrop, backdrop], [backdrop, panel.backdrop, stage], **QUIET
    ).then(change, inputs, [stage], **QUIET)


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
