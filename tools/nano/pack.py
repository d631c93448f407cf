"""Training pictures of nano in small files that can be carried to another machine.

    python -m tools.nano.pack SPLIT PACK --parts 2

writes PACK.1.zip and PACK.2.zip, of about equal size, with smaller copies of SPLIT/train; there,
`python -m zipfile -e PACK.1.zip SPLIT` unpacks each, and tools.nano.train trains on it.
"""

from __future__ import annotations

import argparse
import zipfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from birefnet.imaging.formats import is_picture
from birefnet.training.data.sources import shrink

# Longest side [px], quality of WebP, and how many files at most.
SETTINGS = {
    "clothing": (576, 42, 900), "leaves": (384, 38, 300), "agreed": (300, 55, 2000),
    "animals": (300, 60, 500), "portraits": (640, 45, 200), "renders": (384, 55, 999),
    "emoji": (192, 50, 1100), "clipart": (256, 50, 1300), "logos": (224, 50, 400),
    "renders_simple": (288, 55, 400), "backgrounds": (640, 50, 200), "panoramas": (1024, 60, 20),
}  # fmt: skip
OTHERS = (448, 45, 999)
SOFT = {"agreed", "portraits"}  # soft masks of networks: sixteen grey values are enough


def pack(split: Path, target: Path, parts: int = 1, longest: int | None = None) -> list[Path]:
    """Write the zips; their paths.

    Args:
        split: a folder that tools.nano.split wrote.
        target: the zips are called `TARGET.1.zip` and so on.
        parts: how many.
        longest: side of every picture [px], if not as in `SETTINGS`.
    """
    paths = [Path(f"{target}.{i + 1}.zip") for i in range(parts)]
    archives = [zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) for path in paths]
    sizes, counts = [0] * parts, Counter[Path]()
    for path in sorted(filter(is_picture, split.glob("train/**/*"))):
        is_mask, folder = path.parent.name == "gt", path.parent
        kind = folder.parent.name if folder.name in ("im", "gt") else folder.name
        side, quality, most = SETTINGS.get(kind, OTHERS)
        counts[folder] += 1
        if counts[folder] > most:
            continue
        how = cv2.IMREAD_GRAYSCALE if is_mask else cv2.IMREAD_COLOR  # turned as EXIF says
        if folder.parent.name == "cutouts":
            how = cv2.IMREAD_UNCHANGED
        read = cv2.imread(str(path), how)
        assert read is not None, path
        pixels = shrink(np.asarray(read, np.uint8), longest or side)
        if is_mask and kind in SOFT:
            pixels = np.asarray(np.round(pixels / 17) * 17, np.uint8)
        data = encoded(pixels, None if is_mask else quality)
        name = path.relative_to(split).with_suffix(".png" if is_mask else ".webp")
        part = sizes.index(min(sizes))
        archives[part].writestr(name.as_posix(), data)
        sizes[part] += len(data)
    for archive in archives:
        archive.close()
    return paths


def encoded(pixels: NDArray[np.uint8], quality: int | None) -> bytes:
    """WebP of that quality, or PNG without one."""
    if quality is None:
        return cv2.imencode(".png", pixels)[1].tobytes()
    return cv2.imencode(".webp", pixels, [cv2.IMWRITE_WEBP_QUALITY, quality])[1].tobytes()


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack, say how much."""
    parser = argparse.ArgumentParser(prog="python -m tools.nano.pack")
    parser.add_argument("split", type=Path, help="a folder that tools.nano.split wrote")
    parser.add_argument("pack", type=Path, help="of which PACK.1.zip … are made")
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--longest", type=int, help="side of every picture [px]")
    options = parser.parse_args(arguments)
    for path in pack(options.split, options.pack, options.parts, options.longest):
        print(f"{path}: {path.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    main()
