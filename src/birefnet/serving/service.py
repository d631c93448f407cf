"""The service behind every route: bytes in, cut-out out, in turn and within the limits."""

from __future__ import annotations

import asyncio
import copy
import io
import math
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, TypeVar

import numpy as np
from PIL import Image

from birefnet.errors import BiRefNetError
from birefnet.imaging import compose
from birefnet.imaging.encoding import FORMATS
from birefnet.imaging.formats import SUFFIXES, sniff
from birefnet.imaging.io import decode
from birefnet.imaging.picture import Limits, Picture
from birefnet.imaging.tiff import read_pages
from birefnet.inference.predictor import Predictor
from birefnet.inference.stream import Prepared
from birefnet.matte import Matte
from birefnet.options import FILE_OPTIONS, OPTIONS, Options
from birefnet.serving import fetch as fetching
from birefnet.serving.batching import Array, Batcher, SharedEngine
from birefnet.serving.budget import PixelBudget
from birefnet.serving.errors import Busy, InvalidRequest, Stopping, TimedOut
from birefnet.serving.jobs import Jobs
from birefnet.serving.metrics import Metrics
from birefnet.serving.pool import LoadedModel, ModelPool
from birefnet.serving.settings import ServerSettings

T = TypeVar("T")

MOST_OBJECTS = 64  # of one picture
MOST_MARKS = 64  # boxes, points, or points on what is not meant
_FIRST_GUESS_S = 1.0  # of a picture's time, before one has been measured


Objects = tuple[tuple[bytes, dict[str, Any]], ...]
"""The encoded picture of each object alone, the largest first, and its `Part.facts`."""


@dataclass(frozen=True, eq=False)
class Result:
    """One picture done.

    Attributes:
        matte: after all corrections.
        format: of `data` or the objects, such as png.
        data: the encoded picture; None where it was not asked for.
        objects: instead of `data`, where each object is asked for by itself.
        model: that made it.
        seconds: from arrival to the end, waiting included.
    """

    matte: Matte
    format: str
    data: bytes | None = None
    objects: Objects | None = None
    model: str = ""
    seconds: float = 0.0

    @property
    def media_type(self) -> str:
        """Of `data`, such as image/png."""
        return f"image/{self.format}"

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of what `data` shows, or else of the picture [px]."""
        return (self.matte.width, self.matte.height) if self.data is None else size_of(self.data)


class Service:
    """The predictor behind the routes.

    Args:
        settings: limits and models.
        predictor: the default model, if it is loaded already.

    Attributes:
        settings, metrics, pool, jobs: for the routes.
        budget: of the pixels of all requests.
        limits: of pictures, as `decode` takes them.
        slots_taken: pictures that wait or are worked on, of the `queue` of the settings.
        is_ready: the default model is loaded.
        is_stopping: no new work is taken.
    """

    def __init__(self, settings: ServerSettings, predictor: Predictor | None = None) -> None:
        self.settings = settings
        self.metrics = Metrics()
        self.pool = ModelPool(settings, self.metrics, predictor)
        self.jobs = Jobs(settings, self.metrics)
        self.limits = Limits(settings.max_bytes, settings.max_pixels, settings.max_frames)
        self.is_ready = predictor is not None
        self.is_stopping = False
        workers = settings.workers or min(8, os.cpu_count() or 1)
        self.budget = PixelBudget(settings.pixels_held)
        self._readers = ThreadPoolExecutor(workers, thread_name_prefix="birefnet-read")
        self._writers = ThreadPoolExecutor(workers, thread_name_prefix="birefnet-write")
        self._slots = asyncio.Semaphore(settings.queue)
        # Decoded pictures are large: only so many lie between decoder and encoder.
        self._ahead = asyncio.Semaphore(2 * (workers + (settings.batch or 4)))
        self.slots_taken = self._pending = 0
        self._batcher = Batcher(
            settings.wait_ms / 1000, settings.batch, lambda: self._pending, self.metrics
        )
        self._pace_s = _FIRST_GUESS_S

    @property
    def is_busy(self) -> bool:
        """Whether a picture or a job is being worked on."""
        return bool(self.slots_taken or self.jobs.running)

    async def fetch(self, url: str) -> bytes:
        """The file at a URL, see `birefnet.serving.fetch.fetch`."""
        return await fetching.fetch(url, self.settings)

    async def fetch_into(self, url: str, file: BinaryIO) -> None:
        """The same for large files, as they come."""
        await fetching.fetch_into(url, file.write, self.settings)

    async def remove(
        self,
        source: bytes | Picture,
        options: Options | None = None,
        *,
        model: str | None = None,
        encode: bool = True,
        wait: bool = False,
    ) -> Result:
        """Cut the subject out of one picture; for those who need no more than the encoded result.

        The matte's memory counts no longer in the budget of pixels: let go of it soon.
        """
        async with self.removing(source, options, model=model, encode=encode, wait=wait) as result:
            return result

    @asynccontextmanager
    async def removing(
        self,
        source: bytes | Picture,
        options: Options | None = None,
        *,
        model: str | None = None,
        encode: bool = True,
        wait: bool = False,
    ) -> AsyncIterator[Result]:
        """Cut the subject out of one picture; its matte may be used within the block.

        Args:
            source: an encoded picture (of an animation: its first frame), or one that is decoded.
            options: what to make of it. Background and coarse mask are colours, bytes, arrays or
                pictures; strings are never taken for paths.
            model: one of `pool.names`; None for the default.
            encode: whether `Result.data` is wanted, in `options.format` (None: png).
            wait: wait for a place in a full queue instead of raising `Busy`.

        Raises:
            Busy, TimedOut, Stopping: the load is too high, or the server is on its way out.
            BiRefNetError: the picture or the options make no sense.
            UnknownModel: see `ModelPool.name_of`.
        """
        options = options or Options()
        name = self.pool.name_of(model)
        format = checked_format(options) if encode else None
        async with AsyncExitStack() as until_the_end:
            async with self._slot(wait):
                start = time.perf_counter()
                cancelled = threading.Event()

                async def work() -> Result:
                    pixels = await asyncio.get_running_loop().run_in_executor(
                        self._readers, self._pixels_of, source, options
                    )
                    hold_more = await until_the_end.enter_async_context(self.budget.hold(pixels))
                    return await self._remove(source, options, name, format, cancelled, hold_more)

                try:
                    made = await asyncio.wait_for(work(), self.settings.timeout_s)
                except TimeoutError:
                    self.metrics.refused.labels("timed_out").inc()
                    raise TimedOut(
                        f"the picture was not done within {self.settings.timeout_s:g} s; try again "
                        "later, or with a smaller resolution or model"
                    ) from None
                except asyncio.CancelledError:
                    self.metrics.refused.labels("cancelled").inc()
                    raise
                finally:
                    cancelled.set()
                seconds = time.perf_counter() - start
            self.metrics.pictures.labels(name).inc()
            self._pace_s += 0.2 * (seconds / max(1, self.slots_taken + 1) - self._pace_s)
            yield replace(made, model=name, seconds=seconds)

    def shared(self, model: LoadedModel, cancelled: threading.Event) -> Predictor:
        """The predictor for a thread of its own: its pictures take turns with all others."""
        mine = copy.copy(model.predictor)
        loop = asyncio.get_running_loop()
        mine.engine = SharedEngine(model.queue, self._batcher, loop, cancelled)
        mine.limits = self.limits
        return mine

    async def in_thread(self, call: Callable[..., T], *arguments: object) -> T:
        """Do something that takes a while beside the event loop."""
        return await asyncio.get_running_loop().run_in_executor(self._writers, call, *arguments)

    async def start(self) -> None:
        """Load the default model; failing that is an error now rather than later."""
        async with self.pool.use(self.pool.default):
            self.is_ready = True

    async def stop(self) -> None:
        """Refuse what is new, finish what runs (as long as `grace_s`), end the threads, and
        give the models' memory back."""
        self.is_stopping = True
        deadline = time.monotonic() + self.settings.grace_s
        self.jobs.refuse()
        while self.is_busy and time.monotonic() < deadline:
            await asyncio.sleep(0.02)
        await self.jobs.close()
        await self._batcher.close()
        for threads in (self._readers, self._writers):
            threads.shutdown(wait=False, cancel_futures=True)
        self.pool.clear()

    @asynccontextmanager
    async def _slot(self, wait: bool) -> AsyncIterator[None]:
        if self.is_stopping and not wait:  # those that wait belong to what runs already
            raise Stopping
        if not wait and self._slots.locked():
            self.metrics.refused.labels("busy").inc()
            raise Busy(math.ceil(self._pace_s * self.slots_taken))
        async with self._slots:
            self.slots_taken += 1
            self.metrics.slots.set(self.slots_taken)
            try:
                yield
            finally:
                self.slots_taken -= 1
                self.metrics.slots.set(self.slots_taken)

    async def _remove(
        self,
        source: bytes | Picture,
        options: Options,
        name: str,
        format: str | None,
        cancelled: threading.Event,
        hold_more: Callable[[int], None],
    ) -> Result:
        loop = asyncio.get_running_loop()
        async with self._ahead, self.pool.use(name) as model:
            self._pending += 1
            try:
                options, prepared, inputs = await loop.run_in_executor(
                    self._readers, self._read, source, options, model.predictor
                )
                source = b""
                # One after the other: side by side, a large one would have a share of the cores.
                planes = [await self._batcher.infer(model.queue, array) for array in inputs]
            finally:
                self._pending -= 1
                self._batcher.wake()
            if isinstance(prepared, Prepared):

                def matte_of() -> Matte:
                    return prepared.restore(prepared.merge(planes))
            else:
                mine = self.shared(model, cancelled)

                def matte_of() -> Matte:
                    return options.predict(mine, prepared)

            return await loop.run_in_executor(
                self._writers, self._finish, matte_of, options, format, cancelled, hold_more
            )

    def _pixels_of(self, source: bytes | Picture, options: Options) -> int:
        """In a thread: pixels of a request's pictures, as their headers say."""
        pictures = [source, *(getattr(options, name) for name in FILE_OPTIONS)]
        return sum(min(_pixels_in(item), self.settings.max_pixels) for item in pictures)

    def _read(
        self,
        source: bytes | Picture,
        options: Options,
        predictor: Predictor,
    ) -> tuple[Options, Prepared | Picture, list[Array]]:
        """In a thread: options checked, the picture, and the network's inputs of it."""
        start = time.perf_counter()
        options = safe_options(options, self.limits).prepared()
        picture = source
        if not isinstance(picture, Picture):
            picture = decode(picture, limits=self.limits, convert_to_srgb=not options.keep_profile)
        height, width = predictor.plan(picture, options.resolution).input
        most = self.settings.max_resolution
        if height * width > most * most:
            raise InvalidRequest(
                f"the network would run at {width}x{height}; this server allows up to {most}x{most}"
            )
        prepared = predictor.prepare(picture, options.resolution) if options.is_plain else picture
        inputs = prepared.inputs() if isinstance(prepared, Prepared) else []
        self.metrics.stage.labels("read").observe(time.perf_counter() - start)
        return options, prepared, inputs

    def _finish(
        self,
        matte_of: Callable[[], Matte],
        options: Options,
        format: str | None,
        cancelled: threading.Event,
        hold_more: Callable[[int], None],
    ) -> Result:
        """In a thread: the matte corrected, and encoded if asked for."""
        start = time.perf_counter()
        matte = options.finish(matte_of())
        frame = options.frame(matte)
        most = self.settings.max_pixels
        if frame is not None and frame.height * frame.width > most:
            raise InvalidRequest(
                f"the trimmed picture would have {frame.width} x {frame.height} pixels; at most "
                f"{most:,} are made"
            )
        if frame is not None:  # a margin may reach far beyond the picture
            hold_more(frame.height * frame.width - matte.alpha.size)
        made = Result(matte, format or "png")
        if format is not None and not cancelled.is_set():
            if options.objects:
                made = replace(made, objects=tuple(_objects(matte, options, format)))
            else:
                made = replace(made, data=options.encode(matte, format))
        _ = matte.coverage, matte.confidence  # kept by the matte; they take a while
        self.metrics.stage.labels("finish").observe(time.perf_counter() - start)
        return made


def _objects(matte: Matte, options: Options, format: str) -> Iterator[tuple[bytes, dict[str, Any]]]:
    for part in options.parts(matte):
        if part.number > MOST_OBJECTS:
            raise InvalidRequest(
                f"the picture has more than {MOST_OBJECTS} objects; give a larger min_object"
            )
        yield options.encode(part.matte, format), part.facts()


_PAGES_COUNTED = 16  # of a TIFF, whose directories take a while


def _pixels_in(item: object) -> int:
    """Of a picture in any form, 0 for what is none; unknown ones count as the largest."""
    if isinstance(item, Picture):
        return item.height * item.width
    if isinstance(item, np.ndarray):
        return item.shape[0] * item.shape[1]
    if not isinstance(item, (bytes, bytearray, memoryview)):
        return 0
    try:
        data = bytes(item)
        if sniff(data) == "tiff":  # whose first directory may be a preview
            pages = read_pages(data, "it", _PAGES_COUNTED)
            sizes = [int(page.imagewidth) * int(page.imagelength) for page in pages]
            return max(sizes) if len(sizes) <= _PAGES_COUNTED else sys.maxsize
        width, height = size_of(data)
    except Exception:  # decoders raise nearly every type there is; `decode` will say what is wrong
        return sys.maxsize
    return width * height


def size_of(data: bytes) -> tuple[int, int]:
    """Width and height of an encoded picture [px], from its header."""
    with Image.open(io.BytesIO(data)) as image:
        return image.width, image.height


def checked_format(options: Options) -> str:
    """The format of the answer: as asked for, or png.

    Raises:
        InvalidRequest: an unknown one, or one that cannot hold the result.
    """
    name = (options.format or "png").lower()
    format = SUFFIXES.get(f".{name}", name)
    if format not in FORMATS:
        raise InvalidRequest(f"format is {name[:40]!r}; give one of {', '.join(FORMATS)}")
    if format == "jpeg" and options.is_transparent:
        raise InvalidRequest("a JPEG cannot be transparent; give a background, or png or webp")
    return format


def safe_options(options: Options, limits: Limits) -> Options:
    """The same, with pictures among the options decoded within the limits, and no paths.

    Raises:
        BiRefNetError: a string that is not a colour, or a picture that is too large or broken.
    """
    changes: dict[str, Any] = {}
    for name, about in OPTIONS.items():
        if about.is_list and len(getattr(options, name)) > MOST_MARKS:
            raise InvalidRequest(f"{name} holds more than {MOST_MARKS}; give fewer")
    for name in FILE_OPTIONS:
        value = getattr(options, name)
        if isinstance(value, (str, os.PathLike)):
            changes[name] = safe_colour(name, value)
        elif isinstance(value, (bytes, bytearray, memoryview)):
            picture = decode(bytes(value), limits=limits)
            if name == "background":
                changes[name] = picture
    return replace(options, **changes)


def safe_colour(name: str, value: str | os.PathLike[str]) -> compose.Colour:
    """A colour out of text that a client sent as the option `name`; never a path.

    Raises:
        InvalidRequest: it is none, or the option takes pictures only.
    """
    if name == "background" and isinstance(value, str):
        try:
            return compose.parse_colour(value)
        except BiRefNetError:
            raise InvalidRequest(
                f"background is {value[:40]!r}; give a colour such as white, #rrggbb or r,g,b, or "
                "send a picture"
            ) from None
    raise InvalidRequest(f"{name} is text; send a picture")
