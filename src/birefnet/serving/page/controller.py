"""What the tabs of the page share: uploaded files in, results for the browser out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from birefnet.errors import BiRefNetError
from birefnet.imaging.io import decode
from birefnet.options import Options
from birefnet.serving.page.form import FormState
from birefnet.serving.page.store import File, Store
from birefnet.serving.service import Service


@dataclass(eq=False)
class Controller:
    """A tab behind the scenes, one for all visitors.

    Args:
        service: does the work.
        store: keeps what visitors work on, and results, by tokens.
        uploads: gives the folder where uploaded files lie; nothing else is read from the disk.
    """

    service: Service
    store: Store
    uploads: Callable[[], Path]

    def uploaded(self, path: object) -> Path:
        """A file that a visitor uploaded.

        Raises:
            BiRefNetError: it lies elsewhere, or is not there (any more).
        """
        if isinstance(path, str) and "\0" not in path:
            file = Path(path).resolve()
            if file.is_relative_to(self.uploads().resolve()) and file.is_file():
                return file
        raise BiRefNetError("the file did not arrive; upload it again")

    def read_upload(self, path: object) -> bytes:
        """The bytes of an uploaded file, which is deleted.

        Raises:
            BiRefNetError: see `uploaded`; or it is too large.
        """
        file = self.uploaded(path)
        most = self.service.settings.max_bytes
        try:
            if file.stat().st_size > most:
                raise BiRefNetError(
                    f"the file is larger than {most / 2**20:g} MB; take a smaller one"
                )
            return file.read_bytes()
        finally:
            file.unlink(missing_ok=True)

    def url_of(self, file: File) -> str:
        """Keep a file for the browser; gives its address below the page's."""
        return f"page/{self.store.put(file)}/{quote(file.name)}"

    def finishing(self, background: str | None, form: FormState) -> Options:
        """In a thread: the panel's second part, with the background picture decoded."""
        kept = self.store.file(background) if background and form.kind == "picture" else None
        picture = decode(kept.data, limits=self.service.limits) if kept else None
        return form.finishing(picture)
