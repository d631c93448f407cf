"""Which pictures nano was never trained on: a tenth of each kind, by their names."""

from __future__ import annotations

import hashlib
from pathlib import Path

PICTURE_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
PARTS = 10


def photo_of(name: str) -> str:
    """The stem of the photo that a picture of this name was made from.

    Recoloured copies (`PHOTO.rf.HASH`) share the stem of their photo.
    """
    return Path(name).stem.split(".rf.")[0]


def is_held_out(name: str) -> bool:
    """Whether a picture of this name is in the validation split: a tenth, by a hash of its photo.

    It depends on the name alone. So pictures that are added later do not move others to another
    split, and all copies of one photo are in the same split.
    """
    digest = hashlib.sha1(photo_of(name).encode(), usedforsecurity=False).hexdigest()
    return int(digest, 16) % PARTS == 0


def pictures(folder: Path) -> list[Path]:
    """The picture files of a folder, sorted by name; none where there is no folder."""
    if not folder.is_dir():
        return []
    return sorted(p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)


def pairs(folder: Path) -> list[tuple[Path, Path]]:
    """Pictures of `folder/im` with the mask of the same stem in `folder/gt`, sorted by name.

    Raises:
        ValueError: a picture without a mask; the message names the first.
    """
    masks = {path.stem: path for path in pictures(folder / "gt")}
    found = []
    for path in pictures(folder / "im"):
        if path.stem not in masks:
            raise ValueError(f"{path} has no mask in {folder / 'gt'}; add {path.stem}.png there")
        found.append((path, masks[path.stem]))
    return found
