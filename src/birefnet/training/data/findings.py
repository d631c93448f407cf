"""Judge the facts of a data set: what is wrong, in one sentence each, and its cure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Literal

from birefnet.training.data.alignment import misfits
from birefnet.training.data.folders import DataError, FileSet, find_set
from birefnet.training.data.inspection import Facts, MaskFacts, inspect, inspect_source
from birefnet.training.data.near_duplicates import duplicates_between, duplicates_within
from birefnet.training.data.opening import PREFIXES, open_source
from birefnet.training.data.sources import same_aspect

Task = Literal["segmentation", "matting"]
Progress = Callable[[int, int], None]

SMALLEST = 256  # shorter side that is worth training on [px]

_EMPTY, _FULL = 0.0005, 0.9995  # mean levels
_MOSTLY = 0.5  # border that belongs to the subject, of an inverted mask
_INVERTED_SET = 0.6  # share of such masks that makes a whole set inverted
_FEW = 5  # pairs below which a set as a whole is not judged
_PICTURE_LEVELS = 0.3  # share of the pixels between, of a mask that may be a picture
_STRAY_LEVEL = 0.005  # share of the pixels
_SMEARED = 0.0003  # share of the pixels
_HARD_EDGE = 0.0002  # share of the pixels between, of a matte without soft edges

_WORDS = ("picture", "mask", "file", "cutout")
_ONE = {word: word for word in _WORDS} | {"copy": "copy", "is": "is", "cutout": "cut-out"}
_MANY = {word: f"{word}s" for word in _WORDS} | {"copy": "copies", "is": "are"}
_MANY["cutout"] = "cut-outs"


@dataclass(frozen=True)
class Item:
    """One file with a problem.

    Attributes:
        set_name: of its set, as given.
        path: of the file that has it.
        detail: what exactly, if the sentence does not say.
        image, mask: what a contact sheet shows.
        other: the picture that it repeats.
    """

    set_name: str
    path: Path
    detail: str = ""
    image: Path | None = None
    mask: Path | None = None
    other: Path | None = None


@dataclass(frozen=True)
class Kind:
    """A kind of problem: its key, what is wrong with `{n}` files, and what to do about it."""

    key: str
    sentence: str
    cure: str


@dataclass(frozen=True)
class Finding:
    """A kind of problem, and the files that have it."""

    kind: Kind
    items: list[Item]

    def __str__(self) -> str:
        return f"{self.title}: {self.kind.cure}."

    @property
    def advice(self) -> str:
        """The cure as a sentence of its own."""
        return f"{self.kind.cure[0].upper()}{self.kind.cure[1:]}."

    @property
    def title(self) -> str:
        """The problem, and how many files have it."""
        count = len(self.items)
        forms = _ONE if count == 1 else _MANY
        return self.kind.sentence.format(n=f"{count:,}", **forms)


@dataclass
class SetReport:
    """A summary of a set: how many of what, how large, how much of it is subject.

    Attributes:
        sizes: smallest, median and largest shorter side [px].
        share: median share of a picture that is subject.
        soft: share of the masks with soft edges.
    """

    name: str
    kind: str
    count: int
    sizes: tuple[int, int, int] = (0, 0, 0)
    share: float = 0.0
    soft: float = 0.0


@dataclass
class CheckReport:
    """All findings, the gravest first, and what was looked at."""

    task: Task
    sets: list[SetReport] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_clean(self) -> bool:
        return not self.findings


KINDS = {
    kind.key: kind
    for kind in (
        Kind("no-truth", "{n} {picture} without a mask",
             "add a mask of the same name, or remove the picture"),
        Kind("no-picture", "{n} {mask} without a picture",
             "add a picture of the same name, or remove the mask"),
        Kind("name-clash", "{n} {file} with the name of another",
             "keep one of them: a mask belongs to one picture"),
        Kind("unreadable", "{n} {file} that cannot be read", "copy or export again"),
        Kind("exchanged", "{n} {mask} exchanged with the picture",
             "exchange the two files, or the folders"),
        Kind("colour-truth", "{n} {mask} in colour",
             "export grey masks, 0 for background and 255 for the subject"),
        Kind("turned", "{n} {mask} rotated against the picture, whose EXIF rotation was ignored",
             "rotate the mask like the displayed picture, or save the picture upright"),
        Kind("wrong-size", "{n} {mask} of another shape than the picture",
             "export at the size of the picture; the mask may belong to another picture"),
        Kind("inverted", "{n} {mask} that may be inverted: the border is subject, not the inside",
             "invert (255 minus the level), unless the subject really is a frame"),
        Kind("mirrored", "{n} {mask} mirrored against the picture",
             "mirror the mask, or draw it again"),
        Kind("swapped", "{n} {mask} off the edges of the picture, as if of another picture",
             "check if the mask belongs to another picture"),
        Kind("leak", "{n} {picture} also in the test set",
             "remove from one of the two; otherwise scores mean nothing"),
        Kind("near-leak", "{n} {picture} nearly equal to one of the test set",
             "check, and remove copies from one of the two"),
        Kind("duplicate", "{n} exact {copy} of another picture",
             "keep one of each; if the masks differ, the correct one"),
        Kind("near-duplicate", "{n} {picture} nearly equal to another",
             "keep one of each, and never split them between training and validation"),
        Kind("levels-0-1", "{n} {mask} with only the levels 0 and 1", "multiply by 255"),
        Kind("odd-levels", "{n} {mask} with areas of few grey levels, like trimaps and class maps",
             "export the subject as 255 and everything else as 0"),
        Kind("binary-matte", "{n} {mask} with hard edges, but mattes are needed",
             "use soft alpha mattes, or train for segmentation"),
        Kind("jpeg-truth", "{n} {mask} compressed as JPEG, which blurs the edges",
             "export PNG from the original"),
        Kind("empty", "{n} empty {mask}",
             "correct if there is no subject; otherwise draw the mask"),
        Kind("full", "{n} {mask} that {is} all subject",
             "remove or redraw: a mask without an edge teaches nothing"),
        Kind("no-alpha", "{n} {cutout} without a transparent pixel",
             "cut out ('birefnet remove'), or use as background"),
        Kind("alpha-picture", "{n} {picture} with an alpha channel, which training ignores",
             "flatten it, or use it as a cut-out"),
        Kind("small", "{n} small {picture}", "find larger originals; enlarged pictures teach blur"),
    )
}  # fmt: skip
"""All kinds of findings by key, the gravest first."""


def check(
    paths: Sequence[str],
    *,
    task: Task = "segmentation",
    against: Sequence[str] = (),
    smallest: int = SMALLEST,
    ignore: Iterable[str] = (),
    jobs: int = 1,
    progress: Progress | None = None,
) -> CheckReport:
    """Look at every picture of some sets once.

    Memory does not grow with the size of the pictures: of each, about 2 kB are kept.

    Args:
        paths: as for training, see `folders.find_set` and `opening.open_source`.
        task: `matting` expects soft mask.
        against: sets for testing, which must share no picture with `paths`.
        smallest: shorter side below which a picture is small [px]; of cut-outs, half of it.
        ignore: keys of findings that are no problem.
        jobs: processes; 0 takes one per core.
        progress: called with the number of pictures done and of all.

    Raises:
        DataError: a path that holds no pictures, or an unknown key to ignore.
    """
    ignored = set(ignore)
    unknown = sorted(ignored - set(KINDS))
    if unknown:
        raise DataError(f"there is no finding {unknown[0]!r}; there are {', '.join(KINDS)}")
    sets, tests = [_open(path) for path in paths], [_open(path) for path in against]
    total = sum(count for _, count, _ in (*sets, *tests))
    done = 0

    def facts_of(facts_by: Callable[[int], Iterator[Facts]]) -> list[Facts]:
        nonlocal done
        found = []
        for facts in facts_by(jobs):
            found.append(facts)
            done += 1
            if progress:
                progress(done, total)
        return found

    report = CheckReport(task)
    problems: dict[str, list[Item]] = {key: [] for key in KINDS}
    seen: list[tuple[FileSet, Facts]] = []
    for files, _, facts_by in sets:
        facts = facts_of(facts_by)
        report.sets.append(_describe(files, facts))
        for key, item in _judge_set(files, facts, task, smallest):
            problems[key].append(item)
        seen += [(files, each) for each in facts]
    held_out = [(files, each) for files, _, facts_by in tests for each in facts_of(facts_by)]
    hashes = [facts.hash for _, facts in seen]
    for pair in duplicates_within(hashes):
        key = "duplicate" if pair.is_exact else "near-duplicate"
        problems[key].append(_pair_item(seen[pair.second], seen[pair.first]))
    for pair in duplicates_between(hashes, [facts.hash for _, facts in held_out]):
        key = "leak" if pair.is_exact else "near-leak"
        problems[key].append(_pair_item(seen[pair.first], held_out[pair.second]))
    report.findings = [
        Finding(kind, problems[key])
        for key, kind in KINDS.items()
        if problems[key] and key not in ignored
    ]
    return report


def _open(path: str) -> tuple[FileSet, int, Callable[[int], Iterator[Facts]]]:
    """A set's files (of another store, only the names), its length, and its facts by `jobs`."""
    if path.startswith(PREFIXES):
        source = open_source(path)
        return FileSet(path, source.kind, []), len(source), partial(inspect_source, source)
    files = find_set(path)
    return files, len(files.entries), partial(inspect, files)


def _pair_item(one: tuple[FileSet, Facts], other: tuple[FileSet, Facts]) -> Item:
    (files, facts), (_, repeated) = one, other
    path = repeated.entry.image
    return Item(files.path, facts.entry.image, f"like {path}", facts.entry.image, None, path)


def _describe(files: FileSet, facts: Sequence[Facts]) -> SetReport:
    report = SetReport(files.path, files.kind, len(facts))
    sides = sorted(min(one.height, one.width) for one in facts if not one.error)
    if sides:
        report.sizes = (sides[0], sides[len(sides) // 2], sides[-1])
    masks = [one.mask for one in facts if one.mask is not None]
    if masks:
        report.share = statistics.median(mask.share for mask in masks)
        report.soft = sum(not _has_hard_edges(mask) for mask in masks) / len(masks)
    return report


def _judge_set(
    files: FileSet, facts: Sequence[Facts], task: Task, smallest: int
) -> Iterable[tuple[str, Item]]:
    """Key and item of every problem of a set, but for duplicates."""
    for path in files.without_mask:
        yield "no-truth", Item(files.path, path, "", path)
    for path in files.without_picture:
        yield "no-picture", Item(files.path, path, "", None, path)
    for one, other in files.clashes:
        yield "name-clash", Item(files.path, other, f"like {one.name}", other, None, one)
    framed = [f.mask.border > _MOSTLY for f in facts if f.mask and not _is_uniform(f.mask)]
    # What has no outline of its own, or is judged otherwise, cannot be compared.
    edges = [None if _is_exchanged(one) else one.edges for one in facts]
    for misfit in misfits(edges):
        entry = facts[misfit.index].entry
        where = entry.mask or entry.image
        if misfit.flip:
            detail = f"it fits when turned {misfit.flip}"
            yield "mirrored", Item(files.path, where, detail, entry.image, entry.mask)
            continue
        owner = None if misfit.other is None else facts[misfit.other].entry
        fitting = None if owner is None else owner.mask or owner.image
        detail = "" if fitting is None else f"{fitting} fits"
        yield "swapped", Item(files.path, where, detail, entry.image, entry.mask, fitting)
    whole_set = len(framed) >= _FEW and sum(framed) > _INVERTED_SET * len(framed)
    for fact in facts:
        for key, path, detail in _judge(fact, task, smallest, is_inverted_set=whole_set):
            entry = fact.entry
            yield key, Item(files.path, path, detail, entry.image, entry.mask)


def _judge(
    facts: Facts, task: Task, smallest: int, *, is_inverted_set: bool
) -> Iterable[tuple[str, Path, str]]:
    """Key, file and detail of every problem of one picture."""
    entry, mask = facts.entry, facts.mask
    if facts.error:
        yield "unreadable", entry.image, facts.error
        return
    if facts.kind == "cutouts" and not facts.has_alpha:
        yield "no-alpha", entry.image, ""
    if facts.kind == "pairs" and facts.has_alpha:
        yield "alpha-picture", entry.image, ""
    # Cut-outs fill a part of a picture only.
    if min(facts.height, facts.width) < (smallest / 2 if facts.kind == "cutouts" else smallest):
        yield "small", entry.image, f"{facts.width} x {facts.height}"
    where = entry.mask or entry.image
    if facts.mask_error:
        yield "unreadable", where, facts.mask_error
    if mask is None:
        return
    if _is_exchanged(facts):
        yield "exchanged", where, ""
        return
    for key, detail in _judge_mask(mask, task, is_inverted_set):
        # Glass in a cut-out may well have one grey level, an enlarged one wide soft edges.
        if facts.kind == "pairs" or key not in ("odd-levels", "jpeg-truth"):
            yield key, where, detail
    shape = (facts.height, facts.width)
    if not same_aspect(shape, (mask.height, mask.width)):
        is_turned = same_aspect(shape, (mask.width, mask.height))
        sizes = f"{mask.width} x {mask.height}, not {facts.width} x {facts.height}"
        yield "turned" if is_turned else "wrong-size", where, sizes


def _judge_mask(mask: MaskFacts, task: Task, is_inverted_set: bool) -> Iterable[tuple[str, str]]:
    if mask.is_colour:
        yield "colour-truth", ""
        return
    if mask.high == 1:
        yield "levels-0-1", ""
        return
    if mask.share <= _EMPTY:
        yield "empty", ""
        return
    if mask.share >= _FULL:
        yield "full", ""
        return
    if _is_framed(mask) or (is_inverted_set and mask.border > _MOSTLY):
        yield "inverted", f"{mask.border:.0%} of the border is subject"
    if mask.levels and mask.areas > _STRAY_LEVEL:
        yield "odd-levels", "levels " + ", ".join(map(str, mask.levels))
    # Wide soft edges of mattes end in such levels, too.
    elif mask.smeared > _SMEARED and (mask.is_jpeg or task == "segmentation"):
        yield "jpeg-truth", "" if mask.is_jpeg else "saved otherwise since, but the smear is there"
    if task == "matting" and _has_hard_edges(mask):
        yield "binary-matte", ""


def _is_exchanged(facts: Facts) -> bool:
    """The picture has nothing but black and white, and the mask many colours or levels."""
    mask = facts.mask
    is_picture = mask is not None and (mask.is_colour or mask.between > _PICTURE_LEVELS)
    return facts.kind == "pairs" and facts.is_mask and is_picture


def _is_uniform(mask: MaskFacts) -> bool:
    return mask.share <= _EMPTY or mask.share >= _FULL or mask.high <= 1


def _is_framed(mask: MaskFacts) -> bool:
    """Nearly all of the border is subject, and what is not subject lies inside."""
    return mask.border > 0.9 and mask.share < mask.border - 0.05


def _has_hard_edges(mask: MaskFacts) -> bool:
    return not _is_uniform(mask) and mask.between < _HARD_EDGE


__all__ = ["KINDS", "CheckReport", "Finding", "Item", "Kind", "SetReport", "Task", "check"]
