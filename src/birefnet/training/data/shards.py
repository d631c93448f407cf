"""WebDataset shards on disk, indexed for random access, so that order and resume are exact."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from birefnet.errors import ImageError, counted, needs_extra
from birefnet.imaging.formats import SUFFIXES
from birefnet.training.data.folders import DataError, Kind
from birefnet.training.data.hub import read_options
from birefnet.training.data.sources import Pixels, Source, read_as

_MASKS = ("mask", "gt", "alpha", "matte", "truth", "label", "seg")
_PICTURES = tuple(suffix[1:] for suffix in SUFFIXES)


@dataclass(frozen=True)
class Member:
    """Where a file lies in a shard [bytes]."""

    shard: int
    offset: int
    size: int


class ShardSource(Source):
    """`wds:shards/{000..009}.tar[?image=EXT&mask=EXT&cutout=EXT]`.

    A sample is what shares a name up to its first dot, as in WebDataset: `a.jpg` with `a.png` or
    `a.mask.png`. Only headers are read when it is opened; samples keep the order of the shards.

    Raises:
        DataError: no such shard, a compressed or remote one, or incomplete samples.
        MissingExtraError: a pattern with braces without the extra `data`.
    """

    def __init__(self, uri: str) -> None:
        self.name = uri
        pattern, _, query = uri.removeprefix("wds:").partition("?")
        options = read_options(query, uri, ("image", "mask", "cutout"))
        self._shards = _expand(pattern, uri)
        samples: dict[str, dict[str, Member]] = {}
        for number, shard in enumerate(self._shards):
            for key, extension, member in _index(shard, number):
                samples.setdefault(f"{number}/{key}", {})[extension] = member
        if not samples:
            raise DataError(f"{uri} holds no files; check the shards")
        first = next(iter(samples.values()))
        self._image, self._mask, kind = _choose(options, first, uri)
        self.kind: Kind = kind
        extensions = [extension for extension in (self._image, self._mask) if extension]
        self._samples = list(samples.items())
        lacking = [(key, e) for key, files in self._samples for e in extensions if e not in files]
        if lacking:
            key, extension = lacking[0]
            raise DataError(
                f"{uri} has {len(lacking)} of {counted(len(samples), 'sample')} not complete, the "
                f"first is {key.partition('/')[2]} in {self._shards[int(key.partition('/')[0])]}, "
                f"which lacks .{extension}; write the shards again"
            )

    def __len__(self) -> int:
        return len(self._samples)

    def name_of(self, index: int) -> str:
        return self._samples[index][0].partition("/")[2]

    def read(self, index: int) -> Pixels:
        _, files = self._samples[index]
        name = f"{self.name_of(index)} in {self._shards[files[self._image].shard]}"
        mask = None if self._mask is None else self._bytes(files[self._mask], name)
        return read_as(self.kind, self._bytes(files[self._image], name), mask, name=name)

    def _bytes(self, member: Member, name: str) -> bytes:
        # Opened for each read: file handles do not survive the start of workers.
        with open(self._shards[member.shard], "rb") as file:
            file.seek(member.offset)
            data = file.read(member.size)
        if len(data) < member.size:
            raise ImageError(f"{name} is cut short; copy the shard again")
        return data


def _expand(pattern: str, uri: str) -> list[Path]:
    if "://" in pattern or pattern.startswith("pipe:"):
        raise DataError(f"{uri} is not on this disk; download the shards first")
    texts = [pattern]
    if "{" in pattern:
        with needs_extra("data", "reading shards by a pattern with braces"):
            from braceexpand import braceexpand
        texts = list(braceexpand(pattern))
    shards = [Path(text).expanduser() for text in texts]
    for shard in shards:
        if not shard.is_file():
            raise DataError(f"there is no shard {shard}; check {uri}")
    return shards


def _index(shard: Path, number: int) -> list[tuple[str, str, Member]]:
    """Key, extension and position of every file of a shard."""
    found = []
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                folder, name = os.path.split(member.name)
                stem, dot, extension = name.partition(".")
                if not member.isfile() or not dot or not stem:
                    continue
                key = f"{folder}/{stem}" if folder else stem
                entry = Member(number, member.offset_data, member.size)
                found.append((key, extension.lower(), entry))
    except (tarfile.TarError, OSError) as failure:
        raise DataError(
            f"{shard} cannot be read as an uncompressed tar ({failure}); unpack compressed shards, "
            "which have no random access"
        ) from failure
    return found


def _choose(
    options: Mapping[str, str], files: Mapping[str, Member], uri: str
) -> tuple[str, str | None, Kind]:
    """Extensions of picture and mask, judged by the first sample."""
    there = ", ".join(f".{extension}" for extension in files)
    for extension in options.values():
        if extension not in files:
            raise DataError(f"the samples of {uri} have no .{extension}; they have {there}")
    if "cutout" in options:
        return options["cutout"], None, "cutouts"
    pictures = [e for e in files if e.rsplit(".", 1)[-1] in _PICTURES]
    masks = [e for e in pictures if e.split(".")[0] in _MASKS]
    images = [e for e in pictures if e not in masks]
    if not masks and len(images) == 2:  # a photo as JPEG and its mask as PNG
        images.sort(key=lambda e: SUFFIXES["." + e.rsplit(".", 1)[-1]] != "jpeg")
        masks = [images.pop()]
    image = options.get("image") or (images[0] if len(images) == 1 else None)
    mask = options.get("mask") or (masks[0] if len(masks) == 1 else None)
    if image is None or (mask is None and masks):
        raise DataError(
            f"the samples of {uri} have {there}; name the picture and its mask, as in "
            "?image=jpg&mask=png"
        )
    return image, mask, "pairs" if mask else "pictures"
