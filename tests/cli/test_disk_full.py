"""A folder run on a disk that gets full: a sentence, exit status 1, and a whole manifest."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import pytest

from birefnet.cli.remove import worker
from birefnet.cli.remove.manifest import Manifest
from fakes import write_disc

COUNT = 12


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    for number in range(COUNT):
        write_disc(tmp_path / "shop" / f"{number:02}.png")
    return tmp_path / "shop"


def check(result: Any, manifest: Path) -> set[str]:
    """One sentence at the end, and a manifest of whole lines; the names of what is done."""
    assert result.status == 1
    assert "Traceback" not in result.stderr
    assert result.stderr.strip().splitlines()[-1].startswith("Error: ")
    assert "room" in result.stderr.strip().splitlines()[-1]
    entries = [json.loads(line) for line in manifest.read_text(encoding="utf-8").splitlines()]
    assert manifest.read_bytes().endswith(b"\n") or not entries
    assert len({entry["input"] for entry in entries}) == len(entries)
    return {Path(entry["input"]).name for entry in entries if entry["status"] == "done"}


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("fits", [0, 1, 5, COUNT - 1])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EFBIG])
def test_no_room_for_pictures(
    fits: int,
    number: int,
    command: Any,
    shop: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    write, left = worker.write, [fits]

    def filling(target: Any, data: bytes) -> None:
        if not left[0]:
            raise OSError(number, "No space left on device", str(target))
        left[0] -= 1
        write(target, data)

    with monkeypatch.context() as patch:
        patch.setattr(worker, "write", filling)
        result = command("remove", shop, "-o", tmp_path / "out")
    done = check(result, tmp_path / "out/manifest.jsonl")
    assert len(done) == fits
    again = command("remove", shop, "-o", tmp_path / "out")
    assert again.status == 0
    assert f"{COUNT - fits} picture" in again.stderr


@pytest.mark.usefixtures("bright")
@pytest.mark.parametrize("fits", [0, 100, 1_000, 1_500])
def test_no_room_for_the_manifest(
    fits: int, command: Any, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So many bytes of it fit; the line that does not is not there in part."""

    class Small:
        def __init__(self, file: Any) -> None:
            self._file = file

        def write(self, data: bytes) -> int:
            room = fits - self._file.tell()
            if room <= 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            return int(self._file.write(data[:room]))

        def __getattr__(self, name: str) -> Any:
            return getattr(self._file, name)

    begin = Manifest.__init__

    def small(self: Manifest, *arguments: Any, **options: Any) -> None:
        begin(self, *arguments, **options)
        self._file = Small(self._file)  # type: ignore[assignment]

    with monkeypatch.context() as patch:
        patch.setattr(Manifest, "__init__", small)
        result = command("remove", shop, "-o", tmp_path / "out")
    done = check(result, tmp_path / "out/manifest.jsonl")
    assert len(done) < COUNT
    assert command("remove", shop, "-o", tmp_path / "out").status == 0
