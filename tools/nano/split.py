"""Split the pictures into those that nano is trained on and those that it is measured with.

    python -m tools.nano.split DATA SPLIT

DATA holds photos/KIND/{im,gt}, cutouts/KIND (RGBA), backgrounds and panoramas. SPLIT gets links to
its files: `train` and `validation`, of the same layout, and `train/scenes`, some pictures of people
and cats whose place in a street or a room serves as a background. `composed/NAME/{im,gt}` are
composites of the validation part, with exact masks.
"""

from __future__ import annotations

import argparse
import hashlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np

from birefnet.imaging.formats import is_picture
from birefnet.training.data.dataset import build_dataset
from birefnet.training.data.settings import AugmentSettings, CompositeSettings, DataSettings

PARTS = 10
SCENES_OF = ("clothing", "cats")
EVERY = 8  # of their pictures, one is a scene
COMPOSED = {
    "renders": (("renders",), 0.0, 11),
    "drawings": (("emoji", "clipart"), 0.0, 15),
    "crowded": (("renders",), 1.0, 14),
    "thin": (("thin:500",), 0.0, 12),
    "empty": (("renders",), 0.0, 13),
}
"""Name → kinds of cut-outs, chance of distractors, seed."""
COUNT = 40  # of each
SIDE = 384  # px


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
    return sorted(filter(is_picture, folder.iterdir()))


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


def files(data: Path) -> Iterator[tuple[Path, str]]:
    """All files of a data root, with the name of the picture that decides the split."""
    for folder in sorted(p for p in data.glob("photos/*") if p.is_dir()):
        for image, mask in pairs(folder):
            yield image, image.name
            yield mask, image.name
    for folder in (*sorted(data.glob("cutouts/*")), data / "backgrounds", data / "panoramas"):
        for path in pictures(folder):
            yield path, path.name


def split(data: Path, target: Path) -> dict[str, int]:
    """Link every file of `data` into `target`; how many there are in each part.

    Raises:
        ValueError: there are no pictures.
    """
    counts = {"train": 0, "validation": 0}
    for path, name in files(data):
        part = "validation" if is_held_out(name) else "train"
        link(path, target / part / path.relative_to(data))
        counts[part] += 1
    if not counts["train"]:
        raise ValueError(
            f"{data} holds no pictures; expected photos/KIND/im and gt, cutouts/KIND, backgrounds "
            "or panoramas in it"
        )
    for kind in SCENES_OF:
        for pair in pairs(target / "train" / "photos" / kind)[::EVERY]:
            for path in pair:
                link(path, target / "train" / "scenes" / path.parent.name / path.name)
    return counts


def link(path: Path, target: Path) -> None:
    """A link to a file, in place of what was there."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    os.symlink(path.resolve(), target)


def backgrounds(part: Path) -> tuple[str, ...]:
    """The backgrounds of `train` or `validation`, as `DataSettings.backgrounds`."""
    prefixes = {"backgrounds": "", "panoramas": "panorama:", "scenes": "subjects-removed:"}
    return tuple(f"{p}{part / name}" for name, p in prefixes.items() if (part / name).is_dir())


def compose(target: Path) -> None:
    """Write the composites of the validation part to `target/composed`, as PNG."""
    part = target / "validation"
    for name, (kinds, distractors, seed) in COMPOSED.items():
        cutouts = [k if ":" in k else str(part / "cutouts" / k) for k in kinds]
        found = [c for c in cutouts if ":" in c or Path(c).is_dir()]
        if not found or not backgrounds(part):
            continue
        settings = DataSettings(
            tuple(found), backgrounds(part), width=SIDE, height=SIDE, longest=1024,
            augment=AugmentSettings(colour=0.5),
            composite=CompositeSettings(
                distractors=distractors, distractor_count=4, signs=0.25, cut_off=0.3,
                empty=0.9 if name == "empty" else 0.0,
            ),
        )  # fmt: skip
        data = build_dataset(settings, seed=seed)
        for folder in ("im", "gt"):
            (target / "composed" / name / folder).mkdir(parents=True, exist_ok=True)
        number = written = 0
        while written < COUNT:
            sample = data[number]
            number += 1
            if (sample.name == "empty") != (name == "empty"):
                continue
            rgb = np.ascontiguousarray(sample.image.numpy().transpose(1, 2, 0)[..., ::-1])
            file = f"{written:03d}.png"
            cv2.imwrite(str(target / "composed" / name / "im" / file), rgb)
            cv2.imwrite(str(target / "composed" / name / "gt" / file), sample.mask[0].numpy())
            written += 1


def main(arguments: Sequence[str] | None = None) -> None:
    """Split, compose, say how many."""
    parser = argparse.ArgumentParser(prog="python -m tools.nano.split")
    parser.add_argument("data", type=Path, help="photos/, cutouts/, backgrounds/, panoramas/")
    parser.add_argument("split", type=Path, help="folder to write")
    options = parser.parse_args(arguments)
    counts = split(options.data, options.split)
    compose(options.split)
    print(f"{counts['train']} files to train on, {counts['validation']} for validation")


if __name__ == "__main__":
    main()
