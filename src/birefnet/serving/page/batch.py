"""The tab for many pictures: files and zips in, one zip out."""

from __future__ import annotations

import asyncio
import contextlib
import time
from bisect import insort
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from birefnet.errors import BiRefNetError, ImageError, counted
from birefnet.files import folded
from birefnet.imaging.figure import Figure, figure
from birefnet.imaging.picture import to_uint8
from birefnet.serving.errors import Failure, reported
from birefnet.serving.page import report
from birefnet.serving.page.controller import Controller
from birefnet.serving.page.form import FORMATS, FormState, for_batch
from birefnet.serving.page.store import File
from birefnet.serving.service import checked_format
from birefnet.serving.zips import Entry, Names, Unzipped, ZipStream, results

if TYPE_CHECKING:
    from birefnet.options import Options
    from birefnet.serving.service import Result

ABREAST = 4  # pictures that are under way
EVERY = 0.25  # seconds between two reports
MOST_SHOWN = 60  # results on the page
THUMBNAIL = 240  # longer side [px]


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
        matte = result.matte
        certainty = -1.0 if matte.is_empty else matte.confidence
        if len(self.shown) == MOST_SHOWN and certainty >= self.shown[-1][0]:
            return
        pixels = to_uint8(options.render(matte))
        note = "no object found" if matte.is_empty else f"{certainty:.0%} sure"
        insort(self.shown, (certainty, self.done, figure(name, pixels, note=note, side=THUMBNAIL)))
        del self.shown[MOST_SHOWN:]


class Batch(Controller):
    """The tab for many pictures; results lie on the disk."""

    async def run(
        self, paths: list[str] | None, format: str, background: str | None, form: FormState
    ) -> AsyncIterator[str]:
        """All of them; yields what the page shows. Uploaded files are deleted at the end."""
        files: list[Path] = []
        try:
            if not paths:
                raise BiRefNetError("choose pictures or a zip first")
            files = [self.uploaded(path) for path in paths]
            options = await asyncio.to_thread(self._options, format, background, form)
            with contextlib.ExitStack() as opened:
                entries = await asyncio.to_thread(self._entries, files, opened)
                if not entries:
                    raise BiRefNetError("the chosen files contain no picture")
                work = self._work(entries, options, form.model)
                async with contextlib.aclosing(work):
                    async for shown in work:
                        yield shown
        except Exception as error:
            yield report.problem(reported(error, "a batch of the page").message)
        finally:
            for file in files:
                file.unlink(missing_ok=True)

    def _options(self, format: str, background: str | None, form: FormState) -> Options:
        options = for_batch(form.network({}), self.finishing(background, form), format)
        checked_format(options)
        return options

    def _entries(self, files: list[Path], opened: contextlib.ExitStack) -> list[Entry]:
        """In a thread: the pictures, those in zips one by one."""
        entries: list[Entry] = []
        for file in files:
            if file.suffix.lower() != ".zip":
                read = partial(_read, file, self.service.settings.max_bytes)
                entries.append(Entry(file.name, PurePosixPath(file.name), read))
                continue
            unzipped = Unzipped(opened.enter_context(file.open("rb")), self.service.settings)
            entries += [each for each in unzipped.entries if each.is_picture or not each.path]
        most = self.service.settings.max_entries
        if len(entries) > most:
            raise BiRefNetError(
                f"got {counted(len(entries), 'picture')}; {most:,} at a time are the most"
            )
        return _unlike(entries)

    async def _work(
        self, entries: list[Entry], options: Options, model: str | None
    ) -> AsyncGenerator[str, None]:
        start = shown = time.perf_counter()
        tally = Tally(len(entries))
        names = Names(entries, f".{FORMATS[options.format or 'png']}")
        target = self.store.new_path(".zip")
        yield report.bar(0, f"0 of {tally.total}")
        done = results(
            entries, self.service, options, model, abreast=ABREAST, keep=lambda result: result
        )
        try:
            stream = ZipStream()
            async with contextlib.aclosing(done):
                with target.open("wb") as file:
                    async for entry, result in done:
                        if isinstance(result, Failure):
                            tally.failed.append(f"{entry.name}: {result.message}")
                        else:
                            tally.done += 1
                            tally.empty += result.matte.is_empty
                            await asyncio.to_thread(tally.show, entry.name, result, options)
                            for name, data in _files(result, entry, names):
                                file.write(await asyncio.to_thread(stream.add, name, data))
                        if time.perf_counter() - shown > EVERY:
                            shown = time.perf_counter()
                            yield report.bar(tally.finished / tally.total, _progress(tally, start))
                    file.write(stream.end())
            yield self._end(target, tally, time.perf_counter() - start)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _end(self, target: Path, tally: Tally, seconds: float) -> str:
        """What is said at last, with the zip to fetch."""
        order = "The least certain results:" if tally.done > MOST_SHOWN else "Least certain first:"
        parts = [
            report.listed("Failed:", tally.failed),
            report.thumbnails(order, [figure for _, _, figure in tally.shown]),
        ]
        if tally.done:
            url = self.url_of(File("cutouts.zip", "application/zip", path=target))
            text = f"Download the zip ({report.size(target.stat().st_size)})"
            parts.insert(0, report.link(url, "cutouts.zip", text))
        else:
            target.unlink(missing_ok=True)
        summary = f"{tally.done} of {counted(tally.total, 'picture')} done in {seconds:.1f} s."
        if tally.empty:
            summary += f" No object found in {tally.empty}; under Picture, a box shows where it is."
        return report.done(summary, *parts)


def _unlike(entries: list[Entry]) -> list[Entry]:
    """The same with different names: files of equal names may come from different folders."""
    seen: set[str] = set()
    renamed = []
    for entry in entries:
        path, number = entry.path, 2
        while folded(entry.name) in seen and path is not None:
            other = path.with_name(f"{path.stem}.{number}{path.suffix}")
            entry, number = replace(entry, name=str(other), path=other), number + 1
        seen.add(folded(entry.name))
        renamed.append(entry)
    return renamed


def _files(result: Result, entry: Entry, names: Names) -> Iterator[tuple[str, bytes]]:
    """Names and contents of what was made of a picture: one file, or one an object."""
    if result.data is not None:
        yield names.of(entry), result.data
    for data, facts in result.objects or ():
        yield names.numbered(entry, facts["number"]), data


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
