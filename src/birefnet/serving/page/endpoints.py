"""Named endpoints of the page, for programs that use gradio_client."""

from __future__ import annotations

import inspect
import secrets
from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any

import gradio as gr
from gradio import FileData

from birefnet.serving.errors import InvalidRequest, failure_of, report
from birefnet.serving.native.options import OptionFields, options_of
from birefnet.serving.native.request import read_options
from birefnet.serving.page.picture import read_upload
from birefnet.serving.service import Service

Endpoint = Callable[..., Awaitable[tuple[bytes, str]]]
"""Gets the bytes of a picture and further values; gives those of a file and its suffix."""


def add_endpoints(
    service: Service, uploads: Callable[[], Path], others: Mapping[str, Endpoint]
) -> None:
    """Add `/remove` and others to the page that is being built.

    Args:
        service: does the work.
        uploads: gives the folder where uploaded files lie; nothing else is read from the disk.
        others: further endpoints by their names.
    """

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
            _of_files(call, service, uploads),
            api_name=name,
            api_description=inspect.getdoc(call),
            concurrency_limit=None,  # the service has its own queue
        )


def _of_files(call: Endpoint, service: Service, uploads: Callable[[], Path]) -> Callable[..., Any]:
    """The same for uploaded files, with errors that the client sees."""

    @wraps(call)
    async def answer(image: dict[str, Any], *values: Any) -> dict[str, Any]:
        try:
            data = read_upload(image.get("path"), uploads(), service.settings.max_bytes)
            result, suffix = await call(data, *values)
        except Exception as error:
            failure = failure_of(error)
            report("a call of the page", failure, error)
            raise gr.Error(failure.message, print_exception=False) from None
        folder = uploads() / secrets.token_hex(16)
        folder.mkdir()
        path = folder / f"cutout.{suffix}"
        path.write_bytes(result)
        return FileData(path=str(path)).model_dump()

    first = next(iter(inspect.signature(call).parameters))
    answer.__annotations__ = {**call.__annotations__, first: FileData, "return": FileData}
    return answer
