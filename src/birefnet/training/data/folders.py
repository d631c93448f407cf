"""Find the pictures of a data set in its folders and pair them with their mask by name.

Nothing is decoded here but the header of a few files where names alone do not tell what a folder
holds.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from birefnet.errors import BiRefNetError, ImageError, UsageError, counted
from birefnet.imaging.formats import SUFFIXES, is_picture

Kind = Literal["pairs", "cutouts", "pictures"]

# fmt: off
IMAGE_FOLDERS = frozenset((
    "im", "ims", "img", "imgs", "image", "images", "input", "inputs", "rgb", "original",
    "originals", "photo", "photos", "picture", "pictures", "jpegimages",
))
MASK_FOLDERS = frozenset((
    "gt", "gts", "mask", "masks", "alpha", "alphas", "matte", "mattes", "truth", "truths",
    "groundtruth", "label", "labels", "annotation", "annotations", "segmentation", "segmentations",
))
# fmt: on
_MASK_ENDINGS = re.compile(r"[-_. ](mask|gt|alpha|matte|label|segmentation)$", re.IGNORECASE)
_PROBED = 8  # files of a folder that are opened to see whether they have an alpha channel


class DataError(BiRefNetError):
    """Training data that is missing, does not fit together or cannot be read."""


class MissingDataError(DataError, UsageError):
    """A path at which there is no training data."""


@dataclass(frozen=True)
class Entry:
    """One picture of a set; `mask` is the file of its mask, or None for cut-outs and pictures."""

    name: str
    image: Path
    mask: Path | None = None


@dataclass
class FileSet:
    """The files of one set.

    Attributes:
        path: as it was given.
        kind: `pairs` have a mask each, `cutouts` carry it as alpha, `pictures` have none.
        entries: in order of their names.
        expected: where the masks were looked for.
        without_mask: pictures that have none.
        without_picture: masks that have no picture.
        clashes: files that share their name with another, which one of them must give up.
    """

    path: str
    kind: Kind
    entries: list[Entry]
    expected: Path | None = None
    without_mask: list[Path] = field(default_factory=list)
    without_picture: list[Path] = field(default_factory=list)
    clashes: list[tuple[Path, Path]] = field(default_factory=list)

    def require_complete(self) -> None:
        """Refuse a set that cannot be trained on as it is.

        Raises:
            DataError: names the first picture that lacks its mask and counts the others.
        """
        if self.clashes:
            one, other = self.clashes[0]
            raise DataError(
                f"{one} and {other.name} have the same name{_more(len(self.clashes) - 1)}; keep "
                "one of them, for a mask belongs to one picture"
            )
        if self.without_mask:
            first = self.without_mask[0]
            raise DataError(
                f"{self.path} has {len(self.without_mask)} of "
                f"{counted(len(self.entries) + len(self.without_mask), 'picture')} without a "
                "mask, the "
                f"first is {first}; add "
                f"{first.stem}.png to {self.expected} or remove the picture ('birefnet data check' "
                "lists them all)"
            )
        if not self.entries:
            raise MissingDataError(f"{self.path} holds no pictures; check the path")


def find_set(text: str) -> FileSet:
    """The files behind a path: a folder of folders, `IMAGES::MASKS`, or a folder of pictures.

    Args:
        text: a folder that holds one folder of images and one of masks by their usual names, or
            the first of those two; two folders joined by `::`; a folder with `a.jpg` and `a.png`
            (or `a_mask.png`) side by side; a folder of cut-outs, or of plain pictures.

    Raises:
        DataError: no such folder, no pictures, or more than one way to read it.
    """
    images, separator, masks = text.partition("::")
    if separator:
        return _pair(text, _folder(images), _folder(masks))
    folder = _folder(text)
    found = _by_role(folder)
    if found is None and _role(folder.name) == "images":
        beside = _by_role(folder.resolve().parent, images=folder.resolve())
        found = (folder, beside[1]) if beside else None
    if found is not None:
        return _pair(text, *found)
    return _single(text, folder)


def _folder(text: str) -> Path:
    folder = Path(text).expanduser()
    if not folder.exists():
        raise MissingDataError(f"there is no folder {text!r}; check the path")
    if not folder.is_dir():
        raise MissingDataError(f"{text} is a file; give the folder that holds the pictures")
    return folder


def _role(name: str) -> Literal["images", "masks"] | None:
    """The role of a folder, by its whole name or its last word (`DUTS-TR-Mask`)."""
    lower = name.lower()
    words = {lower, re.split(r"[-_. ]+", lower)[-1]}
    if words & MASK_FOLDERS:
        return "masks"
    return "images" if words & IMAGE_FOLDERS else None


def _by_role(folder: Path, *, images: Path | None = None) -> tuple[Path, Path] | None:
    """The folders of images and of masks in `folder`, where there is one of each."""
    roles: dict[str, list[Path]] = {"images": [], "masks": []}
    for child in sorted(folder.iterdir()):
        role = _role(child.name)
        if role is not None and child.is_dir() and not child.name.startswith("."):
            roles[role].append(child)
    if images is not None:
        roles["images"] = [images]
    # `im` and `gt` themselves go before longer names that merely end so.
    for key, names in (("images", IMAGE_FOLDERS), ("masks", MASK_FOLDERS)):
        exact = [path for path in roles[key] if path.name.lower() in names]
        roles[key] = exact if len(exact) == 1 else roles[key]
    if not roles["images"] or not roles["masks"]:
        return None
    for key, paths in roles.items():
        if len(paths) > 1:
            names_there = ", ".join(path.name for path in paths)
            raise DataError(
                f"{folder} has several folders of {key} ({names_there}); give the two to use as "
                f"{folder / 'IMAGES'}::{folder / 'MASKS'}"
            )
    return roles["images"][0], roles["masks"][0]


def _pair(text: str, images: Path, masks: Path) -> FileSet:
    clashes: list[tuple[Path, Path]] = []
    image_of, mask_of = _index(images, clashes), _index(masks, clashes)
    entries, lacking = [], []
    lookup = _Lookup(mask_of)
    for name, image in image_of.items():
        mask = lookup.find(name)
        if mask is None:
            lacking.append(image)
        else:
            entries.append(Entry(name, image, mask))
    used = {entry.mask for entry in entries}
    unused = [path for path in mask_of.values() if path not in used]
    return FileSet(text, "pairs", entries, masks, lacking, unused, clashes)


class _Lookup:
    """Finds a mask by the picture's path in its folder, else by its stem where that is unique.

    Case does not matter, and an ending such as `_mask` may follow.
    """

    def __init__(self, masks: Mapping[str, Path]) -> None:
        self._by_path = {name.casefold(): path for name, path in masks.items()}
        self._by_stem: dict[str, list[Path]] = {}
        for name, path in masks.items():
            bare = _MASK_ENDINGS.sub("", name)
            self._by_path.setdefault(bare.casefold(), path)
            for stem in {_last(name), _last(bare)}:
                self._by_stem.setdefault(stem, []).append(path)

    def find(self, name: str) -> Path | None:
        found = self._by_path.get(name.casefold())
        if found is not None:
            return found
        candidates = self._by_stem.get(_last(name), [])
        return candidates[0] if len(candidates) == 1 else None


def _last(name: str) -> str:
    return name.rsplit("/", 1)[-1].casefold()


def _index(folder: Path, clashes: list[tuple[Path, Path]]) -> dict[str, Path]:
    """Pictures below `folder` by their path in it without suffix, in order."""
    found: dict[str, Path] = {}
    for path in walk(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in found:
            clashes.append((found[name], path))
        else:
            found[name] = path
    return found


def walk(folder: Path) -> list[Path]:
    """All pictures below a folder, hidden ones left out, in an order that no system changes."""
    found = []
    for root, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(root)
        found += [here / name for name in files if is_picture(name) and not name.startswith(".")]
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _single(text: str, folder: Path) -> FileSet:
    """A folder that is not divided: masks beside pictures, cut-outs, or plain pictures."""
    files = walk(folder)
    if not files:
        raise MissingDataError(
            f"{text} holds no pictures ({_listing(folder)}); expected folders im and gt in it, or "
            "pictures with alpha"
        )
    sets = sorted(p.name for p in folder.iterdir() if p.is_dir() and _holds_pairs(p))
    if sets:
        raise MissingDataError(
            f"{text} holds the sets {', '.join(sets)}; name those to use, such as "
            f"{Path(text) / sets[0]}"
        )
    beside = _beside(text, folder, files)
    if beside is not None:
        return beside
    step = max(1, len(files) // _PROBED)
    kind: Kind = "cutouts" if any(has_alpha(path) for path in files[::step]) else "pictures"
    entries = [Entry(p.relative_to(folder).with_suffix("").as_posix(), p) for p in files]
    return FileSet(text, kind, entries)


def _holds_pairs(folder: Path) -> bool:
    try:
        return _by_role(folder) is not None
    except DataError:
        return True


def _beside(text: str, folder: Path, files: Iterable[Path]) -> FileSet | None:
    """Pictures and masks in one folder: `a.jpg` and `a.png`, or `a.jpg` and `a_mask.png`."""
    images: dict[str, Path] = {}
    masks: dict[str, Path] = {}
    for path in files:
        name = path.relative_to(folder).with_suffix("").as_posix()
        bare = _MASK_ENDINGS.sub("", name)
        if bare != name:
            masks[bare] = path
        elif name in images:
            first, second = sorted(
                (images[name], path), key=lambda p: SUFFIXES[p.suffix.lower()] != "jpeg"
            )
            images[name], masks[name] = first, second
        else:
            images[name] = path
    shared = [name for name in images if name in masks]
    if not shared:
        return None
    entries = [Entry(name, images[name], masks[name]) for name in shared]
    lacking = [path for name, path in images.items() if name not in masks]
    unused = [path for name, path in masks.items() if name not in images]
    return FileSet(text, "pairs", entries, folder, lacking, unused)


def has_alpha(path: Path) -> bool:
    """Whether some pixel of a picture is not opaque; False too where it cannot be read."""
    from birefnet.imaging.io import decode

    try:
        return decode(path, convert_to_srgb=False).alpha is not None
    except ImageError:
        return False


def _listing(folder: Path) -> str:
    names = sorted(path.name for path in folder.iterdir())
    return f"it has {', '.join(names[:5])}{_more(len(names) - 5)}" if names else "it is empty"


def _more(count: int) -> str:
    return f" and {count} more" if count > 0 else ""
