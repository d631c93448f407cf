"""The catalogue of released files: addresses, checksums, licences; looked up by name."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from birefnet.errors import UnknownModelError
from birefnet.weights.cache import HUB

if TYPE_CHECKING:
    from birefnet.imaging.geometry import Preprocess

Kind = Literal["network", "onnx", "backbone"]
Use = Literal["free", "restricted-data", "non-commercial"]
RELEASE = "https://github.com/ZhengPeng7/BiRefNet/releases/download/v1"


@dataclass(frozen=True)
class Score:
    """One reported result: the data set, its metrics by name, and who reported it."""

    dataset: str
    values: Mapping[str, float]
    source: str

    def __str__(self) -> str:
        return f"{self.dataset}: " + ", ".join(f"{k} {v:g}" for k, v in self.values.items())


@dataclass(frozen=True)
class Checkpoint:
    """One released file.

    Attributes:
        name: what users call it, as in `birefnet.load("general")`.
        title: one line on what it is for.
        task: general, matting, portrait, DIS, HRSOD, COD, anime; or the role of an ONNX file or
            backbone.
        kind: `network` is a whole BiRefNet, `onnx` an exported one whose output is logits,
            `backbone` an encoder trained on ImageNet, for training.
        preset: name of the architecture in `birefnet.network.config.PRESETS` (of a backbone: its
            name there).
        filename: of the file at its address.
        addresses: where to fetch it, best first.
        size: width and height [pixels] of the input it was trained for.
        native: trained on pictures of many sizes, so it takes each at its own.
        bytes: exact size, where known.
        sha256: lowercase hexadecimal, where known. Some are reported by third parties, for the
            exact revision that the address names.
        precision: of the stored numbers, where known.
        licence: of the weights.
        use: `free`; `restricted-data`: the weights' licence allows commercial use, but sets they
            were trained on are released for research only; `non-commercial`: the weights themselves
            are.
        data: what it was trained on.
        scores: results that its publisher reports.
        repo: id on Hugging Face, if it lies there.
        revision: of `repo`.
        gated: the publisher asks for an account and the acceptance of terms (set HF_TOKEN).
        onnx: name of the entry that holds the same network as an ONNX file, where its own file name
            does not tell.
        aliases: other names that find it.
    """

    name: str
    title: str
    task: str
    kind: Kind
    preset: str
    filename: str
    addresses: tuple[str, ...]
    size: tuple[int, int] = (1024, 1024)
    native: bool = False
    bytes: int | None = None
    sha256: str | None = None
    precision: Literal["fp16", "fp32"] | None = None
    licence: str = "MIT"
    use: Use = "restricted-data"
    data: str = ""
    scores: tuple[Score, ...] = ()
    repo: str | None = None
    revision: str = "main"
    gated: bool = False
    onnx: str | None = None
    aliases: tuple[str, ...] = ()

    @property
    def parameters(self) -> int | None:
        """Number of trained parameters."""
        return PARAMETERS.get(self.preset) if self.kind != "backbone" else None

    @property
    def approximate_bytes(self) -> int | None:
        """`bytes`, or what the parameters and the precision make it."""
        if self.bytes is None and self.parameters and self.precision:
            return self.parameters * (2 if self.precision == "fp16" else 4)
        return self.bytes

    @property
    def input_size(self) -> str:
        """Its input for people to read: `1024x1024`, or `native, 256-2304`."""
        if self.native:
            return "native, 256-2304"
        return f"{self.size[0]}x{self.size[1]}"

    @property
    def preprocess(self) -> Preprocess:
        """How a picture becomes its input: as in training, stretched, ImageNet statistics."""
        from birefnet.imaging.geometry import Preprocess  # OpenCV, which a list does not need

        width, height = self.size
        return Preprocess(width=width, height=height, fit="native" if self.native else "stretch")


# Trained parameters by architecture, without buffers (a test counts them).
PARAMETERS: Mapping[str, int] = MappingProxyType(
    {"swin_v1_l": 220_176_498, "swin_v1_t": 44_313_720}
)


def _entries() -> Iterator[Checkpoint]:
    """The checkpoints of catalogue.toml in their order."""
    groups = tomllib.loads(Path(__file__).with_name("catalogue.toml").read_text(encoding="utf-8"))
    sets: dict[str, str] = groups["data"]
    for values in groups["hub"]:
        folder = f"{HUB}/{values['repo']}/resolve/{values.get('revision', 'main')}"
        yield _entry(sets, f"{folder}/{values.pop('filename', 'model.safetensors')}", **values)
    for values in groups["release"]:
        name = PurePosixPath(values["filename"]).stem
        yield _entry(sets, f"{RELEASE}/{values.pop('filename')}", name=name, **values)
    for values in groups["onnx"]:
        name = values.pop("filename")
        title = "official ONNX export (opset 17)"
        yield _entry(sets, f"{RELEASE}/{name}", name=name, title=title, kind="onnx", **values)
    for values in groups["backbone"]:
        preset = values["preset"]
        title = f"{preset} trained on ImageNet, to start training from"
        about = {"name": f"backbone-{preset}", "title": title, "data": "{imagenet}"}
        yield _entry(
            sets, values.pop("address"), task="backbone", kind="backbone", **about, **values
        )


def _entry(sets: Mapping[str, str], address: str, **values: Any) -> Checkpoint:
    scores = [
        Score(score.pop("dataset"), score, score.pop("source", "official model zoo"))
        for score in values.pop("scores", ())
    ]
    return Checkpoint(
        **{
            "kind": "network",
            "preset": "swin_v1_l",
            "filename": address.rpartition("/")[2],
            "addresses": (address,),
            **values,
            "data": values.get("data", "").format(**sets),
            "size": tuple(values.get("size", (1024, 1024))),
            "scores": tuple(scores),
            "aliases": tuple(values.get("aliases", ())),
        }
    )


CHECKPOINTS: Mapping[str, Checkpoint] = MappingProxyType({one.name: one for one in _entries()})


def _names(checkpoint: Checkpoint) -> Iterator[str]:
    yield checkpoint.name
    yield from checkpoint.aliases
    if checkpoint.repo:
        yield checkpoint.repo
        yield checkpoint.repo.rpartition("/")[2]
    if checkpoint.filename != "model.safetensors":
        yield checkpoint.filename
        yield PurePosixPath(checkpoint.filename).stem


_INDEX: dict[str, Checkpoint] = {}
for _checkpoint in CHECKPOINTS.values():
    for _name in _names(_checkpoint):
        _INDEX.setdefault(_name.lower(), _checkpoint)


def lookup(name: str) -> Checkpoint | None:
    """The checkpoint that `name` means, or `None`.

    Takes names, aliases, Hugging Face ids and the file names of releases, in any case of letters.
    """
    return _INDEX.get(name.lower())


def onnx_of(checkpoint: Checkpoint) -> Checkpoint | None:
    """The published ONNX file of the same network; of such a file, itself."""
    if checkpoint.kind == "onnx":
        return checkpoint
    return CHECKPOINTS.get(checkpoint.onnx or f"{PurePosixPath(checkpoint.filename).stem}.onnx")


def find(name: str, others: Sequence[str] = ()) -> Checkpoint:
    """As `lookup`, but an unknown name is a `WeightsError` that lists what is near.

    `others` are names that are known besides those of the catalogue.
    """
    checkpoint = lookup(name)
    if checkpoint is None:
        raise unknown_name(name, others)
    return checkpoint


def unknown_name(name: str, others: Sequence[str] = ()) -> UnknownModelError:
    """The sentence for a name that nothing has."""
    near = difflib.get_close_matches(name.lower(), [*others, *_INDEX], n=3, cutoff=0.5)
    short = [*others, *(c.name for c in CHECKPOINTS.values() if c.kind == "network" and c.repo)]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(short)}"
    return UnknownModelError(f"no model is called {name!r}; {hint} (all: `birefnet models list`)")
