"""Find the files of a data set and pair them by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from birefnet.errors import BiRefNetError, UsageError
from birefnet.imaging.formats import is_picture

_LISTED = 10


@dataclass(frozen=True)
class Files:
    """The files that belong to one ground truth; ``prediction`` is None where it is missing."""

    name: str
    truth: Path
    prediction: Path | None
    image: Path | None = None
    trimap: Path | None = None


def list_names(names: list[str]) -> str:
    """The first ten names and how many more there are, for a message."""
    more = len(names) - _LISTED
    return ", ".join(names[:_LISTED]) + (f" and {more} more" if more > 0 else "")


def find_pictures(folder: Path) -> dict[str, Path]:
    """All pictures under a folder by their path in it without suffix, in order.

    Raises:
        BiRefNetError: if the folder is missing or has no picture, or two files have the same name.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder} is not a folder; give the folder with the pictures")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder)
        if (
            not is_picture(path)
            or path.is_dir()
            or any(part.startswith(".") for part in relative.parts)
        ):
            continue
        name = relative.with_suffix("").as_posix()
        if name in found:
            raise BiRefNetError(
                f"{found[name]} and {path} have the same name; keep one of them, "
                "because a ground truth has one prediction"
            )
        found[name] = path
    if not found:
        raise UsageError(f"{folder} has no pictures; give the folder that has them")
    return found


class _Finder:
    """Looks a name up by its path in the folder, else by its stem where that is unique."""

    def __init__(self, pictures: Mapping[str, Path]) -> None:
        self._pictures = pictures
        self._by_stem: dict[str, list[Path]] = {}
        for name, path in pictures.items():
            self._by_stem.setdefault(_stem(name), []).append(path)

    def find(self, name: str) -> Path | None:
        if name in self._pictures:
            return self._pictures[name]
        found = self._by_stem.get(_stem(name), [])
        if len(found) > 1:
            raise BiRefNetError(
                f"{found[0]} and {found[1]} both match the ground truth '{name}'; use the same "
                "subfolders, or keep one of them"
            )
        return found[0] if found else None


def _stem(name: str) -> str:
    return name.rsplit("/", 1)[-1]


def pair_files(
    prediction: Path, truth: Path, *, image: Path | None = None, trimap: Path | None = None
) -> tuple[list[Files], list[str]]:
    """Pair every ground truth with its prediction by path or stem, whatever the suffix.

    Returns:
        The files of each ground truth, in order, and the names of predictions that no ground truth
        asks for.

    Raises:
        BiRefNetError: for a missing or empty folder, or where two files fit.
    """
    truths, predictions = find_pictures(truth), find_pictures(prediction)
    stems = [_stem(name) for name in truths]
    finder = _Finder(predictions)
    images, trimaps = (_Finder(find_pictures(f) if f else {}) for f in (image, trimap))
    is_flat = len(set(stems)) == len(stems)
    pairs, used = [], set()
    for name, path in truths.items():
        # Where two ground truths share a stem, only the whole path tells which prediction is meant.
        found = finder.find(name) if is_flat else predictions.get(name)
        used.add(found)
        pairs.append(Files(name, path, found, images.find(name), trimaps.find(name)))
    extra = [name for name, path in predictions.items() if path not in used]
    return pairs, extra
