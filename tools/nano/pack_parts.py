"""Training pictures of nano in small files, with a size and quality for each kind.

    python -m tools.nano.pack_parts DATA PACK --parts 2

writes PACK.1.zip and PACK.2.zip of about equal size; what is held out stays at home.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.nano.split import is_held_out
from tools.nano.store import decode_all

# Longest side [px], quality of WebP, and how many at most.
SETTINGS = {
    "clothing": (576, 42, 900), "leaves": (384, 38, 300), "agreed": (300, 55, 2000),
    "animals": (300, 60, 500), "portraits": (640, 45, 200), "renders": (384, 55, 999),
    "emoji": (192, 50, 1100), "clipart": (256, 50, 1300), "logos": (224, 50, 400),
    "renders_simple": (288, 55, 400), "backgrounds": (640, 50, 200), "panoramas": (1024, 60, 20),
}  # fmt: skip
OTHERS = (448, 45, 999)
CUTOUTS = {"renders", "emoji", "clipart", "logos", "renders_simple"}
SOFT = {"agreed", "portraits"}  # soft maps of networks: sixteen levels are enough


def main() -> None:
    """Write the parts, say what they hold."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("pack", type=Path, help="of which PACK.1.zip … are made")
    parser.add_argument("--parts", type=int, default=1)
    options = parser.parse_args()
    names = [f"{options.pack}.{i + 1}.zip" for i in range(options.parts)]
    archives = [zipfile.ZipFile(name, "w", zipfile.ZIP_STORED) for name in names]
    sizes, counts = [0] * options.parts, Counter[str]()
    for kind, name, pixels in decode_all(options.data, 640):
        longest, quality, most = SETTINGS.get(kind, OTHERS)
        if is_held_out(name) or counts[kind] >= most:
            continue
        counts[kind] += 1
        data = encoded(kind, pixels, longest, quality)
        part = sizes.index(min(sizes))
        archives[part].writestr(f"{kind}/{name}.webp", data)
        sizes[part] += len(data)
    for archive in archives:
        archive.close()
    print(dict(counts), [f"{size / 2**20:.1f} MiB" for size in sizes])


def encoded(kind: str, pixels: NDArray[np.uint8], longest: int, quality: int) -> bytes:
    """WebP of a picture with its truth as alpha; colours outside the truth are the scene."""
    scale = longest / max(pixels.shape[:2])
    if scale < 1:
        pixels = cv2.resize(pixels, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    if kind in SOFT:
        pixels = pixels.copy()
        pixels[..., 3] = np.round(pixels[..., 3] / 17) * 17
    exact = pixels.shape[2] == 4 and kind not in CUTOUTS
    data = io.BytesIO()
    image = Image.fromarray(np.ascontiguousarray(pixels))
    image.save(data, "WEBP", quality=quality, method=5, exact=exact)
    return data.getvalue()


if __name__ == "__main__":
    main()
