"""The standard test sets: their folder names, sizes, and where they are published."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from birefnet.errors import UsageError
from birefnet.evaluation.columns import GROUPS

_IMAGE_FOLDERS = (
    "im",
    "image",
    "images",
    "img",
    "imgs",
    "original",
    "original_image",
    "blurred_image",
)
_TRUTH_FOLDERS = ("gt", "gts", "mask", "masks", "truth", "alpha")
_TRIMAP_FOLDERS = ("trimap", "trimaps")
_DEPTH = 3  # ROOT/TASK/PART/SET at most


@dataclass(frozen=True)
class TestSet:
    """A published test set.

    Attributes:
        name: as in the paper's tables and the official folders.
        pictures: how many it has.
        published_at: the web page of its authors.
        aliases: other folder names in use.
    """

    __test__ = False  # not a test for pytest

    name: str
    pictures: int
    published_at: str
    aliases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Suite:
    """Test sets that belong together, with the columns of their table.

    Attributes:
        mean_of: sets whose mean is another row, named ``mean_name``.
    """

    name: str
    columns: tuple[str, ...]
    sets: tuple[TestSet, ...]
    mean_of: tuple[str, ...] = ()
    mean_name: str = ""


@dataclass(frozen=True)
class LocalTestSet:
    """The folders of a test set on disk."""

    test_set: TestSet
    image: Path
    truth: Path
    trimap: Path | None


_DIS = "https://xuebinqin.github.io/dis/index.html"
_HRSOD = "https://github.com/yi94code/HRSOD"
_P3M = "https://github.com/JizhiziLi/P3M"

SUITES: dict[str, Suite] = {
    suite.name: suite
    for suite in (
        Suite(
            "dis5k",
            GROUPS["dis"],
            (
                TestSet("DIS-VD", 470, _DIS),
                TestSet("DIS-TE1", 500, _DIS),
                TestSet("DIS-TE2", 500, _DIS),
                TestSet("DIS-TE3", 500, _DIS),
                TestSet("DIS-TE4", 500, _DIS),
            ),
            mean_of=("DIS-TE1", "DIS-TE2", "DIS-TE3", "DIS-TE4"),
            mean_name="DIS-TE (1-4)",
        ),
        Suite(
            "hrsod",
            GROUPS["hrsod"],
            (
                TestSet("DAVIS-S", 92, _HRSOD, ("TE-DAVIS-S",)),
                TestSet("TE-HRSOD", 400, _HRSOD, ("HRSOD-TE",)),
                TestSet("TE-UHRSD", 988, "https://github.com/iCVTEAM/PGNet", ("UHRSD-TE",)),
                TestSet("TE-DUTS", 5019, "http://saliencydetection.net/duts/", ("DUTS-TE",)),
                TestSet("DUT-OMRON", 5168, "http://saliencydetection.net/dut-omron/"),
            ),
        ),
        Suite(
            "cod",
            GROUPS["cod"],
            (
                TestSet(
                    "TE-CAMO", 250, "https://sites.google.com/view/ltnghia/research/camo", ("CAMO",)
                ),
                TestSet("TE-COD10K", 2026, "https://github.com/DengPingFan/SINet", ("COD10K",)),
                TestSet(
                    "NC4K", 4121, "https://github.com/JingZhang617/COD-Rank-Localize-and-Segment"
                ),
                TestSet("CHAMELEON", 76, "https://github.com/DengPingFan/SINet", ("TE-CHAMELEON",)),
            ),
        ),
        Suite(
            "matting",
            GROUPS["portrait"],
            (
                TestSet("TE-P3M-500-P", 500, _P3M, ("P3M-500-P",)),
                TestSet("TE-P3M-500-NP", 500, _P3M, ("P3M-500-NP",)),
                TestSet("TE-AM-2k", 200, "https://github.com/JizhiziLi/GFM", ("AM-2k",)),
            ),
        ),
    )
}


def get_suite(name: str) -> Suite:
    """Look a suite up.

    Raises:
        BiRefNetError: for an unknown name; the message lists those that exist.
    """
    if name not in SUITES:
        raise UsageError(f"there is no suite '{name}'; take one of {', '.join(SUITES)}")
    return SUITES[name]


def find_test_set(test_set: TestSet, root: Path) -> LocalTestSet | None:
    """Find a test set in a folder by its name or an alias, in any letter case.

    Its folder has the pictures in ``im`` (or ``image``, ``original`` …) and the ground truth in
    ``gt`` (or ``mask``, ``alpha`` …), and trimaps in ``trimap`` where there are any.
    """
    names = {name.lower() for name in (test_set.name, *test_set.aliases)}
    for folder in _folders(root, _DEPTH):
        if folder.name.lower() not in names:
            continue
        inside = {path.name.lower(): path for path in sorted(folder.iterdir()) if path.is_dir()}
        image, truth = _first(inside, _IMAGE_FOLDERS), _first(inside, _TRUTH_FOLDERS)
        if image and truth:
            return LocalTestSet(test_set, image, truth, _first(inside, _TRIMAP_FOLDERS))
    return None


def _folders(root: Path, depth: int) -> Iterator[Path]:
    """The folder and those in it, the shallow ones first."""
    if not root.is_dir():
        raise UsageError(f"{root} is not a folder; give the folder that holds the test sets")
    level = [root]
    for _ in range(depth + 1):
        yield from level
        level = [path for folder in level for path in sorted(folder.iterdir()) if path.is_dir()]


def _first(folders: dict[str, Path], names: tuple[str, ...]) -> Path | None:
    return next((folders[name] for name in names if name in folders), None)
