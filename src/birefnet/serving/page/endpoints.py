"""Named endpoints of the page, for programs that use gradio_client."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any

import gradio as gr
from gradio import FileData

from birefnet.serving.errors import InvalidRequest, reported
from birefnet.serving.native.options import OptionFields, options_of
from birefnet.serving.native.request import read_options
from birefnet.serving.page.controller import Controller

Endpoint = Callable[..., Awaitable[tuple[bytes, str]]]
"""Gets the bytes of a picture and further values; gives those of a file and its suffix."""


def add_endpoints(controller: Controller, others: Mapping[str, Endpoint]) -> None:
    """Add `/remove` and others, by their names, to the page that is being built."""
    service = controller.service

    # The page's description of its endpoints shows the default, so it is a dict.
    async def remove(image: bytes, options: dict[str, Any] = {}) -> tuple[bytes, str]:  # noqa: B006
        """Cut the subject out; `options`: the fields of `POST /v1/remove`, {"kind": "mask"}."""
        fields = await read_options(options or {}, service, OptionFields)
        choices = options_of(fields)
        if choices.objects:
            raise InvalidRequest("objects makes a picture of each; send a zip to /v1/batch")
        result = await service.remove(image, choices, model=fields.model)
        assert result.data is not None
        return result.data, result.format

    for name, call in {"remove": remove, **others}.items():
        gr.api(
            _of_files(call, controller),
            api_name=name,
            api_description=inspect.getdoc(call),
            concurrency_limit=None,  # the service has its own queue
        )


def _of_files(call: Endpoint, controller: Controller) -> Callable[..., Any]:
    """The same for uploaded files, with errors that the client sees."""

    @wraps(call)
    async def answer(image: dict[str, Any], *values: Any) -> dict[str, Any]:
        try:
            result, suffix = await call(controller.read_upload(image.get("path")), *values)
        except Exception as error:
            message = reported(error, "a call of the page").message
            raise gr.Error(message, print_exception=False) from None
        folder = controller.uploads() / secrets.token_hex(16)
        folder.mkdir()
        path = folder / f"cutout.{suffix}"
        path.write_bytes(result)
        return FileData(path=str(path)).model_dump()

    first = next(iter(inspect.signature(call).parameters))
    answer.__annotations__ = {**call.__annotations__, first: FileData, "return": FileData}
    return answer
