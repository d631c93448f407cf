"""All training pictures in one small file, to carry them to another machine.

`python -m tools.nano.pack DATA PACK.zip` shrinks and compresses what a `PictureStore` of
DATA would hold, soft truths included; `tools.nano.train` takes PACK.zip in place of DATA.
"""

from __future__ import annotations

import argparse
import io
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tools.nano.store import decode_all

Named = tuple[str, str, NDArray[np.uint8]]
"""Kind, file name, pixels: H x W x 4 (RGB and truth or alpha) or H x W x 3."""


def pack(root: Path, file: Path, *, longest: int = 288, quality: int = 50) -> int:
    """Write the pictures below `root` to `file`; returns how many.

    Args:
        root: a data root, see `PictureStore`.
        file: a zip of WebP pictures; truths are kept exactly, colours at `quality`.
        longest: side of photos and cut-outs [px].
        quality: of WebP, 1 to 100.
    """
    count = 0
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for kind, name, pixels in decode_all(root, longest):
            encoded = io.BytesIO()
            # exact: colours outside the truth are the scene, not to be thrown away.
            Image.fromarray(np.ascontiguousarray(pixels)).save(
                encoded, "WEBP", quality=quality, exact=pixels.shape[2] == 4, method=4
            )
            archive.writestr(f"{kind}/{name}.webp", encoded.getvalue())
            count += 1
    return count


def unpack(file: Path) -> Iterator[Named]:
    """The pictures of a pack, decoded, in their order.

    Raises:
        ValueError: the file is not a pack.
    """
    if not zipfile.is_zipfile(file):
        raise ValueError(f"{file} is no pack; write one with python -m tools.nano.pack")
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            kind, name = member.split("/", 1)
            with Image.open(io.BytesIO(archive.read(member))) as picture:
                yield kind, name.removesuffix(".webp"), np.asarray(picture)


def main(arguments: Sequence[str] | None = None) -> None:
    """Pack, say how much."""
    parser = argparse.ArgumentParser(prog="python -m tools.nano.pack")
    parser.add_argument("data", type=Path, help="photos/, cutouts/, backgrounds/, panoramas/")
    parser.add_argument("file", type=Path, help="to write, .zip")
    parser.add_argument("--longest", type=int, default=288, help="side of a picture [px]")
    parser.add_argument("--quality", type=int, default=50, help="of WebP, 1 to 100")
    options = parser.parse_args(arguments)
    count = pack(options.data, options.file, longest=options.longest, quality=options.quality)
    print(f"{count} pictures, {options.file.stat().st_size / 2**20:.1f} MiB in {options.file}")


if __name__ == "__main__":
    main()
