"""Hugging Face data sets with random access: from the Hub, its cache, or a folder saved to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from birefnet.errors import BiRefNetError, ImageError, needs_extra
from birefnet.imaging.io import Source as Encoded
from birefnet.training.data.folders import DataError
from birefnet.training.data.sources import Pixels, Source, read_as

_USUAL = {
    "image": ("image", "img", "im", "picture", "original", "input", "jpg", "png"),
    "mask": ("mask", "alpha", "matte", "gt", "label", "truth", "annotation", "groundtruth"),
    "name": ("name", "file_name", "filename", "id", "__key__"),
}
"""Usual names of columns."""


class HubSource(Source):
    """`hf:NAME_OR_FOLDER[:SPLIT][?image=COLUMN&mask=COLUMN&cutout=COLUMN&name=COLUMN]`.

    Rows are decoded by the same decoder as files. Without columns, the usual names are looked for;
    `cutout` names a column of RGBA pictures, and without a mask the pictures serve as backgrounds.

    Raises:
        DataError: no such data set, split or column.
        MissingExtraError: without the extra `data`.
    """

    def __init__(self, uri: str) -> None:
        self.name = uri
        target, _, query = uri.removeprefix("hf:").partition("?")
        options = read_options(query, uri, ("image", "mask", "cutout", "name", "config"))
        name, split = _split(target)
        rows = _load(name, split, options.get("config"), uri)
        columns = rows.column_names
        chosen = {key: _column(options, key, columns, uri) for key in ("image", "mask", "cutout")}
        if chosen["cutout"] is not None:
            chosen["image"], self.kind = chosen["cutout"], "cutouts"
        else:
            self.kind = "pairs" if chosen["mask"] else "pictures"
        if chosen["image"] is None:
            raise DataError(
                f"{uri} has the columns {', '.join(columns)}; name the pictures and masks as in "
                f"{uri.partition('?')[0]}?image={columns[0]}&mask={columns[-1]}"
            )
        self._image, self._mask = chosen["image"], chosen["mask"]
        label = _column(options, "name", columns, uri)
        self._names = [str(name) for name in rows[label]] if label else None
        self._rows = _undecoded(rows, [c for c in (self._image, self._mask) if c])

    def __len__(self) -> int:
        return len(self._rows)

    def name_of(self, index: int) -> str:
        return f"row {index}" if self._names is None else self._names[index]

    def read(self, index: int) -> Pixels:
        row = self._rows[index]
        name = f"row {index} of {self.name}"
        mask = _encoded(row[self._mask], name) if self.kind == "pairs" else None
        return read_as(self.kind, _encoded(row[self._image], name), mask, name=name)


def read_options(query: str, uri: str, allowed: tuple[str, ...]) -> dict[str, str]:
    """`image=a&mask=b` as a mapping; refuses keys that mean nothing."""
    options = dict(parse_qsl(query, keep_blank_values=True))
    unknown = sorted(set(options) - set(allowed))
    if unknown:
        raise DataError(f"{uri} asks for {unknown[0]!r}; known are {', '.join(allowed)}")
    return options


def _split(target: str) -> tuple[str, str | None]:
    """`NAME:SPLIT`; the colon of a Windows drive is none."""
    name, colon, split = target.rpartition(":")
    if not colon or len(name) < 2 or "/" in split or "\\" in split:
        return target, None
    return name, split


def _load(name: str, split: str | None, config: str | None, uri: str) -> Any:
    with needs_extra("data", "reading Hugging Face data sets"):
        import datasets
    folder = Path(name).expanduser()
    is_saved = (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file()
    try:
        rows = datasets.load_from_disk(str(folder)) if is_saved else None
        if rows is None:
            rows = datasets.load_dataset(name, config)
    except BiRefNetError:
        raise
    except Exception as failure:  # the library raises nearly every type there is
        reason = str(failure).strip().splitlines() or [type(failure).__name__]
        raise DataError(f"{uri} cannot be opened: {reason[0]}") from failure
    if isinstance(rows, datasets.DatasetDict):
        splits = list(rows)
        if split is None and len(splits) == 1:
            split = splits[0]
        if split not in rows:
            raise DataError(
                f"{uri} has the splits {', '.join(splits)}; name one, as in hf:{name}:{splits[0]}"
            )
        return rows[split]
    if split not in (None, "train"):
        raise DataError(f"{uri} is a single split; leave ':{split}' out")
    return rows


def _column(options: dict[str, str], key: str, columns: list[str], uri: str) -> str | None:
    chosen = options.get(key)
    if chosen is not None:
        if chosen not in columns:
            raise DataError(f"{uri} has no column {chosen!r}; it has {', '.join(columns)}")
        return chosen
    if key != "name" and (key == "cutout" or "cutout" in options):
        return None
    by_lower = {column.lower(): column for column in columns}
    return next((by_lower[name] for name in _USUAL[key] if name in by_lower), None)


def _undecoded(rows: Any, columns: list[str]) -> Any:
    """Leave pictures as encoded bytes, so that our own decoder reads them (EXIF, alpha)."""
    import datasets

    for column in columns:
        if isinstance(rows.features[column], datasets.Image):
            rows = rows.cast_column(column, datasets.Image(decode=False))
    return rows


def _encoded(value: Any, name: str) -> Encoded:
    """A cell as the decoder takes it."""
    if isinstance(value, dict):
        value = value.get("bytes") or value.get("path")
    if value is None or isinstance(value, (int, float)):
        raise ImageError(f"{name} holds no picture")
    if isinstance(value, list):
        raise ImageError(f"{name} holds a list of numbers; save it as a picture column")
    result: Encoded = value
    return result
