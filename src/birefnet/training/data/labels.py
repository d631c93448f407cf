"""Class labels from file names, for the auxiliary classification of the localisation module."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from birefnet.training.data.folders import DataError

NO_LABEL = -1
_FIELDS = 5  # category number, category, class number, class, picture


def class_of(name: str) -> str | None:
    """The class in a DIS5K file name.

    >>> class_of("1#Accessories#1#Bag#2339506821_83cf9f1d22_o"), class_of("cat") is None
    ('Bag', True)
    """
    fields = name.rsplit("/", 1)[-1].split("#")
    return fields[3] if len(fields) >= _FIELDS else None


class Classes:
    """Numbers the classes of file names.

    The number of a class is its position among all class names of the training set in alphabetical
    order (by code point). The complete training set of DIS5K has 219. A part of it numbers them
    otherwise, so a run that continues another's classifier gives the names as a file.

    Args:
        setting: `none`, `dis5k`, or a text file with the names, one a line.
        names: of all pictures.

    Raises:
        DataError: no name has a class, or the file cannot be read.
    """

    def __init__(self, setting: str, names: Iterable[str]) -> None:
        self.names: tuple[str, ...] = ()
        if setting == "dis5k":
            self.names = tuple(sorted({found for name in names if (found := class_of(name))}))
            if not self.names:
                raise DataError(
                    "classes is dis5k, but no file name is like 1#Accessories#1#Bag#23_o.jpg; set "
                    "data.classes=none"
                )
        elif setting != "none":
            try:
                lines = Path(setting).read_text(encoding="utf-8").splitlines()
            except OSError as failure:
                raise DataError(
                    f"classes is {setting!r}, which cannot be read ({failure.strerror}); give "
                    "none, dis5k or a text file of names"
                ) from None
            self.names = tuple(line.strip() for line in lines if line.strip())
        self._number = {name: number for number, name in enumerate(self.names)}

    def __len__(self) -> int:
        return len(self.names)

    def label(self, name: str) -> int:
        """The class number of a picture's name; -1 where it has none."""
        return self._number.get(class_of(name) or "", NO_LABEL)
