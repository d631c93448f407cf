"""Make a picture store of packs, on all cores: python -m tools.nano.unpack STORE PACK.1.zip …"""

from __future__ import annotations

import io
import sys
import zipfile
from multiprocessing import Pool
from pathlib import Path

import numpy as np
from PIL import Image

from tools.nano.pack import Named
from tools.nano.store import PictureStore


def decode(item: tuple[str, bytes]) -> Named:
    """One member of a pack."""
    kind, name = item[0].split("/", 1)
    with Image.open(io.BytesIO(item[1])) as picture:
        return kind, name.removesuffix(".webp"), np.asarray(picture)


if __name__ == "__main__":
    members: list[tuple[str, bytes]] = []
    for pack in sys.argv[2:]:
        with zipfile.ZipFile(pack) as archive:
            members += [(name, archive.read(name)) for name in archive.namelist()]
    members.sort(key=lambda member: member[0].split("/")[0])
    with Pool() as pool:
        pictures = pool.imap(decode, members, chunksize=16)
        PictureStore.write(pictures, Path(sys.argv[1]), origin=Path(sys.argv[2]))
