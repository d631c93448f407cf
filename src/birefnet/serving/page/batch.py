"""The tab for many pictures: files and zips in, one zip out."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zipfile
from bisect import insort
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, BinaryIO

from birefnet.errors import BiRefNetError, ImageError, counted
from birefnet.files import folded
from birefnet.imaging.figure import Figure, figure
from birefnet.imaging.io import decode
from birefnet.imaging.picture import to_uint8
from birefnet.serving.errors import failure_of
from birefnet.serving.page import report
from birefnet.serving.page.form import FORMATS, FormState, for_batch
from birefnet.serving.page.picture import uploaded
from birefnet.serving.page.store import File, Store
from birefnet.serving.service import checked_format
from birefnet.serving.zips import Entry, Names, Unzipped, ZipStream

if TYPE_CHECKING:
    from birefnet.options import Options
    from birefnet.serving.service import Result, Service

log = logging.getLogger("birefnet.serving")

ABREAST = 4  # pictures that are under way
EVERY = 0.25  # seconds between two reports
MOST_SHOWN = 60  # results on the page
THUMBNAIL = 240  # longer side [px]


@dataclass(frozen=True)
class Item:
    """One picture: what it is called, and how its bytes are got, in a thread."""

    entry: Entry
    read: Callable[[], bytes]


@dataclass
class Tally:
    """What became of the pictures so far."""

    total: int
    done: int = 0
    empty: int = 0
    failed: list[str] = field(default_factory=list)
    shown: list[tuple[float, int, Figure]] = field(default_factory=list)  # least certain first

    @property
    def finished(self) -> int:
        return self.done + len(self.failed)

    def show(self, name: str, result: Result, options: Options) -> None:
        """Keep a thumbnail of a result, if it is among the least certain."""
        certainty = -1.0 if result.is_empty else result.confidence
        if len(self.shown) == MOST_SHOWN and certainty >= self.shown[-1][0]:
            return
        pixels = to_uint8(options.render(result.matte))
        note = "no object found" if result.is_empty else f"{certainty:.0%} sure"
        insort(self.shown, (certainty, self.done, figure(name, pixels, note=note, side=THUMBNAIL)))
        del self.shown[MOST_SHOWN:]


@dataclass(eq=False)
class Batch:
    """One for all visitors.

    Args:
        service: does the work.
        store: keeps the zips, on the disk.
        uploads: gives the folder where uploaded files lie; nothing else is read from the disk.
    """

    service: Service
    store: Store
    uploads: Callable[[], Path]

    async def run(
        self, paths: list[str] | None, format: str, background: str | None, form: FormState
    ) -> AsyncIterator[str]:
        """All of them; yields what the page shows. Uploaded files are deleted at the end."""
        files: list[Path] = []
        try:
            if not paths:
                raise BiRefNetError("choose pictures or a zip first")
            files = [uploaded(path, self.uploads()) for path in paths]
            options = await asyncio.to_thread(self._options, format, background, form)
            with contextlib.ExitStack() as opened:
                items = await asyncio.to_thread(self._items, files, opened)
                if not items:
                    raise BiRefNetError("the chosen files contain no picture")
                async for shown in self._work(items, options, form.model):
                    yield shown
        except Exception as error:
            failure = failure_of(error)
            if failure.code == "internal":
                log.error("a batch of the page failed", exc_info=error)
            yield report.problem(failure.message)
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def _options(self, format: str, background: str | None, form: FormState) -> Options:
        kept = self.store.file(background) if background and form.kind == "picture" else None
        picture = decode(kept.data, limits=self.service.limits) if kept else None
        finishing = form.finishing(picture)
        options = for_batch(form.network({}), finishing, format)
        checked_format(options)
        return options

    def _items(self, files: list[Path], opened: contextlib.ExitStack) -> list[Item]:
        """In a thread: the pictures, those in zips one by one."""
        items: list[Item] = []
        for file in files:
            if file.suffix.lower() != ".zip":
                info = zipfile.ZipInfo(file.name)
                entry = Entry(file.name, PurePosixPath(file.name), info)
                items.append(Item(entry, partial(_read, file, self.service.settings.max_bytes)))
                continue
            handle: BinaryIO = opened.enter_context(file.open("rb"))
            unzipped = Unzipped(handle, self.service.settings)
            entries = [entry for entry in unzipped.entries if entry.is_picture or not entry.path]
            items += [Item(entry, partial(unzipped.read, entry)) for entry in entries]
        most = self.service.settings.max_entries
        if len(items) > most:
            raise BiRefNetError(
                f"got {counted(len(items), 'picture')}; {most:,} at a time are the most"
            )
        return _unlike(items)

    async def _work(
        self, items: list[Item], options: Options, model: str | None
    ) -> AsyncIterator[str]:
        start = shown = time.perf_counter()
        tally = Tally(len(items))
        suffix = f".{FORMATS[options.format or 'png']}"
        names = Names([item.entry for item in items], suffix)
        waiting = deque(items)
        running: deque[tuple[Item, asyncio.Task[Result]]] = deque()
        reading = asyncio.Lock()  # a zip is one file: its entries are read one after the other
        target = self.store.new_path(".zip")
        yield report.bar(0, f"0 of {tally.total}")

        async def one(item: Item) -> Result:
            async with reading:
                data = await asyncio.to_thread(item.read)
            return await self.service.remove(data, options, model=model, wait=True)

        try:
            stream = ZipStream()
            with target.open("wb") as file:
                while waiting or running:
                    while waiting and len(running) < ABREAST:
                        item = waiting.popleft()
                        running.append((item, asyncio.create_task(one(item))))
                    item, task = running.popleft()
                    result = await _settle(task, item, tally)
                    if result is not None:
                        await asyncio.to_thread(tally.show, item.entry.name, result, options)
                    for name, data in _files(result, item.entry, names):
                        file.write(await asyncio.to_thread(stream.add, name, data))
                    if time.perf_counter() - shown > EVERY:
                        shown = time.perf_counter()
                        yield report.bar(tally.finished / tally.total, _progress(tally, start))
                file.write(stream.end())
            yield self._end(target, tally, time.perf_counter() - start)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        finally:
            for _, task in running:
                task.cancel()

    def _end(self, target: Path, tally: Tally, seconds: float) -> str:
        """What is said at last, with the zip to fetch."""
        order = "The least certain results:" if tally.done > MOST_SHOWN else "Least certain first:"
        parts = [
            report.listed("Failed:", tally.failed),
            report.thumbnails(order, [figure for _, _, figure in tally.shown]),
        ]
        if tally.done:
            token = self.store.put(File("cutouts.zip", "application/zip", path=target))
            text = f"Download the zip ({report.size(target.stat().st_size)})"
            parts.insert(0, report.link(f"page/{token}/cutouts.zip", "cutouts.zip", text))
        else:
            target.unlink(missing_ok=True)
        summary = f"{tally.done} of {counted(tally.total, 'picture')} done in {seconds:.1f} s."
        if tally.empty:
            summary += f" No object found in {tally.empty}; under Picture, a box shows where it is."
        return report.done(summary, *parts)


def _unlike(items: list[Item]) -> list[Item]:
    """The same with different names: files of equal names may come from different folders."""
    seen: set[str] = set()
    renamed = []
    for item in items:
        entry, number = item.entry, 2
        while folded(entry.name) in seen and item.entry.path is not None:
            path = item.entry.path
            path = path.with_name(f"{path.stem}.{number}{path.suffix}")
            entry, number = replace(item.entry, name=str(path), path=path), number + 1
        seen.add(folded(entry.name))
        renamed.append(Item(entry, item.read))
    return renamed


def _files(result: Result | None, entry: Entry, names: Names) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what was made of a picture: nothing, one file, or one an object."""
    if result is None:
        return
    if result.data is not None:
        yield names.of(entry), result.data
    for part in result.objects or ():
        yield names.numbered(entry, part.number), part.data


async def _settle(task: asyncio.Task[Result], item: Item, tally: Tally) -> Result | None:
    """Wait for a picture and count it; None if it failed."""
    name = item.entry.name
    try:
        result = await task
    except Exception as error:
        failure = failure_of(error)
        if failure.code == "internal":
            log.error("%s of a batch failed", name, exc_info=error)
        tally.failed.append(f"{name}: {failure.message}")
        return None
    tally.done += 1
    tally.empty += result.is_empty
    return result


def _read(file: Path, limit: int) -> bytes:
    """Raises `ImageError` for a file that is larger than `limit` bytes."""
    if file.stat().st_size > limit:
        raise ImageError(f"it is larger than {limit / 2**20:g} MB, the limit")
    return file.read_bytes()


def _progress(tally: Tally, start: float) -> str:
    seconds = time.perf_counter() - start
    left = seconds / tally.finished * (tally.total - tally.finished) if tally.finished else 0
    failed = f", {len(tally.failed)} failed" if tally.failed else ""
    return f"{tally.finished} of {tally.total}{failed}, about {left:.0f} s left"
