"""Whatever the pages on training name has been run: commands, settings, options, sources.

The commands are those of the pages, with small pictures and few steps. What is drawn in their place
is a photo with its mask for every set that they name.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import runpy
import shlex
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import typer
from typer.testing import CliRunner, Result

pytest.importorskip("accelerate")
pytest.importorskip("yaml")

import yaml

import pages
from birefnet.cli.main import app
from birefnet.training.loss_settings import TERMS
from birefnet.training.recipe import Recipe
from data_sets import make_backgrounds, make_cutouts, photo, save
from pages import DOCS, ROOT

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="installed without its repository")

PAGES = ("training", "recipes", "finetune", "data", "guidance", "paper")
SMALL = [
    "data.width=64", "data.height=64", "schedule.batch_size=2", "schedule.accumulate=1",
    "schedule.steps=2", "loop.workers=0", "loop.trackers=none", "validation.previews=0",
]  # fmt: skip
TINY = ["network=tiny", "encoder_weights=none", *SMALL]


def flatten(values: dict[str, Any], where: str = "") -> dict[str, Any]:
    """Nested mappings → dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        whole = f"{where}.{name}".lstrip(".")
        flat |= flatten(value, whole) if isinstance(value, dict) else {whole: value}
    return flat


def dotted_names(cls: type, where: str = "") -> list[str]:
    """All fields of a tree of dataclasses by dotted name."""
    names: list[str] = []
    hints = get_type_hints(cls)
    for field in dataclasses.fields(cls):
        name, hint = f"{where}.{field.name}".lstrip("."), hints[field.name]
        names += dotted_names(hint, name) if dataclasses.is_dataclass(hint) else [name]
    return names


def invoke(*words: object) -> Result:
    return CliRunner().invoke(app, list(map(str, words)))


def train(*words: object, settings: list[str]) -> Result:
    options = [part for text in settings for part in ("--set", text)]
    return invoke("train", *words, *options, "--device", "cpu")


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos in every layout, cut-outs, and scenes without a subject."""
    root = tmp_path_factory.mktemp("drawn")
    for number in range(3):
        rgb, truth = photo(number)
        name = f"1#Things#{number}#{'Bag' if number else 'Chair'}#{number}"
        save(root / "pairs" / "im" / f"{name}.jpg", rgb)
        save(root / "pairs" / "gt" / f"{name}.png", truth)
        save(root / "beside" / f"{number}.jpg", rgb)
        save(root / "beside" / f"{number}_mask.png", truth)
        save(root / "other" / "im" / f"{number}.png", photo(10 + number)[0])
        save(root / "other" / "gt" / f"{number}.png", photo(10 + number)[1])
    make_cutouts(root / "cutouts", 3)
    make_backgrounds(root / "scenes", 2)
    return root


# The commands of the pages


def commands(page: str, name: str) -> list[list[str]]:
    """Words of `birefnet NAME …` in a page's shell blocks and inline, without placeholders."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    lines = pages.commands(text) + pages.inline_commands(text)
    found = [shlex.split(line, comments=True) for line in lines if f"birefnet {name} " in line]
    words = [line[line.index(name) + len(name.split()) :] for line in found]
    return [line for line in words if line and "PATH" not in "".join(line)]


TRAINED = [
    pytest.param(words, id=f"{page}-{number}")
    for page in (PAGES if DOCS.exists() else ())
    for number, words in enumerate(commands(page, "train"))
    if len(words) > 1 and "--resume" not in words  # resuming: tests/cli/test_train.py
]


def put(path: Path, drawn: Path, kind: str) -> None:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.symlink_to(drawn / kind)


def prepare(words: list[str], drawn: Path) -> None:
    """Put what a command names into the working folder."""
    for option, value in pairwise(words):
        name = Path(re.sub(r"=[\d.]+%?$", "", value))
        if option in ("--data", "--validate", "--against"):
            put(name, drawn, "cutouts" if name.name == "CUTOUTS" else "pairs")
        elif value.startswith("data.backgrounds="):
            put(Path(value.partition("=")[2]), drawn, "scenes")
        elif option == "--config":
            text = (DOCS / "recipes.md").read_text(encoding="utf-8")
            (example,) = pages.blocks(text, "yaml")
            Path(value).write_text(example, encoding="utf-8")


@pytest.mark.parametrize("words", TRAINED)
def test_commands_train(
    words: list[str], drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    prepare(words, drawn)
    words = ["nano" if word in ("general", "run/best") else word for word in words]
    if "--output" not in words and "--dry-run" not in words:
        words += ["--output", "run"]
    result = train(*words, settings=SMALL if {"nano", "finetune", "thin"} & {*words} else TINY)
    assert result.exit_code == 0, result.output
    assert "--dry-run" in words or any(tmp_path.rglob("state.pt"))


def test_a_frozen_dinov3_trains_as_the_page_says(
    drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = pytest.importorskip("timm")
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    (words,) = (line for line in commands("training", "train") if "network=dino_v3_l" in line)
    prepare(words, drawn)
    backbone = timm.create_model("vit_small_patch16_dinov3", pretrained=False)
    torch.save(backbone.state_dict(), "small.pth")
    smaller = ["network=dino_v3_s", "encoder_weights=small.pth"]
    narrow = [f"network_overrides.{part}_width=8" for part in ("block", "attention", "reference")]
    result = train(*words, settings=[*SMALL, *smaller, *narrow])
    assert result.exit_code == 0, result.output
    from birefnet.weights.checkpoint import load_checkpoint

    trained = load_checkpoint(tmp_path / "runs" / "dino" / "last").network
    kept = trained.encoder.backbone.state_dict()
    assert len(kept) > 100
    for name, value in kept.items():
        assert torch.equal(value, backbone.state_dict()[name.removeprefix("model.")]), name


@pytest.mark.parametrize("number", range(2))
def test_commands_look_at_data(
    number: int, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = [line for line in commands("data", "data") if len(line) > 1][number]
    put(Path(words[1]), drawn, "pairs")
    prepare(words, drawn)
    result = invoke("data", *words)
    written = Path(words[-1])
    assert written.stat().st_size > 1000, result.output
    assert result.exit_code == (1 if words[0] == "check" else 0)  # the sets are the same


@pytest.mark.slow
def test_two_processes_as_the_page_starts_them(drawn: Path, tmp_path: Path) -> None:
    """`torchrun … -m birefnet train`, by the module that `torchrun` is."""
    text = (DOCS / "training.md").read_text(encoding="utf-8")
    (line,) = re.findall(r"^torchrun (.*)$", text, re.MULTILINE)
    words = shlex.split(line.replace("--nproc_per_node 4", "--nproc_per_node 2"))
    (tmp_path / "DIS-TR").symlink_to(drawn / "pairs")
    words += [part for text in TINY for part in ("--set", text)]
    done = subprocess.run(
        [sys.executable, "-m", "torch.distributed.run", "--standalone", *words, "--device", "cpu"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT / "src")},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert "2 steps of 4 pictures" in done.stderr
    assert done.stderr.count("use it: birefnet remove PICTURE") == 1


def test_the_page_on_fine_tuning_from_the_first_command_to_the_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In their order, with fewer pictures and steps."""
    monkeypatch.chdir(tmp_path)
    text = (DOCS / "finetune.md").read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [
        shlex.split(line, comments=True)
        for block in pages.blocks(text, "sh")
        for line in block.splitlines()
    ]
    done = []
    for words in filter(None, lines):
        if words[0] == "python":
            at = next(i for i, word in enumerate(words) if word.isdigit())
            words[at] = str(int(words[at]) // 10)
            runpy.run_path(str(ROOT / words[1]))["main"](words[2:])
            continue
        if words[0] != "birefnet":
            continue
        small = [part for text in SMALL for part in ("--set", text)]
        small += ["--set", "schedule.epochs=1", "--set", "schedule.steps=none"]
        result = invoke(*words[1:], *(small if words[1] == "train" else []))
        # The check has something to say of so few pictures.
        assert result.exit_code == 0 or words[1:3] == ["data", "check"], result.output
        done.append(words[1])
    assert done == [
        "data", "data", "remove", "evaluate", "train", "remove", "evaluate", "export", "train"
    ]  # fmt: skip
    assert len(list(Path("after").glob("*.png"))) == 4
    assert Path("cracks.onnx").stat().st_size > 1_000_000


@pytest.mark.parametrize("page", ["training", "data"])
def test_python_of_the_pages(
    page: str, drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("MY_PICTURES", "DIS5K/DIS-TR"):
        put(Path(name), drawn, "pairs")
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    (block,) = pages.blocks(text, "python")
    few = ", ".join(f'"{setting}"' for setting in SMALL)
    exec(block.replace('"data.width=320", "data.height=320"', few).replace("512", "64"), {})
    assert page == "data" or Path("runs/mine/state.pt").exists()


# Every setting

EVERY_AUGMENTATION = [
    "data.augment.flip=1", "data.augment.flip_vertical=0.5", "data.augment.crop=1",
    "data.augment.crop_least=0.7", "data.augment.scale=1", "data.augment.scale_range=0.9,1.1",
    "data.augment.rotate=1", "data.augment.rotate_degrees=10", "data.augment.colour=1",
    "data.augment.brightness=0.1", "data.augment.contrast=0.1", "data.augment.saturation=0.1",
    "data.augment.hue=3", "data.augment.temperature=0.05", "data.augment.grey=0.5",
    "data.augment.blur=1", "data.augment.blur_radius=3", "data.augment.noise=1",
    "data.augment.noise_level=0.02", "data.augment.jpeg=1", "data.augment.jpeg_quality=50,90",
    "data.augment.pepper=1", "data.augment.pepper_share=0.01",
]  # fmt: skip
EVERY_COMPOSITE = [
    "data.composite.extent=0.4,0.9", "data.composite.objects=3", "data.composite.distractors=1",
    "data.composite.shadow=1", "data.composite.match=1", "data.composite.plain=0.5",
    "data.composite.same_colour=0.5", "data.composite.blur_background=1",
    "data.composite.soften=1", "data.composite.empty=0.2", "data.composite.photos=0.5",
    "data.composite.distractor_count=3", "data.composite.signs=0.5", "data.composite.cut_off=0.5",
    "data.composite.one_colour=0.5",
]  # fmt: skip
RUNS = {
    "optimiser": [
        "optimiser.name=sgd", "optimiser.rate=1e-3", "optimiser.encoder_factor=0.5",
        "optimiser.layer_decay=0.9", "optimiser.offset_factor=0.5",
        "optimiser.batch_scaling=linear", "optimiser.reference_batch=2",
        "optimiser.weight_decay=0.1", "optimiser.decay_vectors=true", "optimiser.momentum=0.8",
        "schedule.steps=none", "schedule.epochs=2", "schedule.batch_size=2",
        "schedule.accumulate=2", "schedule.warmup=1", "schedule.shape=step",
        "schedule.milestones=-1", "schedule.step_factor=0.5", "schedule.ema=0.9",
        "loop.precision=bf16", "loop.channels_last=false", "loop.checkpoint_activations=true",
        "loop.batch_norm=frozen", "loop.frozen_encoder_norms=true", "loop.clip=0", "loop.seed=3",
        "loop.deterministic=true", "loop.save_every=1", "loop.save_minutes=0",
        "loop.log_every=1", "loop.trackers=tensorboard",
    ],
    "losses": [
        "optimiser.name=adam", "optimiser.betas=0.8,0.99", "optimiser.batch_scaling=sqrt",
        "schedule.shape=cosine", "schedule.last_factor=0.1", "loop.precision=fp32",
        "network_overrides.auxiliary_classes=2", "data.classes=dis5k",
        *(f"loss.{name}=1" for name in TERMS),
        "loss.adversarial_discriminator=1", "loss.adversarial_every=1", "loss.coarse=0.5",
        "loss.coarse_terms=bce,iou", "loss.gradient_label=official",
        "loss.gradient_detached=false", "loss.ssim_halved=false", "loss.iou_summed=true",
        "loss.phases=[]", "loop.frozen_encoder=true", "loop.frozen_blocks=2",
    ],
    "data": [
        "optimiser.name=adamw", "optimiser.batch_scaling=none", "schedule.shape=constant",
        "loop.precision=auto", "loop.batch_norm=train", "loss.gradient_label=paper",
        "data.sources=pairs,cutouts,thin:3", "data.truth=binary",
        "data.backgrounds=scenes,panorama:scenes,subjects-removed:pairs",
        "data.dynamic_width=64,96", "data.dynamic_height=64,96", "data.epoch_length=4",
        "data.held_out=0.3", "data.cache=1M", "data.longest=64", "loop.workers=1",
        *EVERY_AUGMENTATION, *EVERY_COMPOSITE,
    ],
    "guidance": [
        "network_overrides.guidance_channel=true", "optimiser.guidance_factor=10",
        "data.truth=soft",
        "data.guidance.share=0.9", "data.guidance.box=2", "data.guidance.points=1",
        "data.guidance.scribble=1", "data.guidance.mask=0.5", "data.guidance.others=1",
        "data.sources=cutouts", "data.backgrounds=scenes",
    ],
    "validation": [
        "network=none", "init=nano", "encoder_weights=none", "data.width=96", "data.height=64",
        "validation.data=other,pairs", "validation.every=1", "validation.metrics=dis,iou",
        "validation.best_by=mae", "validation.pictures=2", "validation.previews=2",
    ],
}  # fmt: skip
ON_A_GPU = {"loop.precision=fp16", "loop.batch_norm=synchronised"}
NO_SETTINGS = ("name", "variant", "task", "about.")


@pytest.mark.parametrize("settings", RUNS.values(), ids=RUNS.keys())
def test_every_setting_trains(
    settings: list[str], drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drawn)
    run = tmp_path / "run"
    recipe = "finetune" if "init=nano" in settings else "cod"
    given = any(setting.startswith("data.sources=") for setting in settings)
    words = ["--recipe", recipe, *([] if given else ["--data", "pairs"]), "--output", run]
    result = train(*words, settings=[*TINY, *settings])
    assert result.exit_code == 0, result.output
    saved = flatten(yaml.safe_load((run / "recipe.yaml").read_text()))
    for setting in settings:
        name, _, text = setting.partition("=")
        if text in ("true", "false") and not name.startswith("network_overrides."):
            assert saved[name] is (text == "true")


@pytest.mark.slow
def test_a_compiled_network_trains(drawn: Path, tmp_path: Path) -> None:
    words = ["--recipe", "cod", "--data", drawn / "pairs", "--output", tmp_path / "run"]
    settings = [*TINY, "loop.compile=true"]
    both = train(*words, settings=settings)
    assert "compile and checkpoint_activations do not go together" in str(both.exception)
    result = train(*words, settings=[*settings, "loop.checkpoint_activations=false"])
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize("setting", sorted(ON_A_GPU))
def test_settings_of_gpus_are_refused_on_a_cpu(setting: str, drawn: Path, tmp_path: Path) -> None:
    words = ["--recipe", "cod", "--data", drawn / "pairs", "--output", tmp_path / "run"]
    result = train(*words, settings=[*TINY, setting])
    assert result.exit_code != 0
    assert setting.partition("=")[2] in str(result.exception)
    assert not (tmp_path / "run").exists()


def choices(kind: Any, where: str = "") -> Iterator[str]:
    """`NAME=CHOICE` for every setting with a fixed choice."""
    hints = get_type_hints(kind)
    for field in dataclasses.fields(kind):
        hint, name = hints[field.name], f"{where}{field.name}"
        if dataclasses.is_dataclass(hint):
            yield from choices(hint, f"{name}.")
        elif get_origin(hint) is Literal:
            yield from (f"{name}={choice}" for choice in get_args(hint))


def test_no_setting_is_left_out() -> None:
    run = {setting for settings in (*RUNS.values(), TINY) for setting in settings}
    run |= ON_A_GPU | {"loop.compile=true"}
    names = {setting.partition("=")[0] for setting in run}
    names |= {name.partition(".")[0] for name in names}
    known = [name for name in dotted_names(Recipe) if not name.startswith(NO_SETTINGS)]
    assert [name for name in known if name not in names] == []
    given = [choice for choice in choices(Recipe) if not choice.startswith(NO_SETTINGS)]
    assert [choice for choice in given if choice not in run] == []


# Every option and every source

OPTIONS = [
    "train --list",
    "train --recipe cod --variant paper --data pairs=2 --data other=20% --replay beside=10% "
    "--validate other --validate pairs --output RUN --freeze-encoder --no-check-memory TINY",
    "train --resume --output RUN --set schedule.steps=3 --device cpu",
    "train --recipe finetune --init nano --data cutouts --replay pairs --validate none "
    "--output RUN2 --check-memory SMALL",
    "train --config RUN/recipe.yaml --data pairs --output RUN3 --dry-run TINY",
    "data check pairs other --against beside --task matting --smallest 32 --ignore empty "
    "--ignore binary-matte --sheet RUN.html --all --jobs 1",
    "data check pairs --smallest 32 --sheet RUN.png --json --jobs 2",
    "data preview pairs cutouts --background scenes --recipe general:official "
    "--set data.augment.rotate=0.5 --count 6 --size 64 --seed 4 --output RUN.png",
]


@pytest.fixture(scope="module")
def stores(drawn: Path) -> list[str]:
    """Every way of the page to give a set."""
    datasets = pytest.importorskip("datasets")
    pytest.importorskip("braceexpand")
    files = sorted((drawn / "pairs" / "im").iterdir())
    masks = sorted((drawn / "pairs" / "gt").iterdir())
    columns = {"image": list(map(str, files)), "mask": list(map(str, masks))}
    features = datasets.Features({"image": datasets.Image(), "mask": datasets.Image()})
    table = datasets.Dataset.from_dict(columns, features=features)
    datasets.DatasetDict({"train": table}).save_to_disk(str(drawn / "hub"))
    for shard in range(2):
        with tarfile.open(drawn / f"00{shard}.tar", "w") as archive:
            archive.add(files[shard], f"{shard}.jpg")
            archive.add(masks[shard], f"{shard}.png")
    return [
        "pairs", "pairs/im", "pairs/im::pairs/gt", "beside", "cutouts",
        "hf:hub:train?image=image&mask=mask", "wds:{000..001}.tar?image=jpg&mask=png",
    ]  # fmt: skip


def test_every_source_is_checked_shown_and_trained_on(
    stores: list[str], drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drawn)
    options = ["--background", "scenes", "--size", 32, "--count", 30, "-o", tmp_path / "a.png"]
    shown = invoke("data", "preview", *stores, *options)
    assert shown.exit_code == 0, shown.output
    checked = invoke("data", "check", *stores, "--json", "--jobs", 1)
    assert checked.exit_code == 1, checked.output  # they hold the same pictures
    counts = {one["path"]: one["count"] for one in json.loads(checked.stdout)["sets"]}
    assert sorted(counts.values()) == [2, 3, 3, 3, 3, 3, 3]
    words = [word for source in stores for word in ("--data", source)]
    settings = [*TINY, "data.backgrounds=scenes"]
    words += ["--recipe", "cod", "--validate", "none", "--output", str(tmp_path / "run")]
    result = train(*words, settings=settings)
    assert result.exit_code == 0, result.output
    assert "20 pictures an epoch" in result.stderr or "21 pictures" in result.stderr


def test_every_option_runs(drawn: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(drawn)
    for line in OPTIONS:
        words = line.replace("RUN", str(tmp_path / "run")).split()
        for name, settings in (("TINY", TINY), ("SMALL", SMALL)):
            if name in words:
                words.remove(name)
                words += [part for text in settings for part in ("--set", text)]
                words += ["--device", "cpu"]
        result = invoke(*words)
        findings = words[1] == "check" and "[" in result.output
        assert result.exit_code == 0 or findings, f"{line}\n{result.output}"


def test_no_option_is_left_out() -> None:
    given = {word for line in OPTIONS for word in line.split() if word.startswith("--")}
    root: Any = typer.main.get_command(app)
    data = root.commands["data"].commands
    for command in (root.commands["train"], data["check"], data["preview"]):
        known = {max(param.opts, key=len) for param in command.params if param.opts[0][0] == "-"}
        assert known <= given | {"--help", "--set", "--device"}, command.name
