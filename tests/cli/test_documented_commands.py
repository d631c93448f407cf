"""Every `birefnet …` line of a shell block in the documents runs, page by page and in its order.

The files that a page names are small ones of their kind, and every model is the smallest network.
"""

from __future__ import annotations

import re
import shlex
import shutil
import time
from collections.abc import Callable
from dataclasses import replace
from glob import glob
from pathlib import Path

import pytest
from PIL import Image

from birefnet.imaging.geometry import Preprocess
from birefnet.network.build import build_network
from birefnet.network.config import preset
from birefnet.weights.save import save_directory, save_file
from data_sets import make_backgrounds, make_cutouts, photo, save
from fakes import disc, write_animation
from pages import DOCS, ROOT, commands

PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))] if DOCS.exists() else []

pytestmark = pytest.mark.skipif(not DOCS.exists(), reason="installed without its repository")

NOT_HERE = {
    "birefnet train": "docs/test_training_pages",
    "birefnet data": "docs/test_training_pages",
    "accelerate launch": "docs/test_training_pages",
    "torchrun": "docs/test_training_pages",
    "birefnet reproduce": "test_reproduce",
    "birefnet remove s3://": "needs a store; test_folders reads and writes URLs",
    "birefnet remove catalogue -o cutouts --engine ray": "integrations/test_ray",
    "birefnet remove shop.parquet": "integrations/test_ray",
    "birefnet remove 'shards/000.tar'": "integrations/test_ray",
    "birefnet video 0": "needs a camera",
    "birefnet remove photos -o out --device cuda": "needs a GPU",
    "birefnet models convert MY_NETWORK": "needs Swin-L; integrations/comfyui converts",
    "birefnet export nano -o nano-int8.xml": "takes 20 s; test_preprocessing_travels exports so",
    "birefnet serve --also all --engine torch --device cuda": "needs a GPU",
}
MODELS = {
    "nano",
    "general",
    "lite",
    "swin_v1_t",
    "runs/mine/best",
    "runs/cracks/best",
    "runs/guided/last",
}
EXTRAS = {
    "video": ("av",), "serve": ("fastapi",), "ui": ("gradio",), "explain": ("matplotlib",),
    "export": ("onnx", "onnxruntime", "openvino"),
    "bench": ("openvino", "onnxruntime"),
}  # fmt: skip


COMMANDS = {page: commands(page.read_text(encoding="utf-8")) for page in PAGES}
WITH_COMMANDS = [page for page in PAGES if COMMANDS[page]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the pages name: pictures, films, folders, sets and a model."""
    root = tmp_path_factory.mktemp("files")
    examples = root / "examples"
    for path in (ROOT / "examples").glob("*.jpg"):
        with Image.open(path) as image:
            image.thumbnail((96, 96))
            examples.mkdir(exist_ok=True)
            image.save(examples / path.name)
    for name in ("photo", "holiday", "beach", "table", "shelf", "astronaut"):
        shutil.copy(examples / "astronaut.jpg", root / f"{name}.jpg")
    Image.fromarray(disc(960, 720)).save(root / "street.jpg")  # boxes are given in pixels
    Image.fromarray(disc()).save(root / "poster.tif")
    Image.fromarray(disc()[..., 0]).save(root / "scribble.png")
    write_animation(root / "dancing.gif")
    write_animation(root / "cat.gif")
    for folder in ("photos", "catalogue", "inbox", "PICTURES", "PHOTOS", "shots", "shots/more"):
        for number in range(2):
            target = root / folder / f"{number}.jpg"
            target.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(disc(subject=200 + 20 * number)).save(target)
            if folder == "shots":
                Image.fromarray(disc(subject=200 + 20 * number)).save(target.with_suffix(".png"))
    sets = (
        "DIS5K/DIS-TR", "DIS5K/DIS-TE1", "data/DIS5K/DIS-VD", "DIS-TR", "DIS-VD", "COD10K-TR",
        "MY_PICTURES", "my_pictures", "own", "street", "DUTS-TR", "EIGHT", "cracks", "cracks-test",
    )  # fmt: skip
    for index, name in enumerate(sets):
        for number in range(12 if name == "data/DIS5K/DIS-VD" else 3):
            rgb, truth = photo(100 * index + number)
            save(root / name / "im" / f"{number:04}.jpg", rgb)
            save(root / name / "gt" / f"{number:04}.png", truth)
    for method in ("mine", "a", "b"):
        shutil.copytree(root / "data/DIS5K/DIS-VD/gt", root / "results" / method)
    make_cutouts(root / "CUTOUTS", 3)
    make_backgrounds(root / "SCENES", 2)
    page = (ROOT / "docs/remove.md").read_text(encoding="utf-8")
    (root / "own.toml").write_text(page.split("```toml\n")[1].split("```")[0])
    (root / "keys.txt").write_text("0123456789abcdef\n")
    shutil.copy(root / "photo.jpg", root / "PICTURE")
    tiny = build_network("tiny").eval()
    for name in ("tiny", "MY_NETWORK"):
        save_directory(root / name, tiny, Preprocess(64, 64), name=name)
    added = build_network(replace(preset("tiny"), image_pyramid="add")).eval()
    save_file(root / "mine.pth", added, layout="pth")
    return root


@pytest.fixture
def place(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the files to work in, and the smallest network under every name."""
    work = tmp_path / "work"
    shutil.copytree(files, work)
    monkeypatch.chdir(work)
    monkeypatch.setenv("BIREFNET_OFFLINE", "1")
    monkeypatch.setenv("BIREFNET_MODEL", str(files / "tiny"))
    monkeypatch.setenv("BIREFNET_CACHE", str(files / "cache"))  # one graph for all pages
    weights = files / "tiny" / "model.safetensors"
    monkeypatch.setattr("birefnet.weights.obtain.fetch", lambda *a, **k: weights)
    monkeypatch.setattr("birefnet.weights.obtain.cached", lambda *a, **k: weights)
    monkeypatch.setattr("birefnet.weights.download.fetch", lambda *a, **k: weights)
    return work


def served(app: object, *_: object, **__: object) -> None:
    """In place of waiting for requests: the server starts, answers one, and ends."""
    from fastapi.testclient import TestClient

    with TestClient(app, base_url="http://127.0.0.1") as client:  # type: ignore[arg-type]
        assert client.get("/health").status_code == 200


def interrupt(_: float) -> None:
    """In place of waiting for what comes later."""
    raise KeyboardInterrupt


@pytest.fixture
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """Servers end after their start."""
    monkeypatch.setattr("webbrowser.open", lambda url: None)
    monkeypatch.setattr("socketserver.BaseServer.serve_forever", lambda self: interrupt(0))
    try:
        from birefnet.serving import running
    except ImportError:
        return
    bind = running.bind
    monkeypatch.setattr(running, "bind", lambda host, port: bind("127.0.0.1", 0))
    monkeypatch.setattr(running, "run", served)


def clip(path: Path) -> None:
    clips = pytest.importorskip("video.clips")
    clips.write_clip(path, frames=6)


def parts_of(line: str) -> tuple[list[str], dict[str, str], str | None, str | None]:
    """Words, environment, and the files that are read and written by the shell."""
    words = shlex.split(line, comments=True)
    environment = {}
    while "=" in words[0]:
        name, _, value = words.pop(0).partition("=")
        environment[name] = "fedcba9876543210" if value.startswith("$") else value
    source = target = None
    kept: list[str] = []
    rest = iter(words[1:])
    for word in rest:
        if word == "<":
            source = next(rest)
        elif word == ">":
            target = next(rest)
        elif "*" in word and f"'{word}'" not in line:
            kept += sorted(glob(word))  # as the shell does
        else:
            kept.append(word)
    return kept, environment, source, target


def smaller(words: list[str], place: Path) -> list[str]:
    """The same command with the smallest network, few sizes and short inputs."""
    tiny = str(place / "tiny")
    if words[0] != "models":
        words = [tiny if w in MODELS else re.sub(r"=(nano)$", f"={tiny}", w) for w in words]
    if words[0] == "bench":
        few = {"320": "64", "1024": "64", "fp32,bf16,int8": "fp32"}
        words = [few.get(word, word) for word in words]
        words += ["--rounds", "1", *([] if "--sizes" in words else ["--sizes", "64"])]
        words += [] if "--engines" in words else ["--engines", "torch", "--precisions", "fp32"]
    return [{"1:02.5": "0", "1:10": "0.2"}.get(word, word) for word in words]


@pytest.mark.parametrize("page", WITH_COMMANDS, ids=lambda p: p.relative_to(ROOT).as_posix())
def test_page(
    page: Path,
    place: Path,
    command: Callable,
    no_waiting: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for line in COMMANDS[page]:
        if any(line.startswith(start) for start in NOT_HERE):
            continue
        words, environment, source, target = parts_of(line)
        for package in EXTRAS.get(words[0], ()):
            pytest.importorskip(package)
        if words[0] == "video":
            for name in ("dance.mp4", "beach.mp4", "long.mkv"):
                if not (place / name).exists():
                    clip(place / name)
        with monkeypatch.context() as patch:
            for name, value in environment.items():
                patch.setenv(name, value)
            if "--watch" in words:
                patch.setattr(time, "sleep", interrupt)
            data = (place / source).read_bytes() if source else b""
            result = command(*smaller(words, place), stdin=data)
        assert result.status == 0, f"{line}\n{result.stderr}"
        if target:
            assert result.stdout
            (place / target).write_bytes(result.stdout)


def test_what_is_left_out_is_documented() -> None:
    lines = [line for page in WITH_COMMANDS for line in COMMANDS[page]]
    for start in NOT_HERE:
        assert any(line.startswith(start) for line in lines), f"no page has {start}"


def test_lines_are_found() -> None:
    assert sum(map(len, COMMANDS.values())) > 100
