"""Golden pictures: what `birefnet remove` makes of the examples, and samples of training data.

The network of `remove` is a fixed one, `BrightEngine`, so that only this package's own work shows;
the bundled weights have one picture of their own. `tests/test_golden.py` holds pictures against
`tests/reference`, and `python tests/test_public_names.py KIND` writes these anew. For each kind
there is a text with a line for each picture, its checksum in it, and a sheet of all of them, small
and lossy, to look at.

Checksums are the same where the versions and the processor are those that the text begins with;
elsewhere sizes and mean levels are compared.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shlex
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
import PIL
from numpy.typing import NDArray
from PIL import Image

from birefnet.inference.predictor import Predictor
from birefnet.presets import PRESETS
from fakes import PLAIN, BrightEngine

ROOT = Path(__file__).parents[1]
REFERENCE = ROOT / "tests/reference"
NAMES = ("astronaut", "chelsea", "coffee", "leaf", "rocket", "table")
CELL, COLUMNS = 80, 12  # of the sheets
NEAR = 1.5  # levels by which means may differ where checksums may

ARRAY = NDArray[Any]


@dataclass(frozen=True)
class Golden:
    """One picture: what made it, its name, and its pixels (H x W, or H x W x C; frames below each
    other)."""

    title: str
    name: str
    pixels: ARRAY

    @property
    def key(self) -> str:
        return f"{self.title} | {self.name}"

    @property
    def line(self) -> str:
        pixels = np.ascontiguousarray(self.pixels)
        checksum = hashlib.sha256(pixels.tobytes()).hexdigest()[:20]
        channels = pixels.reshape(-1, pixels.shape[2] if pixels.ndim == 3 else 1)
        means = " ".join(f"{mean:.2f}" for mean in channels.mean(axis=0, dtype=np.float64))
        size = "x".join(map(str, pixels.shape))
        return f"{self.key} | {size} {pixels.dtype} | {means} | {checksum}"

    @property
    def cell(self) -> ARRAY:
        """A thumbnail for the sheet; what is transparent shows grey."""
        pixels = self.pixels
        if pixels.dtype == np.uint16:
            pixels = (pixels >> 8).astype(np.uint8)
        image = Image.fromarray(np.ascontiguousarray(pixels))
        ground = Image.new("RGBA", image.size, (128, 128, 128, 255))
        shown = Image.alpha_composite(ground, image.convert("RGBA")).convert("RGB")
        shown.thumbnail((CELL - 2, CELL - 2))
        cell = Image.new("RGB", (CELL, CELL))
        cell.paste(shown)
        return np.asarray(cell)


def conditions() -> str:
    """What checksums depend on, beside this package."""
    known = cv2.getCPUFeaturesLine().replace("*", "").split()  # those that are not there end in ?
    processor = " ".join([platform.machine(), *[n for n in known if not n.endswith("?")][-1:]])
    versions = f"numpy {np.__version__}, opencv {cv2.__version__}, pillow {PIL.__version__}"
    return f"# {versions}, pymatting {_version_of('pymatting')}, {processor}"


def _version_of(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "none"


def write(kind: str) -> None:
    """Write the text and the sheet of a kind anew."""
    if kind == "nano_alpha":
        Image.fromarray(nano_alpha()).save(REFERENCE / "nano_alpha.png", optimize=True)
        return
    made = [golden for title in KINDS[kind][0] for golden in KINDS[kind][1](title)]
    lines = [conditions(), *(golden.line for golden in made)]
    (REFERENCE / f"{kind}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    rows = -(-len(made) // COLUMNS)
    sheet = np.zeros((rows * CELL, COLUMNS * CELL, 3), np.uint8)
    for index, golden in enumerate(made):
        _cell(sheet, index)[:] = golden.cell
    Image.fromarray(sheet).save(REFERENCE / f"{kind}.webp", quality=75, method=6)


def _cell(sheet: ARRAY, index: int) -> ARRAY:
    top, left = (CELL * place for place in divmod(index, COLUMNS))
    return sheet[top : top + CELL, left : left + CELL]


@cache
def _reference(kind: str) -> tuple[str, dict[str, tuple[int, str]]]:
    """What the text begins with; and by key the number of each picture and its line."""
    head, *lines = (REFERENCE / f"{kind}.txt").read_text(encoding="utf-8").splitlines()
    return head, {line.rsplit(" | ", 3)[0]: (i, line) for i, line in enumerate(lines)}


def differences(kind: str, title: str, made: Sequence[Golden], folder: Path) -> list[str]:
    """What is otherwise than in the reference, in sentences.

    Args:
        folder: where each picture that differs is written, whole, and as a thumbnail beside the
            expected one.
    """
    head, expected = _reference(kind)
    found = []
    own = {key for key in expected if key.rsplit(" | ", 1)[0] == title}
    found += [f"{key} is no longer made" for key in sorted(own - {golden.key for golden in made})]
    for golden in made:
        if golden.key not in expected:
            found.append(f"{golden.key} is new")
            continue
        number, line = expected[golden.key]
        if golden.line == line or (head != conditions() and _is_near(golden.line, line)):
            continue
        with Image.open(REFERENCE / f"{kind}.webp") as sheet:
            before = _cell(np.asarray(sheet.convert("RGB")), number)
        stem = folder / f"{number:03}"
        Image.fromarray(np.hstack([before, golden.cell])).save(f"{stem} before and now.png")
        cv2.imwrite(f"{stem} now.png", _bgr(golden.pixels))
        found.append(f"- {line}\n+ {golden.line}\n  {stem} before and now.png")
    return found


def _is_near(line: str, other: str) -> bool:
    parts = [text.rsplit(" | ", 3) for text in (line, other)]
    means = [np.array(part[2].split(), float) for part in parts]
    wide = 257 if "uint16" in line else 1
    is_same_kind = parts[0][:2] == parts[1][:2]
    return is_same_kind and bool(np.abs(means[0] - means[1]).max() <= NEAR * wide)


def _bgr(pixels: ARRAY) -> ARRAY:
    """As OpenCV orders channels, and back."""
    if pixels.ndim == 2:
        return pixels
    return np.ascontiguousarray(pixels[..., [2, 1, 0, 3][: pixels.shape[2]]])


# birefnet remove


VIEWS = replace(PLAIN, views=((96, 96, True), (64, 64, False)))
TWO = "astronaut.png,chelsea.png"
KINDS_OF_FILES = "deep.png,grey.png,clear.png,rotated.jpg,wide.png,moving.gif,pages.tif"

REMOVED = (
    *(f"--type {kind}" for kind in ("cutout", "mask", "trimap", "foreground", "overlay")),
    *(f"--type {kind}" for kind in ("green", "white", "blur")),
    "--type colour --background tomato",
    "--background '#33669980'",
    "--background SCENE",
    "--resolution 96x64",
    "--resolution native",
    "--batch-size 3",
    "--model views",
    "--format webp --quality 60",
    "--format jpeg --background white --quality 60",
    "--format tiff",
    f"--format avif of {TWO}",
    f"--format gif of {TWO}",
    "--threshold 0.5",
    "--mask-blur 3",
    "--mask-offset 2",
    "--mask-offset -2.5",
    "--no-refine",
    "--box 0.2,0.1,0.8,0.9",
    "--box 0.1,0.1,0.4,0.5 --box 0.6,0.5,0.9,0.9",
    "--point 0.5,0.5",
    "--point 0.5,0.5 --not-point 0.1,0.1",
    "--guide GUIDE",
    "--refine-passes 2",
    "--high-resolution --box 0.2,0.1,0.8,0.9",
    "--matting guided",
    "--matting guided --band 6",
    *(f"--matting {method} of {TWO}" for method in ("closed-form", "lbdm", "lkm")),
    "--type trimap --band 6",
    "--objects",
    "--objects --min-object 4% --crop --crop-margin 3 --shadow ground",
    "--crop",
    "--crop --crop-margin 10% --aspect 4:5",
    "--type mask --crop --aspect square",
    "--shadow ground",
    "--shadow drop",
    "--shadow keep",
    "--shadow keep --shadow-strength 0.5",
    "--shadow ground --shadow-strength 0.8 --shadow-blur 2 --shadow-angle -30 --shadow-length 1",
    "--shadow drop --background tomato --crop",
    "--matting guided --mask-offset 1 --mask-blur 1 --threshold 0.3 --shadow drop --no-refine",
    "--outline 4% --outline-colour '#ffcc00'",
    "--outline 3 --shadow drop --crop",
    *(f"--preset {name} of {TWO}" for name in PRESETS),
    "--metadata strip of rotated.jpg",
    "--keep-profile of wide.png",
    f"--type white of {KINDS_OF_FILES}",
    "--type blur --crop of moving.gif",
    f"--type mask of {KINDS_OF_FILES}",
)
"""Options of the command, and the pictures that are cut out with them, if not all examples."""


@cache
def _inputs() -> tempfile.TemporaryDirectory[str]:
    """Small copies of the examples, and pictures of other kinds made of two of them."""
    from imaging.icc_profiles import rgb

    place = tempfile.TemporaryDirectory(prefix="golden-")
    folder = Path(place.name)
    for name in NAMES:
        with Image.open(ROOT / f"examples/{name}.jpg") as image:
            image.reduce(-(-max(image.size) // 150)).save(folder / f"{name}.png")
    cat, man = (Image.open(folder / f"{name}.png") for name in ("chelsea", "astronaut"))
    pixels = np.asarray(cat)
    low = np.arange(pixels.shape[1], dtype=np.uint16)[:, None] % 256
    cv2.imwrite(str(folder / "deep.png"), _bgr(pixels.astype(np.uint16) * 256 + low))
    cat.convert("L").save(folder / "grey.png")
    clear = np.dstack([pixels, np.resize(low.astype(np.uint8), (*pixels.shape[:2], 1))])
    Image.fromarray(clear).save(folder / "clear.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    cat.save(folder / "rotated.jpg", quality=95, exif=exif)
    cat.save(folder / "wide.png", icc_profile=rgb())
    frames = [man, man.rotate(90)]
    frames[0].save(folder / "moving.gif", save_all=True, append_images=frames[1:], duration=80)
    frames[0].save(folder / "pages.tif", save_all=True, append_images=frames[1:])
    man.rotate(180).save(folder / "SCENE.png")
    guide = np.zeros((32, 32), np.uint8)
    guide[8:28, 10:24] = 255
    Image.fromarray(guide).save(folder / "GUIDE.png")
    return place


@contextmanager
def _fixed_network() -> Iterator[None]:
    """In place of trained weights: what is bright is the subject, with soft edges."""

    def load(name: str | None = None, **_: Any) -> Predictor:
        engine = BrightEngine()
        engine.steepness = 12.0
        return Predictor(engine, VIEWS if name == "views" else PLAIN, name=name or "bright")

    with patch("birefnet.api.load", load), patch.dict(os.environ):
        os.environ.pop("BIREFNET_MODEL", None)
        yield


def removed(title: str) -> list[Golden]:
    """What the command writes with these options."""
    from typer.testing import CliRunner

    from birefnet.cli.main import app

    options, _, chosen = title.partition(" of ")
    names = chosen.split(",") if chosen else [f"{name}.png" for name in NAMES]
    folder = Path(_inputs().name)
    words = [
        str(folder / f"{word}.png") if word in ("SCENE", "GUIDE") else word
        for word in shlex.split(options)
    ]
    with tempfile.TemporaryDirectory() as out, _fixed_network():
        inputs = [str(folder / name) for name in names]
        done = CliRunner().invoke(
            app, ["remove", *inputs, "-o", out, "--manifest", "", "--jobs", "1", *words]
        )
        assert done.exit_code in (0, 1), done.output
        made = [
            Golden(title, path.name, _pixels(path))
            for path in sorted(Path(out).iterdir())
            if path.suffix != ".json"
        ]
    assert made, done.output
    return made


def _pixels(path: Path) -> ARRAY:
    """Samples as stored; frames and pages below each other, in their full size."""
    if path.suffix in (".png", ".tif", ".tiff"):
        pages = cv2.imreadmulti(str(path), flags=cv2.IMREAD_UNCHANGED)[1]
        return np.vstack([_bgr(page) for page in pages])
    with Image.open(path) as image:
        frames = []
        for number in range(getattr(image, "n_frames", 1)):
            image.seek(number)
            keeps = image.mode in ("L", "RGB", "RGBA") and getattr(image, "n_frames", 1) == 1
            frames.append(np.asarray(image if keeps else image.convert("RGBA")))
    return np.vstack(frames)


def nano_alpha() -> NDArray[np.uint8]:
    """The alpha that the bundled weights give for the small astronaut."""
    import birefnet

    alpha = birefnet.load("nano").predict(Path(_inputs().name) / "astronaut.png").alpha
    return np.rint(alpha * 255).astype(np.uint8)


# Training samples


SAMPLED = {
    "recipe nano": 24,
    "generated sources": 12,
    "everything": 12,
    "everything, binary": 4,
    "validation": 4,
}
"""What draws them, and how many."""


@cache
def _folders() -> tempfile.TemporaryDirectory[str]:
    """Pairs, cut-outs and scenes as files without loss."""
    from data_sets import make_cutouts, make_pairs, photo, save

    place = tempfile.TemporaryDirectory(prefix="golden-")
    folder = Path(place.name)
    make_pairs(folder / "photos", 6)
    make_cutouts(folder / "cutouts", 5)
    for number in range(3):
        save(folder / "scenes" / f"b{number}.png", photo(100 + number, 70, 70)[0][::-1])
    return place


def sampled(title: str) -> list[Golden]:
    """Samples by their number, picture and truth (and guidance) beside each other."""
    draw = _from_data(title)
    return [
        Golden(title, f"sample {number}", np.hstack([_rgb(part) for part in draw(number)]))
        for number in range(SAMPLED[title])
    ]


def _rgb(planes: Any) -> ARRAY:
    """C x H x W → H x W x 3."""
    pixels = np.moveaxis(np.asarray(planes), 0, 2)
    return pixels if pixels.shape[2] == 3 else np.repeat(pixels, 3, axis=2)


def _from_data(title: str) -> Callable[[int], Sequence[Any]]:
    from birefnet.training.data.dataset import build_dataset
    from birefnet.training.data.settings import (
        AugmentSettings,
        CompositeSettings,
        DataSettings,
        GuidanceSettings,
    )
    from birefnet.training.recipes import get_recipe

    folder = Path(_folders().name)
    places = {
        "sources": (f"{folder / 'photos'}=2", str(folder / "cutouts")),
        "backgrounds": (str(folder / "scenes"),),
    }
    if title == "recipe nano":
        settings = replace(get_recipe("nano").data, **places, width=64, height=64)
    elif title == "generated sources":
        settings = replace(
            get_recipe("nano").data,
            sources=("thin:40", f"{folder / 'cutouts'}=50%"),
            backgrounds=tuple(
                f"{prefix}:{folder / name}"
                for prefix, name in (("panorama", "scenes"), ("subjects-removed", "photos"))
            ),
            width=64,
            height=64,
        )
    else:
        often = dict.fromkeys(("crop", "scale", "rotate", "colour", "blur", "noise"), 0.5)
        often |= dict.fromkeys(("jpeg", "pepper", "grey"), 0.2)
        settings = DataSettings(
            **places,
            width=96,
            height=64,
            truth="binary" if "binary" in title else "soft",
            augment=AugmentSettings(**often, hue=20),
            composite=CompositeSettings(photos=0.3, empty=0.1, distractors=0.5, objects=3),
            guidance=GuidanceSettings(share=0.7),
        )
    data = build_dataset(settings, train=title != "validation", seed=7)

    def draw(number: int) -> Sequence[Any]:
        sample = data[5 * number]
        return [sample.image, sample.mask, *([] if sample.guide is None else [sample.guide])]

    return draw


KINDS: dict[str, tuple[Sequence[str], Callable[[str], list[Golden]]]] = {
    "remove_pixels": (REMOVED, removed),
    "training_samples": (tuple(SAMPLED), sampled),
}
"""Kind → the titles of its pictures, and what makes those of one title."""
