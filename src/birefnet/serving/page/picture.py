"""The picture's tab behind the scenes: what happens on upload, guidance, options and save."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from birefnet.errors import BiRefNetError
from birefnet.imaging.encoding import encode
from birefnet.imaging.io import decode
from birefnet.imaging.picture import Pixels, to_uint8
from birefnet.inference.guidance.regions import cut
from birefnet.matte import Matte
from birefnet.options import Options
from birefnet.serving.errors import reported
from birefnet.serving.native.options import picture_bytes
from birefnet.serving.page.controller import Controller
from birefnet.serving.page.form import FORMATS, FormState, edge_of, saveable, verdict, with_name
from birefnet.serving.page.retouch import (
    Window,
    merge_window,
    read_strokes,
    read_windows,
    retouch,
    window_boxes,
)
from birefnet.serving.page.store import File, Work
from birefnet.serving.service import MOST_MARKS
from birefnet.serving.zips import ZipStream

Message = dict[str, object]
"""What the stage's script understands: its `type` and what belongs to it."""

EXAMPLES = Path(__file__).parent / "examples"
SHOWN_SIDE = 1600  # of what is shown; what is saved has the picture's own size [px]
LARGEST_BRUSH = 4 * 2**20  # of a painted mask as sent [bytes]

_serial = itertools.count(1)


class PageController(Controller):
    """The tab for one picture; what a visitor works on lies in the store, by a token."""

    async def upload(
        self, token: str | None, event: dict[str, object], background: str | None, form: FormState
    ) -> AsyncIterator[tuple[str | None, Message]]:
        """A new picture: uploaded, from the web, or an example. Its result follows at once."""
        try:
            name, source = await self._read(event)
            picture = await asyncio.to_thread(decode, source, limits=self.service.limits)
            shown = await asyncio.to_thread(_shown, picture.pixels, "jpeg")
        except Exception as error:
            yield token, problem(error)
            return
        self.store.drop(token)
        token = self.store.put(Work(Path(name).stem or "picture", source))
        yield (
            token,
            _message(
                "picture",
                url=self.url_of(File("before.jpg", "image/jpeg", shown)),
                name=name,
                width=picture.width,
                height=picture.height,
            ),
        )
        async for message in self.change(token, background, form):
            yield token, message

    async def guide(
        self, token: str | None, event: dict[str, object], background: str | None, form: FormState
    ) -> AsyncIterator[Message]:
        """Boxes, points or a painted mask of what is meant (none: what the network finds), and
        windows to refine, and the strokes of the brush that erases and restores."""
        try:
            work = self.store.work(token)
            guide, strokes = read_guide(event), read_strokes(event.get("retouch"))
            if guide != work.guide:
                work.guide, work.turn = guide, work.turn + 1
            work.strokes, work.windows = strokes, read_windows(event.get("windows"))
        except Exception as error:
            yield problem(error)
            return
        async for message in self.change(token, background, form):
            yield message

    async def change(
        self, token: str | None, background: str | None, form: FormState
    ) -> AsyncIterator[Message]:
        """The result with the panel as it is now; nothing where no picture is there yet."""
        if token is None:
            return
        yield _message("busy")
        start = time.perf_counter()
        try:
            work = self.store.work(token)
            finishing = await asyncio.to_thread(self.finishing, background, form)
            raw, matte = await self._matte(work, finishing, form)
            shown = replace(finishing, crop=False, crop_margin=0, aspect=None)
            data, is_see_through = await asyncio.to_thread(_result, shown, matte)
        except Exception as error:
            yield problem(error)
            return
        self.store.tidy()
        model = form.model or self.service.pool.default
        yield _message(
            "result",
            url=self.url_of(File("after.webp", "image/webp", data)),
            transparent=is_see_through,
            alt="The picture without its background" if is_see_through else "The result",
            empty=raw.is_empty,
            verdict=verdict(raw, model, time.perf_counter() - start),
            formats=saveable(finishing),
            frame=_frame(finishing, matte),
        )

    async def save(
        self, token: str | None, event: dict[str, Any], background: str | None, form: FormState
    ) -> AsyncIterator[Message]:
        """The result as a file of the picture's own size."""
        try:
            format = event.get("format")
            if format not in FORMATS:
                raise BiRefNetError(f"format is {format!r}; choose one of {', '.join(FORMATS)}")
            work = self.store.work(token)
            finishing = await asyncio.to_thread(self.finishing, background, form)
            _, matte = await self._matte(work, finishing, form)
            save = _parts if finishing.objects else _whole
            file = await asyncio.to_thread(save, work.name, finishing, matte, format)
        except Exception as error:
            yield problem(error)
            return
        yield _message("file", url=self.url_of(file), name=file.name)

    async def set_background(self, path: object) -> str:
        """Keep an uploaded picture for behind subjects; gives its token.

        Raises:
            BiRefNetError: it cannot be read.
        """
        name, source = await self._read({"path": path})
        await asyncio.to_thread(decode, source, limits=self.service.limits)
        return self.store.put(File(name, "application/octet-stream", source))

    async def _matte(self, work: Work, finishing: Options, form: FormState) -> tuple[Matte, Matte]:
        """With the strokes, and finished; both are kept until they must change."""
        network = form.network(work.guide)
        key = (network.resolution, network.passes, form.model, work.turn)
        if work.matte is None or work.matte[0] != key:
            result = await self.service.remove(work.source, network, model=form.model, encode=False)
            work.matte, work.finished = (key, result.matte), None
        matte, strokes, windows = work.matte[1], work.strokes, work.windows
        if windows:
            matte = await self._refined(work, key, windows, matte, form)
        edge = (key, edge_of(finishing), windows, strokes)
        if work.finished is None or work.finished[0] != edge:
            if strokes:
                alpha = await asyncio.to_thread(retouch, matte.alpha, strokes)
                matte = replace(matte, alpha=alpha)
            work.finished = (edge, matte, await asyncio.to_thread(finishing.finish, matte))
        return work.finished[1:]

    async def _refined(
        self, work: Work, key: object, windows: tuple[Window, ...], matte: Matte, form: FormState
    ) -> Matte:
        """With each window done once more at the picture's own resolution; what was done last is
        kept, so that a further window takes no more than itself."""
        last = work.refined
        first = 0
        if last and last[0][0] == key and windows[: len(last[0][1])] == last[0][1]:
            first, matte = len(last[0][1]), last[1]
        for window in windows[first:]:
            box, seen = window_boxes(window, matte.height, matte.width)
            options = Options(kind="mask", passes=2)
            result = await self.service.remove(
                cut(matte.picture, seen), options, model=form.model, encode=False
            )
            alpha = await asyncio.to_thread(
                merge_window, matte.alpha, result.matte.alpha, box, seen
            )
            matte = replace(matte, alpha=alpha)
        work.refined = ((key, windows), matte)
        return matte

    async def _read(self, event: dict[str, object]) -> tuple[str, bytes]:
        """Name and bytes of what a visitor uploads or names.

        Raises:
            BiRefNetError: it is not there, or not to be read.
            ServingError: the URL must not or cannot be fetched.
        """
        if example := event.get("example"):
            if example not in examples():
                raise BiRefNetError("there is no such example; choose one of those shown")
            return f"{example}.jpg", (EXAMPLES / f"{example}.jpg").read_bytes()
        if url := event.get("url"):
            data = await self.service.fetch(str(url))
            return str(url).split("?")[0].rstrip("/").rpartition("/")[2] or "picture", data
        data = self.read_upload(event.get("path"))
        return str(event.get("name") or "picture")[-120:], data


def examples() -> list[str]:
    """Names of the pictures that the page offers to try."""
    return sorted(path.stem for path in EXAMPLES.glob("*.jpg"))


def read_guide(event: dict[str, object]) -> dict[str, Any]:
    """Fields of `Options` from what the stage sends; never a path.

    Raises:
        BiRefNetError: it cannot be understood.
    """
    guide: dict[str, object] = {}
    for name in ("boxes", "points", "other_points"):
        marks = event.get(name) or []
        if not isinstance(marks, list) or not all(isinstance(mark, str) for mark in marks):
            raise BiRefNetError(f"{name} must be a list of texts such as '0.1,0.2,0.8,0.9'")
        if len(marks) > MOST_MARKS:
            raise BiRefNetError(f"got {len(marks)} {name}; {MOST_MARKS} are the most")
        if marks:
            guide[name] = tuple(marks)
    brush = str(event.get("brush") or "")
    if len(brush) > LARGEST_BRUSH:
        raise BiRefNetError("what was painted is larger than 4 MB; paint it with fewer strokes")
    if brush:
        try:
            guide["guide"] = picture_bytes(brush, "what was painted")
        except ValueError as error:
            raise BiRefNetError(f"{error}; paint it once more") from None
    return guide


def problem(error: BaseException) -> Message:
    """One sentence for the visitor; what is unexpected goes to the log whole."""
    failure = reported(error, "a request of the page")
    if failure.code == "internal":
        return _message("problem", text="Something went wrong on the server; its log says what.")
    text = failure.message.rstrip(".")
    return _message("problem", text=f"{text[:1].upper()}{text[1:]}.")


def _message(type: str, **fields: object) -> Message:
    """Never equal to another one, so that the stage notices it."""
    return {"type": type, "serial": next(_serial), **fields}


def _whole(name: str, finishing: Options, matte: Matte, format: str) -> File:
    """In a thread: the result as a file."""
    data = finishing.encode(matte, format)
    return File(with_name(name, finishing, format), f"image/{format}", data)


def _parts(name: str, finishing: Options, matte: Matte, format: str) -> File:
    """In a thread: each object as a file in a zip."""
    stream, data = ZipStream(), bytearray()
    count = 0
    for part in finishing.parts(matte):
        count += 1
        inside = with_name(name, finishing, format, part.number)
        data += stream.add(inside, finishing.encode(part.matte, format))
    if not count:
        raise BiRefNetError("no object was found that could be saved by itself")
    return File(f"{name}.objects.zip", "application/zip", bytes(data + stream.end()))


def _result(finishing: Options, matte: Matte) -> tuple[bytes, bool]:
    """What is shown, as WebP, and whether one can see through it."""
    rendered = finishing.render(matte)
    return _shown(rendered, "webp"), rendered.ndim == 3 and rendered.shape[2] == 4


def _frame(finishing: Options, matte: Matte) -> list[float] | None:
    """Where the saved file is cut: left, top, right, bottom as shares; beyond 0 to 1 outside."""
    frame = finishing.frame(matte)
    if frame is None:
        return None
    sides = (matte.width, matte.height) * 2
    return [round(corner / side, 4) for corner, side in zip(frame.corners, sides, strict=True)]


def _shown(pixels: Pixels, format: str) -> bytes:
    """Small enough for a screen. Pillow weighs colours by alpha, so that edges do not darken."""
    image = Image.fromarray(to_uint8(pixels))
    image.thumbnail((SHOWN_SIDE, SHOWN_SIDE), Image.Resampling.BOX, reducing_gap=2.0)
    small = np.asarray(image)
    alpha = small[..., 3] if small.ndim == 3 and small.shape[2] == 4 else None
    colours = small[..., :3] if small.ndim == 3 else small
    return encode(colours, alpha, format=format, quality=88)
