"""The tab for videos: one in, one without its background out."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from birefnet.errors import BiRefNetError, counted
from birefnet.imaging.values import parse_resolution
from birefnet.serving.errors import reported
from birefnet.serving.native.video import (
    VideoFields,
    VideoFiles,
    cut_out_video,
    files_of,
    keep_video,
    load_video,
)
from birefnet.serving.page import report
from birefnet.serving.page.controller import Controller
from birefnet.serving.page.form import LARGEST_SIDE, parse_picked
from birefnet.serving.page.store import File

if TYPE_CHECKING:
    from birefnet.serving.jobs import Job

KINDS = {
    "Transparent": "cutout",
    "Colour": "colour",
    "Blurred": "blur",
    "Mask": "mask",
    "Overlay": "overlay",
}
FORMATS = {
    "WebM (plays in browsers, transparent)": "webm",
    "MP4 (H.264, with a background)": "mp4",
    "MOV (ProRes 4444, for editing)": "mov",
    "GIF": "gif",
}
EVERY = 0.3  # seconds between two reports


class VideoController(Controller):
    """The tab for videos, which are jobs in the background."""

    async def run(
        self,
        path: str | None,
        kind: str,
        colour: str,
        format: str,
        quality: str,
        stabilise: bool,
        model: str | None,
        resolution: str,
    ) -> AsyncIterator[str]:
        """All of it; yields what the page shows. Whoever stops listening stops the work."""
        job: Job | None = None
        source: Path | None = None
        try:
            load_video()
            if not path:
                raise BiRefNetError("choose a video first")
            source = self.uploaded(path)
            fields = VideoFields.model_validate(
                {
                    "format": format,
                    "kind": kind,
                    "quality": quality,
                    "stabilise": stabilise,
                    "resolution": parse_resolution(resolution, largest=LARGEST_SIDE),
                }
            )
            background = parse_picked(colour) if kind == "colour" else None
            if format == "mp4" and kind == "cutout":
                raise BiRefNetError(
                    "MP4 cannot be transparent; choose a background, or another format"
                )
            name = self.service.pool.name_of(model)
            yield report.bar(None, "Reading the video")
            job = self.service.jobs.create("video")
            with source.open("rb") as file:
                kept = await asyncio.to_thread(keep_video, file, job.folder, self.service.settings)
            work = partial(cut_out_video, self.service, kept, name, background, fields)
            self.service.jobs.start(job, work)
            while not job.is_over:
                yield report.bar(job.progress, _progress(job))
                await asyncio.sleep(EVERY)
            made = files_of(job)
            yield self._end(made, await asyncio.to_thread(self._keep, made))
        except Exception as error:
            yield report.problem(reported(error, "a video of the page").message)
        finally:
            if job is not None:
                self.service.jobs.remove(job)
            if source is not None:
                source.unlink(missing_ok=True)

    def _keep(self, made: VideoFiles) -> File:
        """The video, out of the job's folder, which goes with the job."""
        path = self.store.new_path(made.video.suffix)
        shutil.move(made.video, path)
        return File(made.video.name, made.media_type, path=path)

    def _end(self, made: VideoFiles, file: File) -> str:
        """What is said at last, with the video to see and to fetch."""
        url, facts = self.url_of(file), made.facts
        summary = (
            f"{counted(facts['frames'], 'frame')}, {facts['duration']:.1f} s of {facts['width']} × "
            f"{facts['height']}, done in {facts['seconds']:.1f} s."
        )
        shown = ""
        if file.media_type in ("video/webm", "video/mp4"):
            shown = (
                f'<video class="report-video" src="{url}" controls loop muted playsinline '
                'aria-label="The video without its background"></video>'
            )
        elif file.media_type.startswith("image/"):
            shown = f'<img class="report-video" src="{url}" alt="The video without its background">'
        size = report.size(file.on_disk)
        link = report.link(url, file.name, f"Download {file.name} ({size})")
        return report.done(summary, shown, link, report.listed("Notes:", facts["notes"]))


def _progress(job: Job) -> str:
    if job.status == "queued":
        return "Waiting for its turn"
    detail: dict[str, object] = job.detail
    if not detail.get("frames"):
        return "Starting"
    total = f" of {detail['total']}" if detail.get("total") else ""
    left = f", about {detail['seconds_left']:.0f} s left" if detail.get("seconds_left") else ""
    return f"Frame {detail['frames']}{total}, {detail['frames_per_second']:.1f} a second{left}"
